#!lua name=pointsman_limits_v1
-- revision 6: raised with every change, so that of two replicas' libraries the newer one stays.
--
-- The limiter: every dimension of an admission is evaluated, then all are written, or none.
--
-- Numbers. Lua has doubles only, so every integer here stays below 2^53. Time: milliseconds of this server; buckets
-- count ticks of 10 ms. A bucket's level is an integer of 1/P units, P ticks per period, so that one tick refills
-- exactly `limit` of them and nothing is ever rounded. With capacity <= 10^10 and P <= 360000 (an hour) the widest
-- distance, from full to the deepest debt, is 7.2e15 < 2^53.
--
-- Buckets and refunds. `level` is charged at admission. What a reservation did not use comes back only as far as it
-- was not refilled meanwhile: `held` is what may still be refunded to all open reservations together, and level +
-- held never exceeds capacity. Refill that would exceed it spills; the spill shrinks every open claim by the same
-- share (`index`, as shares of a pool do; `generation` changes when it all spilled). So in any stretch of time, what
-- was used of what was admitted in it is at most capacity + refill, refunds included. Debt is at most one capacity.
--
-- Calendar windows. The caller passes the bounds of two windows; this server's clock picks. A refund or correction
-- reaches only the window its reservation was made in.
--
-- Reservations and leases are one thing: a record with one slice per dimension, found by its id. It expires through
-- the sorted set `due`, a bounded batch at each call: concurrency is released; money and quotas are posted at the
-- estimate as uncertain; bucket capacity counts as used. A late close, within an hour, corrects the quotas. Idle
-- dimensions (full, over or empty) are in a set of their own, which only `beat` looks at: no admission waits while
-- others are forgotten, nor searches among them.
--
-- Clock. It never goes back behind `floor`, its high-water mark as of the last `beat`, nor a dimension
-- behind its own last change. A clock that was far ahead and is set right begins a new life rather than stand still.
--
-- Lives. `lives` exists in this process's memory only: after a restart, failover or slot migration it is empty, and
-- every call answers E until `begin` has decided whether writes may have been lost. If so, the epoch changes: buckets
-- are empty as of `born` and refill from there, concurrency admits nothing for `learn` ms (until slices of the old
-- life are dead), and calendar windows that began before `born` ask for a seed (S) before they admit. It holds epochs,
-- which are unique, and not one for each key: this memory is the server's, a key is one of its numbered database's, and
-- the same key in two databases is two limiters.
--
-- KEYS: meta, due, then as each function says. All share one hash tag; keys read from a record share it too.
-- Answers begin with one letter: E epoch, V version, W window bounds, S seed, D denied, G granted, R repeated,
-- X id used otherwise, C closed, U unknown, F foreign, O done, B done differently. Numbers are packed doubles.

local TICK = 10
local NEVER = 9007199254740992
local COUNTER_MAX = 4503599627370496 -- 2^52
local KEEP_SETTLED = 300000 -- ms a settled record answers repeats
local KEEP_EXPIRED = 3600000 -- ms an expired record, or a window that is over, can still be corrected
local REST = 60000 -- ms an idle dimension is kept
local BATCH = 16 -- records expired by one admission at most
local AUDIT_LENGTH = 10000
local SET_BACK = 60000 -- ms behind `floor`: not jitter, the clock was wrong and is right now; a new life begins

local META = '<ddddd' -- due, version, born, floor, learn; then the epoch
local BUCKET = '<dddddddddd' -- level, held, index, generation, tick, outstanding, capacity, limit, P, taken
local CALENDAR = '<dddddd' -- start, finish, posted, outstanding, uncertain, life
local COUNT = '<d' -- outstanding
local HEAD = '<ddddd' -- state (0 open, 1 settled, 2 cancelled, 3 expired), due, slices, ttl, numbers per slice
local HEAD_SIZE = 40
local ARGS_HEAD = 32 -- bytes before the dimensions in the arguments of admit
local DIM = 10 -- kind, unit, shadow, limit, capacity, p1, p2, p3, need, want
local DIM_SIZE = 80
local DIM_FORMAT = '<dddddddddd'
-- A record: HEAD; the dimensions as they were asked for, verbatim; per slice FRESH numbers (amount, claim a, claim b) and,
-- once anything changed, three more (used, overrun, state); holder, print and keys, one a line.
-- Claims: a bucket's index and generation; a window's start and the amount posted as uncertain.
local FRESH, CHANGED = 3, 6
-- A slice unpacked: kind, unit, amount, used, overrun, state (0 open, 1 closed, 2 expired), claim a, claim b, limit,
-- capacity (of a window: its finish), P
local SLICE = 11

