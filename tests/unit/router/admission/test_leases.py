"""A router's hold of limits: how much of each, what becomes of calls that outlive their slice, what is known of a
budget.
budget."""

from __future__ import annotations

import itertools

from libs.limits import Amounts, Period, Scope, Unit, scope_of
from services.router.admission.demand import Demand
from services.router.admission.leases import Pool
from services.router.admission.slices import FRESH, Slice, Taken

SCOPE = scope_of("tenant:acme")
OTHER = scope_of("provider:b")
CALL = Amounts(1, 100, 500, 4000)
ENDED = Amounts(1, 100, 50, 400)
_ids = itertools.count()


def a_slice(
    unit: str,
    period: str,
    amount: int,
    now: float = 0.0,
    *,
    left: int = 0,
    scope: Scope = SCOPE,
    limit: int = 1_000_000,
    window_ends: float | None = None,
) -> Slice:
    """Granted now for eight seconds."""
    return Slice(
        f"e.r{next(_ids)}.0",
        scope,
        Unit(unit),
        Period(period),
        amount,
        8.0,
        now + 8.0,
        False,
        limit,
        left,
        window_ends,
    )


def holding(*slices: Slice, now: float = 0.0) -> Pool:
    pool = Pool()
    pool.grant([SCOPE], slices, [], 0.0, now)
    return pool


def take(pool: Pool, now: float, amounts: Amounts = CALL) -> list[Taken]:
    taken = pool.take([SCOPE], amounts, now)
    assert taken is not None
    return taken


def run(
    pool: Pool, calls: int, each: float, at_once: int, unit: str, period: str
) -> tuple[float, list[Amounts]]:
    """Calls one after another, `each` seconds apart, so many of them running; what is asked for is granted."""
    now, running, asks = 0.0, [], []
    for _ in range(calls):
        now += each
        running.append(take(pool, now))
        if len(running) > at_once:
            pool.settle(running.pop(0), ENDED, now)
        for _, want in pool.wanted([SCOPE], now):
            asks.append(want)
            amount = {"micro_usd": want.micro_usd, "concurrency": want.slots}[unit]
            pool.grant([SCOPE], [a_slice(unit, period, amount, now)], [], 0.0, now)
        reports = pool.reports(now)
        pool.record_acknowledged(reports, {r.slice.id: now + 8.0 for r in reports if not r.closed})
    return now, asks


def test_money_is_held_for_what_calls_really_cost_and_for_those_that_begin() -> None:
    """A hundred calls a second, 16 at once, reserve 4,000 each and cost 400: three seconds of what is spent, and five
    reservations. By reservations it would be 1,200,000."""
    pool = holding(a_slice("micro_usd", "day", 100_000))
    _, asks = run(pool, 1000, 0.01, 16, "micro_usd", "day")
    assert max(ask.micro_usd for ask in asks) <= 3 * 100 * 400 + 5 * 4000
    assert len(asks) <= 20


def test_slots_are_held_for_calls_that_run_not_for_calls_that_begin() -> None:
    """A hundred calls a second, 16 at once: a quarter more slots than that."""
    pool = holding(a_slice("concurrency", "", 17))
    _, asks = run(pool, 1000, 0.01, 16, "concurrency", "")
    assert 20 <= 17 + sum(ask.slots for ask in asks) <= 23
    assert len(asks) <= 2


def test_slots_go_back_when_they_are_not_used_any_more() -> None:
    """Those beyond the most in use after two seconds, the others after the last call."""
    first, second = a_slice("concurrency", "", 2), a_slice("concurrency", "", 30)
    pool = holding(first, second)
    now = 0.0
    for _ in range(10):
        now += 0.3
        taken = take(pool, now)
        pool.wanted([SCOPE], now)
        pool.settle(taken, ENDED, now)
        pool.reports(now)
    assert (first.closed, second.closed) == (False, True)
    now += 2.1
    pool.reports(now)
    pool.reports(now + 2.1)
    assert first.closed


def test_the_first_to_ask_asks_for_those_that_wait_with_it() -> None:
    """Sixteen callers at once need one question, not sixteen."""
    (asked,) = Pool().shortage([SCOPE], CALL, 16, 0.0)
    assert (asked.scopes, asked.need) == ([SCOPE], CALL)
    assert (asked.want.requests, asked.want.micro_usd, asked.want.slots) == (16, 64_000, 16)
    known = holding(a_slice("micro_usd", "day", 1000))
    (asked,) = known.shortage([SCOPE], CALL, 3, 0.0)
    assert (asked.need.micro_usd, asked.want.micro_usd, asked.want.slots) == (3000, 11_000, 0)