-- The library is loaded without these; `begin` finds them.
local call, pack, read_doubles, floor, ceil, max

local lives = {} -- epoch → true while it lasts
local formats = {}

local function doubles(n)
  local format = formats[n]
  if not format then
    format = '<' .. string.rep('d', n)
    formats[n] = format
  end
  return format
end

local function time_of(given)
  if given ~= 0 then return given end
  local time = call('TIME')
  return time[1] * 1000 + floor(time[2] / 1000)
end

-- nil and an answer, or the meta as a table with `now`.
local function open(blob, epoch, given)
  if not blob then return nil, 'E' end
  local due, version, born, floor_ms, learn = read_doubles(META, blob)
  local stored = string.sub(blob, 41)
  if not lives[stored] then return nil, 'E' end
  if epoch and epoch ~= stored then return nil, 'E' .. stored end
  local now = time_of(given)
  if now < floor_ms then
    if now < floor_ms - SET_BACK then
      lives[stored] = nil
      return nil, 'E'
    end
    now = floor_ms
  end
  return { due = due, version = version, born = born, floor = floor_ms, learn = learn, epoch = stored, now = now }
end

local function meta_blob(m)
  return pack(META, m.due, m.version, m.born, m.floor, m.learn) .. m.epoch
end

-- level, held, index, generation, outstanding, taken, tick as of `tick`.
local function bucket(s, limit, capacity, P, tick, born)
  local cap = capacity * P
  if not s then
    local level = born == 0 and cap or limit * (tick - born)
    return level < cap and level or cap, 0, 1, tick, 0, 0, tick
  end
  local level, held, index, gen, t, out, capacity0, limit0, _, taken = read_doubles(BUCKET, s)
  if capacity0 ~= capacity then level = level + (capacity - capacity0) * P end
  if t < born or t > tick + 2 * SET_BACK / TICK then
    if level > 0 then level = 0 end
    held, index, gen, t = 0, 1, tick, born
  end
  local ticks = tick - t
  if ticks > 0 then
    t = tick
    local gain = ticks * limit0
    if gain >= cap - level then
      level = cap
      if held > 0 then held, index, gen = 0, 1, tick end
    else
      level = level + gain
      local spill = level + held - cap
      if spill > 0 and held > 0 then
        index = index * (1 - spill / held)
        held = held - spill
        if index < 1e-100 then held, index, gen = 0, 1, tick end
      end
    end
  end
  return level, held, index, gen, out, taken, t
end

-- start, finish, posted, outstanding, uncertain of the window that holds now; nil and W or S.
local function window(s, w0, w1, w2, now, born)
  local start, finish
  if now < w1 then start, finish = w0, w1 else start, finish = w1, w2 end
  if now >= w2 then return nil, 'W' end
  if not s then
    if now < w0 then return nil, 'W' end
    if start < born then return nil, 'S' end
    return start, finish, 0, 0, 0
  end
  local start0, finish0, posted, out, uncertain, life = read_doubles(CALENDAR, s)
  if now >= finish0 and start > start0 then
    if now < w0 then return nil, 'W' end
    if start < born then return nil, 'S' end
    return start, finish, 0, 0, 0
  end
  if life ~= born then return nil, 'S' end
  return start0, finish0, posted, out, uncertain
end

-- One slice of a record changes: mode 0 report, 1 close, 2 expire. Changes r in place; gives the new state or nil.
local function post(r, o, s, mode, used, overrun, now, born)
  local kind, amount, used0, overrun0, state = r[o + 1], r[o + 3], r[o + 4], r[o + 5], r[o + 6]
  if mode == 2 then used, overrun = used0, overrun0 end
  if used > amount then used, overrun = amount, overrun + used - amount end
  if state == 2 and mode == 0 then return nil end
  if mode == 0 and state == 0 then
    if used < used0 then used = used0 end
    if overrun < overrun0 then overrun = overrun0 end
  end
  local more = overrun - overrun0
  if state == 1 then
    more = used + overrun - used0 - overrun0
    if more <= 0 then return nil end
    used, overrun = used0, overrun0 + more
  end
  local was_open = state == 0
  r[o + 4], r[o + 5] = used, overrun
  if mode == 1 or state == 1 then r[o + 6] = 1 elseif mode == 2 then r[o + 6] = 2 end
  if kind == 1 then
    local limit, capacity, P = r[o + 9], r[o + 10], r[o + 11]
    if s then
      capacity, limit = read_doubles('<dd', s, 49)
    elseif more == 0 then
      return nil
    end
    local level, held, index, gen, out, taken, t =
      bucket(s, limit, capacity, P, floor(now / TICK), ceil(born / TICK))
    if was_open and mode > 0 then
      out = out > amount and out - amount or 0
      if gen == r[o + 8] then
        local share = index / r[o + 7]
        if share > 1 then share = 1 end
        local claim = floor(amount * P * share)
        if claim > held then claim = held end
        held = held - claim
        if mode == 1 then
          local refund = floor((amount - used) * P * share)
          level = level + (refund > claim and claim or refund)
        end
      end
      if mode == 1 then taken = taken - amount + used end
    end
    if more > 0 then
      local deepest = -capacity * P
      if level < deepest then deepest = level end
      level = level - more * P
      if level < deepest then level = deepest end
    end
    taken = taken + more
    if taken < 0 or taken > COUNTER_MAX then taken = 0 end
    return pack(BUCKET, level, held, index, gen, t, out, capacity, limit, P, taken)
  elseif kind == 2 then
    local start, finish, posted, out, uncertain, life = r[o + 7], r[o + 10], 0, 0, 0, born
    -- A claim on nothing writes no window, so what is there may still be the one before.
    if s and read_doubles('<d', s) >= start then
      start, finish, posted, out, uncertain, life = read_doubles(CALENDAR, s)
    elseif more <= 0 or now >= finish or start < born then
      return nil
    end
    if start ~= r[o + 7] then return nil end
    if state == 0 then
      posted = posted + used - used0 + more
      if mode == 0 then out = out - (used - used0) else out = out - (amount - used0) end
      if mode == 2 then
        r[o + 8] = amount - used0
        posted, uncertain = posted + amount - used0, uncertain + amount - used0
      end
    elseif state == 2 then
      posted = posted + used - used0 - r[o + 8] + more
      uncertain = uncertain - r[o + 8]
    else
      posted = posted + more
    end
    if posted > COUNTER_MAX then posted = COUNTER_MAX end
    if posted < 0 then posted = 0 end
    if out < 0 then out = 0 end
    if uncertain < 0 then uncertain = 0 end
    return pack(CALENDAR, start, finish, posted, out, uncertain, life)
  end
  if not s or not was_open or mode == 0 then return nil end
  local out = read_doubles(COUNT, s) - amount
  return pack(COUNT, out < 0 and 0 or out)
end

local function idle_key(due_key) return due_key .. ':idle' end

-- When a dimension's key may be forgotten, at the earliest: a minute of rest, so that busy limits are not made and
-- deleted all the time.
local function idle_at(kind, s, now)
  if kind == 1 then
    local level, _, _, _, _, _, capacity, limit, P = read_doubles(BUCKET, s)
    if limit == 0 then return now + KEEP_EXPIRED end
    return now + REST + ceil((capacity * P - level) / limit) * TICK
  elseif kind == 2 then
    local _, finish = read_doubles('<dd', s)
    return finish + KEEP_EXPIRED
  end
  return now + REST
end

-- state, due, ttl, r (SLICE numbers per slice), slices, tail (what follows the numbers), dimensions' bytes
local function record_parts(blob)
  local state, due, n, ttl, width = read_doubles(HEAD, blob)
  local first = HEAD_SIZE + n * DIM_SIZE
  local own = { read_doubles(doubles(n * width), blob, first + 1) }
  local r = {}
  for i = 1, n do
    local kind, unit, _, limit, capacity, p1, p2, p3 = read_doubles(DIM_FORMAT, blob, HEAD_SIZE + (i - 1) * DIM_SIZE + 1)
    local o, w = (i - 1) * SLICE, (i - 1) * width
    r[o + 1], r[o + 2], r[o + 3], r[o + 7], r[o + 8] = kind, unit, own[w + 1], own[w + 2], own[w + 3]
    if width == CHANGED then
      r[o + 4], r[o + 5], r[o + 6] = own[w + 4], own[w + 5], own[w + 6]
    else
      r[o + 4], r[o + 5], r[o + 6] = 0, 0, 0
    end
    if kind == 2 then capacity = own[w + 2] == p2 and p3 or p2 end
    r[o + 9], r[o + 10], r[o + 11] = limit, capacity, p1
  end
  return state, due, ttl, r, n, string.sub(blob, first + n * width * 8 + 1), string.sub(blob, HEAD_SIZE + 1, first)
end

local function record_blob(state, due, ttl, r, n, tail, dims)
  local own = {}
  for i = 1, n do
    local o, w = (i - 1) * SLICE, (i - 1) * CHANGED
    own[w + 1], own[w + 2], own[w + 3] = r[o + 3], r[o + 7], r[o + 8]
    own[w + 4], own[w + 5], own[w + 6] = r[o + 4], r[o + 5], r[o + 6]
  end
  return pack(HEAD, state, due, n, ttl, CHANGED) .. dims .. pack(doubles(n * CHANGED), unpack(own)) .. tail