def test_regression_what_is_held_is_not_asked_for_again_when_another_scope_is_unknown() -> None:
    """The only slot is held and free, a request is missing, and nothing is known of the provider: of the tenant no
    slot is asked for, which the limiter would have to deny."""
    pool = holding(a_slice("concurrency", "", 1), a_slice("requests", "minute", 0))
    unknown, known = pool.shortage([SCOPE, OTHER], CALL, 1, 0.0)
    assert (unknown.scopes, unknown.need) == ([OTHER], CALL)
    assert (known.scopes, known.need) == ([SCOPE], Amounts(requests=1, concurrency=0))


def test_of_each_scope_is_asked_what_it_lacks_itself() -> None:
    """One lacks a request, another money, two more the same tokens: none is asked for what the others lack."""
    a, b, c, d = (scope_of(f"tenant:{name}") for name in "abcd")
    lacks = {a: ("requests", "minute"), b: ("micro_usd", "day")}
    lacks |= {c: ("total_tokens", "minute"), d: ("total_tokens", "hour")}
    pool = Pool()
    for scope, (unit, period) in lacks.items():
        pool.grant([scope], [a_slice(unit, period, 0, scope=scope)], [], 0.0, 0.0)
    asked = {tuple(ask.scopes): ask.need for ask in pool.shortage(list(lacks), CALL, 1, 0.0)}
    assert asked == {
        (a,): Amounts(requests=1, concurrency=0),
        (b,): Amounts(micro_usd=4000, concurrency=0),
        (c, d): Amounts(output_tokens=600, concurrency=0),
    }


def test_demand_forgets_a_burst() -> None:
    """A quiet minute later, nothing is held for it."""
    demand = Demand(0.0)
    demand.used, demand.calls, demand.largest, demand.peak = 1_000_000, 100, 20_000, 50
    assert demand.target(1.0) > 3_000_000
    for now in range(2, 62, 2):
        demand.turn(now)
    assert (demand.target(60.0), demand.least(60.0), demand.slots()) == (1, 1, 0)


def test_calls_that_outlive_the_stores_memory_count_on_the_next_slice() -> None:
    """First with what they reserved, once they end with what they used. Not rates: these have refilled."""
    pool = holding(a_slice("micro_usd", "day", 100_000), a_slice("requests", "minute", 50))
    ended = take(pool, 1.0)
    pool.settle(ended, ENDED, 1.5)
    running = take(pool, 2.0)
    pool.forget(None)
    money, rate = a_slice("micro_usd", "day", 50_000, 3.0), a_slice("requests", "minute", 50, 3.0)
    assert pool.grant([SCOPE], [money, rate], [], 0.0, 3.0)
    assert (money.used, rate.used) == (4000, 0)
    pool.settle(running, ENDED, 4.0)
    assert (money.used, money.overrun, rate.used) == (400, 0, 0)
    assert [r.slice for r in pool.reports(4.0)] == [money]


def test_all_calls_that_run_when_slices_are_lost_count_on_the_next_and_those_that_ended_do_not() -> None:
    """Two run, on slices of two limits, and one of a slice that was lost before; each counts once."""
    pool = holding(a_slice("micro_usd", "day", 100_000), a_slice("input_tokens", "day", 100_000))
    outlived = take(pool, 0.5)
    pool.forget(None)
    lost = [a_slice("micro_usd", "day", 100_000, 1.0), a_slice("input_tokens", "day", 100_000, 1.0)]
    pool.grant([SCOPE], lost, [], 0.0, 1.0)
    pool.settle(take(pool, 1.0), ENDED, 1.5)
    running = [take(pool, 2.0), take(pool, 2.0)]
    pool.settle(outlived, Amounts(), 2.5)
    pool.forget(None)
    found = [a_slice("micro_usd", "day", 100_000, 3.0), a_slice("input_tokens", "day", 100_000, 3.0)]
    pool.grant([SCOPE], found, [], 0.0, 3.0)
    assert [held.used for held in found] == [2 * CALL.micro_usd, 2 * CALL.input_tokens]
    for taken in running:
        pool.settle(taken, ENDED, 4.0)
    assert [held.used for held in found] == [2 * ENDED.micro_usd, 2 * ENDED.input_tokens]


def test_a_slice_is_reported_when_its_figures_are_not_those_that_the_limiter_was_told() -> None:
    """Once for each figure, and again where the report may not have arrived."""
    pool = holding(money := a_slice("micro_usd", "day", 100_000))
    taken = take(pool, 1.0)
    reports = pool.reports(1.0)
    assert [report.slice for report in reports] == [money]
    assert pool.reports(1.1) == []
    pool.take_back_reports(reports)
    assert [report.slice for report in pool.reports(1.2)] == [money]
    pool.settle(taken, ENDED, 1.3)
    assert [report.slice for report in pool.reports(1.4)] == [money]
    pool.settle(take(pool, 1.5), Amounts(), 1.5)
    assert pool.reports(1.6) == []


def test_what_a_small_slice_cannot_carry_is_owed() -> None:
    """The call reserved more than the new slice is worth."""
    pool = holding(a_slice("micro_usd", "day", 100_000))
    running = take(pool, 1.0)
    pool.forget(None)
    pool.settle(running, Amounts(1, 0, 0, 9000), 1.5)
    money = a_slice("micro_usd", "day", 5000, 2.0)
    assert pool.grant([SCOPE], [money], [], 0.0, 2.0)
    assert (money.used, money.overrun) == (5000, 4000)


def test_use_of_a_budget_is_what_is_gone_for_others_too_but_not_what_is_held_unused() -> None:
    """Of a million 400,000 are left and 100,000 held: half is used. A call adds what it reserves, then costs less."""
    pool = holding(a_slice("micro_usd", "month", 100_000, left=400_000))
    assert pool.use(SCOPE, Period.MONTH, 1.0) == (500_000, 1_000_000)
    taken = take(pool, 1.0)
    assert pool.use(SCOPE, Period.MONTH, 1.0) == (504_000, 1_000_000)
    pool.settle(taken, ENDED, 2.0)
    assert pool.use(SCOPE, Period.MONTH, 2.0) == (500_400, 1_000_000)
    pool.reports(9.0)  # expired and closed: what was left of it is the limit's again
    assert pool.use(SCOPE, Period.MONTH, 9.0) == (500_400, 1_000_000)
    assert pool.use(SCOPE, Period.DAY, 2.0) is None
    assert pool.use(scope_of("tenant:other"), Period.MONTH, 2.0) is None


def test_what_was_heard_of_a_budget_grows_old() -> None:
    """After ten seconds a budget in use is asked about again, asking for nothing where enough is held; after fifteen
    the old answer does not count."""
    kept = a_slice("micro_usd", "month", 100_000, left=400_000)
    kept.expires = 100.0
    pool = holding(kept)
    pool.settle(take(pool, FRESH), ENDED, FRESH)
    assert pool.wanted([SCOPE], FRESH) == []
    pool.settle(take(pool, FRESH + 1), ENDED, FRESH + 1)
    assert pool.wanted([SCOPE], FRESH + 1) == [(SCOPE, Amounts(concurrency=0))]
    assert pool.use(SCOPE, Period.MONTH, FRESH * 1.5 + 1) is None


def test_limits_are_known_without_asking() -> None:
    """The rest of a limit is the rest for all, the part that is held and free, and the part that has flowed back
    since. Money and slots are not told, nor limits that are only counted. A day's end is the limiter's word, where it
    has given it.
    are not told, nor what is only counted. A day's end is the limiter's word, where it has given it."""
    pool = holding(
        a_slice("requests", "minute", 20, left=40, limit=60),
        a_slice("total_tokens", "day", 1000, left=500, limit=5000, window_ends=3600.0),
        a_slice("requests", "month", 10, left=5, limit=100),
        a_slice("concurrency", "", 5),
        a_slice("micro_usd", "day", 100_000),
    )
    take(pool, 0.0)
    requests, tokens, month = pool.states(SCOPE, 0.0)
    assert (requests.limit, requests.remaining, requests.reset) == (60, 59, 1.0)
    assert (tokens.unit, tokens.period, tokens.remaining, tokens.reset) == ("total_tokens", "day", 900, 3600)
    assert (month.remaining, month.reset) == (14, None)
    assert pool.states(SCOPE, 1.0)[0].remaining == 60
    assert pool.states(SCOPE, 4000.0)[1].reset == 0.0
    assert pool.states(scope_of("tenant:nobody"), 0.0) == ()