end

-- holder, print, keys
local function tail_parts(tail)
  local holder, print_, rest = string.match(tail, '^([^\n]*)\n([^\n]*)\n(.*)$')
  local keys = {}
  for key in string.gmatch(rest, '[^\n]+') do keys[#keys + 1] = key end
  return holder, print_, keys
end

-- Posts changes of slices: changes[i] = {mode, used, overrun}. Returns the number of slices still open.
local function post_all(m, due_key, r, n, keys, changes, now)
  if n == 0 then return 0 end
  local states = call('MGET', unpack(keys))
  local open_left = 0
  for i = 1, n do
    local o, change = (i - 1) * SLICE, changes[i]
    if change then
      local s = post(r, o, states[i], change[1], change[2], change[3], now, m.born)
      if s then
        call('SET', keys[i], s)
        if not states[i] then
          call('ZADD', idle_key(due_key), idle_at(r[o + 1], s, now), r[o + 1] .. keys[i])
        end
      end
    end
    if r[o + 6] == 0 then open_left = open_left + 1 end
  end
  return open_left
end

local function expire(m, due_key, key, now)
  local blob = call('GET', key)
  if blob then
    local state, due, ttl, r, n, tail, dims = record_parts(blob)
    if state == 0 and due > now and due <= now + KEEP_EXPIRED then
      call('ZADD', due_key, due, 'r' .. key)
      return
    end
    if state == 0 then
      local changes = {}
      local _, _, keys = tail_parts(tail)
      for i = 1, n do
        if r[(i - 1) * SLICE + 6] == 0 then changes[i] = { 2, 0, 0 } end
      end
      post_all(m, due_key, r, n, keys, changes, now)
      call('SET', key, record_blob(3, due, ttl, r, n, tail, dims), 'PX', KEEP_EXPIRED)
    end
  end
  call('ZREM', due_key, 'r' .. key)
end

-- Expires records that are due, at most `batch`. Changes m; the caller writes it.
local function sweep(m, due_key, now, batch)
  local members = call('ZRANGE', due_key, '-inf', now, 'BYSCORE', 'LIMIT', 0, batch)
  for _, member in ipairs(members) do
    if string.sub(member, 1, 1) == 'r' then
      expire(m, due_key, string.sub(member, 2), now)
    else -- Revisions up to 3 listed idle dimensions here.
      call('ZREM', due_key, member)
      call('ZADD', idle_key(due_key), now, member)
    end
  end
  local first = call('ZRANGE', due_key, 0, 0, 'WITHSCORES')
  m.due = first[2] and tonumber(first[2]) or NEVER
  return #members
end

-- Whether a dimension says no more than its absence would.
local function is_idle(m, kind, s, now)
  if kind == 1 then
    local capacity, limit, P = read_doubles('<ddd', s, 49)
    return bucket(s, limit, capacity, P, floor(now / TICK), ceil(m.born / TICK)) >= capacity * P
  elseif kind == 2 then
    local _, finish = read_doubles('<dd', s)
    return now >= finish + KEEP_EXPIRED
  end
  return read_doubles(COUNT, s) == 0
end

-- Deletes idle dimensions, at most `batch`: nobody waits for it. The caller raises the clock's floor: what is deleted
-- forgets its last change.
local function forget(m, due_key, now, batch)
  local list = idle_key(due_key)
  local members = call('ZRANGE', list, '-inf', now, 'BYSCORE', 'LIMIT', 0, batch)
  if #members == 0 then return 0 end
  local keys, gone, names, later = {}, {}, {}, {}
  for i, member in ipairs(members) do keys[i] = string.sub(member, 2) end
  local states = call('MGET', unpack(keys))
  for i, member in ipairs(members) do
    local kind, s = tonumber(string.sub(member, 1, 1)), states[i]
    if not s or is_idle(m, kind, s, now) then
      gone[#gone + 1], names[#names + 1] = keys[i], member
    else
      local z = #later
      later[z + 1], later[z + 2] = idle_at(kind, s, now), member
    end
  end
  if #gone > 0 then
    call('DEL', unpack(gone))
    call('ZREM', list, unpack(names))
  end
  if #later > 0 then call('ZADD', list, unpack(later)) end
  return #members
end

-- A bucket's new state after a grant, its level and what is outstanding.
local function take_bucket(level, held, index, gen, t, out, taken, grant, limit, capacity, P)
  local cost = grant * P
  -- Only a limit that is not enforced can cost more than there is; its debt ends at one capacity.
  if cost > level + capacity * P then cost = max(level + capacity * P, 0) end
  out, taken = out + grant, taken + grant
  if taken > COUNTER_MAX then taken = 0 end
  if out > COUNTER_MAX then out = COUNTER_MAX end
  level = level - cost
  return pack(BUCKET, level, held + cost, index, gen, t, out, capacity, limit, P, taken), level, out
end

-- How much is granted where need fits.
local function ahead(need, want, room, shadow, divisor)
  if want <= need or shadow == 1 then return want end
  local most = need + (room > need and floor((room - need) / divisor) or 0)
  return want < most and want or most
end

-- Evaluates every dimension and prepares what to write if all fit. Returns a verdict: G or D with views (flag, grant,
-- level, outstanding per dimension), claims, and the arguments of MSET and ZADD; W; or S with a list.
local function weigh(keys, args, got, n, m, now, divisor)
  local tick, born = floor(now / TICK), ceil(m.born / TICK)
  local views, claims, mset, zadd = {}, {}, {}, {}
  local verdict, seeds, writes = 'G', nil, 0
  for i = 1, n do
    local kind, _, shadow, limit, capacity, p1, p2, p3, need, want =
      read_doubles(DIM_FORMAT, args, ARGS_HEAD + 1 + (i - 1) * DIM_SIZE)
    local s, state, fits, grant, level, out = got[i + 2], nil, false, want, 0, 0
    local claim_a, claim_b = 0, 0
    if kind == 1 then
      local held, index, gen, taken, t
      level, held, index, gen, out, taken, t = bucket(s, limit, capacity, p1, tick, born)
      fits = need == 0 or (need <= capacity and level >= need * p1)
      if fits then
        grant = ahead(need, want, level > 0 and floor(level / p1) or 0, shadow, divisor)
      elseif shadow == 1 then
        grant = need
      end
      if (fits or shadow == 1) and grant > 0 then
        state, level, out = take_bucket(level, held, index, gen, t, out, taken, grant, limit, capacity, p1)
      end
      claim_a, claim_b = index, gen
    elseif kind == 2 then
      local start, finish, posted, held, uncertain = window(s, p1, p2, p3, now, m.born)
      if not start then
        if finish == 'W' then return 'W' end
        seeds = seeds or {}
        seeds[#seeds + 1] = i
      else
        claim_a, out, level = start, held, posted + held
        fits = need == 0 or need <= limit - level
        if fits then
          grant = ahead(need, want, limit - level, shadow, divisor)
        elseif shadow == 1 and level < COUNTER_MAX then
          grant = need
        else
          shadow = 0
        end
        if (fits or shadow == 1) and grant > 0 then
          out, level = held + grant, level + grant
          state = pack(CALENDAR, start, finish, posted, out, uncertain, m.born)
        end
      end
    else
      level = s and read_doubles(COUNT, s) or 0
      local room = limit - level
      if m.born > 0 and now < m.born + m.learn then room = 0 end
      fits = need == 0 or need <= room
      if fits then
        grant = ahead(need, want, room, shadow, divisor)
      elseif shadow == 1 and level < COUNTER_MAX then
        grant = need
      else
        shadow = 0
      end
      if (fits or shadow == 1) and grant > 0 then
        level = level + grant
        state = pack(COUNT, level)
      end
      out = level
    end
    if not fits and shadow == 0 then verdict = 'D' end
    local w = (i - 1) * 4
    views[w + 1], views[w + 2], views[w + 3], views[w + 4] = fits and 0 or shadow + 1, grant, level, out
    w = (i - 1) * FRESH
    claims[w + 1], claims[w + 2], claims[w + 3] = grant, claim_a, claim_b
    if state then
      mset[writes + 1], mset[writes + 2] = keys[i + 3], state
      writes = writes + 2
      if not s then
        local z = #zadd
        zadd[z + 1], zadd[z + 2] = idle_at(kind, state, now), kind .. keys[i + 3]
      end
    end
  end
  if seeds then return 'S', seeds end
  return verdict, views, claims, mset, zadd
end

-- A record of this id is there already.
local function again(m, keys, blob, holder, print_, ttl, now)
  local state, _, _, r, n, tail, dims = record_parts(blob)
  local holder0, print0 = tail_parts(tail)
  if holder0 ~= holder then return 'F' end
  if print0 ~= print_ then return 'X' end
  if state ~= 0 then return 'C' end
  local due = now + ttl
  call('SET', keys[3], record_blob(0, due, ttl, r, n, tail, dims))
  call('ZADD', keys[2], due, 'r' .. keys[3])
  if due < m.due then
    m.due = due
    call('SET', keys[1], meta_blob(m))
  end
  return 'R' .. pack('<dd', now, due)
end

-- KEYS: meta, due, record, dimensions. ARGV: epoch, holder, print of the request, numbers: version, ttl, divisor,
-- now (0: this server's), then DIM per dimension.
local function admit(keys, argv)
  if not call then return 'E' end
  local n, args = #keys - 3, argv[4]
  local got = call('MGET', keys[1], keys[3], unpack(keys, 4))
  local version, ttl, divisor, given = read_doubles('<dddd', args)
  local m, answer = open(got[1], argv[1], given)
  if not m then return answer end
  local now = m.now
  if m.due <= now then
    sweep(m, keys[2], now, BATCH)
    call('SET', keys[1], meta_blob(m))
    got = call('MGET', keys[1], keys[3], unpack(keys, 4))
  end
  if got[2] then return again(m, keys, got[2], argv[2], argv[3], ttl, now) end
  if version ~= m.version then return 'V' end
  local verdict, views, claims, mset, zadd = weigh(keys, args, got, n, m, now, divisor)
  if verdict == 'W' then return 'W' .. pack('<d', now) end
  if verdict == 'S' then return 'S' .. pack(doubles(#views), unpack(views)) end
  local due = now + ttl
  if verdict == 'G' then
    local w = #mset
    mset[w + 1] = keys[3]
    mset[w + 2] = pack(HEAD, 0, due, n, ttl, FRESH)
      .. string.sub(args, ARGS_HEAD + 1)
      .. pack(doubles(n * FRESH), unpack(claims))
      .. argv[2] .. '\n' .. argv[3] .. '\n' .. table.concat(keys, '\n', 4)
    if due < m.due then
      m.due = due
      mset[w + 3], mset[w + 4] = keys[1], meta_blob(m)
    end
    call('MSET', unpack(mset))
    call('ZADD', keys[2], due, 'r' .. keys[3])
    if #zadd > 0 then call('ZADD', idle_key(keys[2]), unpack(zadd)) end
  end
  return verdict .. pack(doubles(n * 4 + 2), now, due, unpack(views))
end

-- KEYS: meta, due, record. ARGV: epoch, holder, "settle" or "cancel", numbers: now, then what was used of each unit, in
-- the order of the units' numbers; 0 of concurrency, which is released whole.
local function finish(keys, argv)
  if not call then return 'E' end
  local count = #argv[4] / 8
  local used_of = { read_doubles(doubles(count), argv[4]) }
  local m, answer = open(call('GET', keys[1]), argv[1], table.remove(used_of, 1))
  if not m then return answer end
  -- Callers of revision 5 and before send requests, input, output and money.
  if count == 5 then
    used_of = { used_of[1], used_of[2], used_of[3], used_of[2] + used_of[3], 0, used_of[4] }
  end
  local now = m.now
  if m.due <= now then
    sweep(m, keys[2], now, BATCH)
    call('SET', keys[1], meta_blob(m))
  end
  local blob = call('GET', keys[3])
  if not blob then return 'U' end
  local state, due, ttl, r, n, tail, dims = record_parts(blob)
  local holder, _, names = tail_parts(tail)
  if holder ~= argv[2] then return 'F' end
  local cancel = argv[3] == 'cancel'
  if state == 2 then return cancel and 'O' or 'B' end
  if state == 1 and cancel then return 'B' end
  local changes = {}
  for i = 1, n do
    local o = (i - 1) * SLICE
    local used = cancel and 0 or used_of[r[o + 2]]
    if state == 1 and r[o + 1] ~= 3 and r[o + 4] + r[o + 5] ~= used then return 'B' end
    changes[i] = { 1, used, 0 }
  end
  if state == 1 then return 'O' end
  post_all(m, keys[2], r, n, names, changes, now)
  call('SET', keys[3], record_blob(cancel and 2 or 1, due, ttl, r, n, tail, dims), 'PX', KEEP_SETTLED)
  call('ZREM', keys[2], 'r' .. keys[3])
  return 'O'
end

-- KEYS: meta, due, records. ARGV: epoch, holder, now, then per record packed (slice, used, overrun, closed, renew)*.
-- Answers now and per record a letter (U, F, O) and its expiry, 0 where it is over.
local function report(keys, argv)
  if not call then return 'E' end
  local m, answer = open(call('GET', keys[1]), argv[1], tonumber(argv[3]))
  if not m then return answer end
  local now = m.now
  if m.due <= now then
    sweep(m, keys[2], now, BATCH)
    call('SET', keys[1], meta_blob(m))
  end
  local letters, dues = {}, { now }
  for k = 3, #keys do
    local blob = call('GET', keys[k])
    local letter, until_ = 'U', 0
    if blob then
      local state, due, ttl, r, n, tail, dims = record_parts(blob)
      local holder, _, names = tail_parts(tail)
      letter = holder == argv[2] and 'O' or 'F'
      if letter == 'O' and state ~= 2 then
        local list = argv[k + 1]
        local entries = { read_doubles(doubles(#list / 8), list) }
        local changes, renew = {}, false
        for e = 1, #list / 8, 5 do
          changes[entries[e]] = { entries[e + 3], entries[e + 1], entries[e + 2] }
          renew = renew or entries[e + 4] == 1
        end
        local left = post_all(m, keys[2], r, n, names, changes, now)
        if state == 0 and left > 0 then
          if renew then
            due = now + ttl
            call('ZADD', keys[2], due, 'r' .. keys[k])
          end
          call('SET', keys[k], record_blob(0, due, ttl, r, n, tail, dims))
          until_ = due
        elseif state == 0 then
          call('SET', keys[k], record_blob(1, due, ttl, r, n, tail, dims), 'PX', KEEP_SETTLED)
          call('ZREM', keys[2], 'r' .. keys[k])
        else
          call('SET', keys[k], record_blob(state, due, ttl, r, n, tail, dims), 'KEEPTTL')
        end
      end
    end
    letters[#letters + 1] = letter
    dues[#dues + 1] = until_
  end
  return table.concat(letters) .. pack(doubles(#dues), unpack(dues))
end

-- Only reads. KEYS: meta, dimensions. ARGV: epoch, numbers: now, then per dimension DIM (need, want: 0).
-- Answers G, now, version, then per dimension: level or used, outstanding, start, finish, uncertain, taken.
local function read(keys, argv)
  if not call then return 'E' end
  local n = #keys - 1
  local got = call('MGET', unpack(keys))
  local a = { read_doubles(doubles(1 + n * DIM), argv[2]) }
  local m, answer = open(got[1], argv[1], a[1])
  if not m then return answer end
  local now = m.now
  local out = { now, m.version }
  for i = 1, n do
    local o, q, s = 1 + (i - 1) * DIM, 2 + (i - 1) * 6, got[i + 1]
    local level, held, start, finish_, uncertain, taken = 0, 0, 0, 0, 0, 0
    if a[o + 1] == 1 then
      local _
      level, _, _, _, held, taken =
        bucket(s, a[o + 4], a[o + 5], a[o + 6], floor(now / TICK), ceil(m.born / TICK))
    elseif a[o + 1] == 2 then
      local posted
      start, finish_, posted, held, uncertain = window(s, a[o + 6], a[o + 7], a[o + 8], now, m.born)
      if not start then
        if finish_ == 'W' then return 'W' .. pack('<d', now) end
        return 'S' .. pack('<d', i)
      end
      level, taken = posted + held, posted + held
    else
      held = s and read_doubles(COUNT, s) or 0
      level = held
    end
    out[q + 1], out[q + 2], out[q + 3], out[q + 4], out[q + 5], out[q + 6] =
      level, held, start, finish_, uncertain, taken
  end
  return 'G' .. pack(doubles(2 + n * 6), unpack(out))
end

-- What a window had spent before this life began. KEYS: meta, due, dimension. ARGV: epoch, numbers: now, w0, w1, w2,
-- posted. A second seed of the same life changes nothing.
local function seed(keys, argv)
  if not call then return 'E' end
  local given, w0, w1, w2, posted = read_doubles('<ddddd', argv[2])
  local m, answer = open(call('GET', keys[1]), argv[1], given)
  if not m then return answer end
  local now = m.now
  local s = call('GET', keys[3])
  local start, why = window(s, w0, w1, w2, now, m.born)
  if start then return 'O' end
  if why == 'W' or now < w0 then return 'W' .. pack('<d', now) end
  local finish_, out, uncertain
  if now < w1 then start, finish_ = w0, w1 else start, finish_ = w1, w2 end
  out, uncertain = 0, 0
  if s then
    local start0, finish0, posted0, out0, uncertain0 = read_doubles(CALENDAR, s)
    if start0 >= start and start0 <= now then
      start, finish_, out, uncertain = start0, finish0, out0, uncertain0
      if posted0 > posted then posted = posted0 end
    end
  end
  call('SET', keys[3], pack(CALENDAR, start, finish_, posted, out, uncertain, m.born))
  call('ZADD', idle_key(keys[2]), finish_ + KEEP_EXPIRED, '2' .. keys[3])
  return 'O'
end

-- Once per life of the server process, and then as often as replicas start. KEYS: meta, due. ARGV: a new epoch,
-- trust (2: this server kept every write and has no forgotten past, 1: it kept every write of what it has, 0: neither),
-- learn ms, now.
local function begin(keys, argv)
  call, pack, read_doubles, floor, ceil, max = redis.call, struct.pack, struct.unpack, math.floor, math.ceil, math.max
  local blob = call('GET', keys[1])
  local now = time_of(tonumber(argv[4]))
  local m = { due = NEVER, version = 0, born = 0, floor = 0, learn = tonumber(argv[3]), epoch = argv[1] }
  if blob then m.due, m.version, m.born, m.floor = read_doubles(META, blob) end
  local set_back = now < m.floor - SET_BACK
  local trusted = not set_back and (argv[2] == '2' or (argv[2] == '1' and blob))
  local stored = blob and string.sub(blob, 41)
  if stored and not set_back and (trusted or lives[stored]) then
    lives[stored] = true
    return stored
  end
  if set_back then
    -- What was made on the wrong clock would expire when that time comes.
    for _, member in ipairs(call('ZRANGE', keys[2], now + KEEP_EXPIRED, '+inf', 'BYSCORE')) do
      if string.sub(member, 1, 1) == 'r' then call('ZADD', keys[2], now, member) end
    end
    m.floor, m.due = 0, now
  end
  if not trusted then
    m.born = max(now, m.floor)
    m.floor = m.born
  end
  call('SET', keys[1], meta_blob(m))
  if stored then lives[stored] = nil end
  lives[m.epoch] = true
  return m.epoch
end

-- The replica's heartbeat: expires what is due, forgets what is idle, at most `batch` of each, keeps the high-water
-- mark of the clock, counts the routers. KEYS: meta, due, holders. ARGV: epoch, now, batch, then the replica's holders.
-- Answers G, now, version, the larger of expired and forgotten, first due, holders, ms until slices of earlier lives
-- are dead.
local function beat(keys, argv)
  if not call then return 'E' end
  local m, answer = open(call('GET', keys[1]), argv[1], tonumber(argv[2]))
  if not m then return answer end
  local now = m.now
  local batch, swept = tonumber(argv[3]), 0
  if m.due <= now then swept = sweep(m, keys[2], now, batch) end
  swept = max(swept, forget(m, keys[2], now, batch))
  if m.floor < now then m.floor = now end
  call('SET', keys[1], meta_blob(m))
  for i = 4, #argv do call('ZADD', keys[3], now + 5000, argv[i]) end
  call('ZREMRANGEBYSCORE', keys[3], '-inf', now)
  local learning = m.born > 0 and max(0, m.born + m.learn - now) or 0
  return 'G' .. pack(doubles(6), now, m.version, swept, m.due, call('ZCARD', keys[3]), learning)
end

-- KEYS: meta, limits (a hash), audit (a stream). ARGV: epoch, field, expected version or "", the limit as JSON or ""
-- to remove, actor, reason, now. Answers O and the limit's new version, or B and the present one.
local function set(keys, argv)
  if not call then return 'E' end
  local m, answer = open(call('GET', keys[1]), argv[1], tonumber(argv[7]))
  if not m then return answer end
  local old = call('HGET', keys[2], argv[2])
  local version = old and cjson.decode(old).version or 0
  if argv[3] ~= '' and tonumber(argv[3]) ~= version then return 'B' .. pack('<d', version) end
  local entry = { version = version + 1, limit = argv[4] }
  call('HSET', keys[2], argv[2], cjson.encode(entry))
  call('XADD', keys[3], 'MAXLEN', AUDIT_LENGTH, '*', 'limit', argv[2], 'version', version + 1, 'value', argv[4],
    'actor', argv[5], 'reason', argv[6], 'before', old or '')
  m.version = m.version + 1
  call('SET', keys[1], meta_blob(m))
  return 'O' .. pack('<d', version + 1)
end

redis.register_function('pointsman_v1_begin', begin)
redis.register_function('pointsman_v1_admit', admit)
redis.register_function('pointsman_v1_finish', finish)
redis.register_function('pointsman_v1_report', report)
redis.register_function('pointsman_v1_seed', seed)
redis.register_function('pointsman_v1_beat', beat)
redis.register_function('pointsman_v1_set', set)
redis.register_function({ function_name = 'pointsman_v1_read', callback = read, flags = { 'no-writes' } })
