"""Reports of several routers become one limit, and decide which limits hold."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.errors import InvalidArgument
from libs.limits import LimitKey, Period, Scope, ScopeKind, Unit, scope_of
from services.ratelimit.domain.limits import Limit
from services.ratelimit.learning import learned
from services.ratelimit.learning.learned import Observation, Observed, Source, apply, merge
from services.ratelimit.learning.learning import Mode
from tests.support.clock import ManualClock
from tests.support.limiter import MemoryLearned, Replica
from tests.support.limits import OracleStore, limit

MODEL = "model:openai/gpt-4o"
SCOPE = scope_of(MODEL)
RPM = LimitKey(SCOPE, Unit.REQUESTS, Period.MINUTE)
NOW = 1_800_000_000.0


def said(
    value: int,
    *,
    source: Source = Source.HEADERS,
    confidence: float = 0.99,
    seen: float = NOW,
    key: LimitKey = RPM,
    loads: dict[Scope, int] | None = None,
    at: float = NOW,
) -> Observed:
    """One router's word."""
    return Observed((Observation(key, value, confidence, source, seen, 3),), loads or {}, at)


def test_the_latest_word_of_headers_counts() -> None:
    """Whoever heard last knows the present limit, up or down; observations add up."""
    word = merge({"r1": said(1000, seen=NOW - 60), "r2": said(2000), "r3": said(500, seen=NOW - 5)}, NOW)[RPM]
    assert (word.value, word.observations, word.seen) == (2000, 9, NOW)


def test_shares_learned_from_refusals_add_up_with_what_others_let_through() -> None:
    """Two refused routers' shares, and a third's traffic with a little room; one that is gone counts no more."""
    share = Source.REFUSALS
    words = {
        "r1": said(100, source=share, loads={SCOPE: 150}),
        "r2": said(50, source=share, confidence=0.5, loads={SCOPE: 60}),
        "r3": Observed((), {SCOPE: 200}, NOW),
        "gone": said(400, source=share, at=NOW - learned.LOADS_COUNT - 1),
        "idle": Observed((), {SCOPE: 999}, NOW - learned.LOADS_COUNT - 1),
    }
    word = merge(words, NOW)[RPM]
    assert (word.value, word.source, word.confidence) == (100 + 50 + 210, share, 0.99)


def test_a_rate_that_most_of_the_traffic_does_not_confirm_is_not_trusted() -> None:
    """One router of three was refused; the others, with more calls, were not, or found it to explain nothing."""
    words = {
        "r1": said(100, source=Source.REFUSALS, loads={SCOPE: 100}),
        "r2": Observed((), {SCOPE: 90}, NOW),
        "r3": Observed((), {SCOPE: 20}, NOW),
    }
    assert not merge(words, NOW)[RPM].trusted
    del words["r3"]
    assert merge(words, NOW)[RPM].trusted


def test_the_lower_of_two_sure_sources_counts_else_the_surer_one() -> None:
    """Headers may state one limit while another, unstated one is what refuses."""
    both = {"r1": said(1000), "r2": said(300, source=Source.REFUSALS)}
    assert merge(both, NOW)[RPM].value == 300
    unsure = {"r1": said(1000), "r2": said(300, source=Source.REFUSALS, confidence=0.5)}
    assert merge(unsure, NOW)[RPM].value == 1000


def test_old_words_count_no_more() -> None:
    """After an hour without headers, or a quarter without refusals, nothing is known."""
    assert merge({"r1": said(10, seen=NOW - learned.HEADERS_COUNT - 1)}, NOW) == {}
    late = said(10, source=Source.REFUSALS, seen=NOW - learned.REFUSALS_COUNT - 1)
    assert merge({"r1": late}, NOW) == {}


def held(
    configured: list[Limit],
    observed: Observed,
    *,
    enforce: bool = True,
    before: dict[LimitKey, Limit] | None = None,
) -> dict[LimitKey, Limit]:
    words = merge({"r1": observed}, NOW)
    return apply({c.key: c for c in configured}, words, before or {}, share=0.95, enforce=enforce)


def test_a_sure_limit_holds_at_a_share_of_what_is_stated() -> None:
    """A learned limit holds where nothing is configured, caps a wider limit, and leaves a stricter one as it is."""
    assert held([], said(1000)) == {RPM: Limit(RPM, 950)}
    wide = limit("requests", "minute", 5000, MODEL, burst=2000)
    assert held([wide], said(1000)) == {RPM: Limit(RPM, 950, burst=950)}
    assert held([limit("requests", "minute", 100, MODEL)], said(1000)) == {}
    assert held([limit("requests", "minute", 5000, MODEL, shadow=True)], said(1000)) == {}
    assert held([], said(1)) == {RPM: Limit(RPM, 1)}


def test_what_is_unsure_holds_nothing_and_shadow_mode_only_counts() -> None:
    """Neither refuses a single call."""
    assert held([], said(1000, confidence=0.7)) == {}
    assert held([], said(1000), enforce=False) == {RPM: Limit(RPM, 950, shadow=True)}
    assert held([limit("requests", "minute", 5000, MODEL)], said(1000), enforce=False) == {}


def test_a_sum_that_wavers_does_not_move_the_limit() -> None:
    """A change revokes slices everywhere, so a tenth up or down is left alone."""
    before = {RPM: Limit(RPM, 300, burst=30)}
    assert held([], said(325, source=Source.REFUSALS), before=before) == before
    assert held([], said(340, source=Source.REFUSALS), before=before) == {RPM: Limit(RPM, 340, burst=34)}


def test_a_rate_learned_from_refusals_is_used_evenly() -> None:
    """A provider that refuses has no full bucket: a tenth at once, or less where less is configured."""
    refused = said(300, source=Source.REFUSALS)
    assert held([], refused) == {RPM: Limit(RPM, 300, burst=30)}
    narrow = limit("requests", "minute", 5000, MODEL, burst=10)
    assert held([narrow], refused) == {RPM: Limit(RPM, 300, burst=10)}
    assert held([], said(3, source=Source.REFUSALS)) == {RPM: Limit(RPM, 3, burst=1)}


@pytest.mark.parametrize(
    "change",
    [
        {"key": LimitKey(scope_of("tenant:acme"), Unit.REQUESTS, Period.MINUTE)},
        {"key": LimitKey(SCOPE, Unit.CONCURRENCY, Period.NONE)},
        {"key": LimitKey(SCOPE, Unit.MICRO_USD, Period.DAY)},
        {"value": 0},
        {"value": -1},
        {"value": 10**10 + 1},
        {"confidence": 1.5},
        {"confidence": math.nan},
        {"observations": 0},
    ],
)
def test_a_senseless_word_is_refused(change: dict[str, object]) -> None:
    """Routers may cap what calls a provider, and nothing else."""
    fields: dict[str, object] = {
        "key": RPM,
        "value": 10,
        "confidence": 0.5,
        "source": Source.HEADERS,
        "seen": NOW,
        "observations": 1,
    }
    with pytest.raises(InvalidArgument):
        Observation(**(fields | change))  # type: ignore[arg-type]


def test_senseless_loads_are_refused() -> None:
    """As the limits."""
    for loads in (
        {SCOPE: -1},
        {Scope(ScopeKind.MODEL, f"a/{n}"): 1 for n in range(learned.MAX_OBSERVED + 1)},
    ):
        with pytest.raises(InvalidArgument):
            Observed((), loads, NOW)


WORDS = st.builds(
    said,
    st.integers(1, 10_000),
    source=st.sampled_from(Source),
    confidence=st.floats(0, 1),
    seen=st.floats(NOW - 8000, NOW),
    loads=st.dictionaries(st.sampled_from([MODEL, "model:a/b"]), st.integers(0, 1000)),
    at=st.floats(NOW - 100, NOW),
)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.sampled_from(["r1", "r2", "r3"]), WORDS), st.one_of(st.none(), st.integers(0, 5000))
)
def test_whatever_routers_say_a_configured_limit_never_grows(
    words: dict[str, Observed], configured: int | None
) -> None:
    """A learned limit is at least 1, only ever lowers a configured one, and nothing holds without trust."""
    base = {} if configured is None else {RPM: limit("requests", "minute", configured, MODEL)}
    found = merge(words, NOW)
    for key, holding in apply(base, found, {}, share=0.95, enforce=True).items():
        assert found[key].trusted
        assert holding.limit >= 1
        assert configured is None or holding.limit < configured


class Bed:
    """A replica over a store in memory."""

    def __init__(self, *limits: Limit, mode: Mode = Mode.ENFORCE) -> None:
        self.clock = ManualClock()
        self.store = OracleStore(lambda: round(self.clock.now() * 1000))
        self.learned = MemoryLearned()
        self.replica = Replica(self.store, limits, clock=self.clock, learned=self.learned, learn=mode)

    async def hear(self, value: int, **more: float) -> None:
        now = self.clock.now()
        await self.replica.learning.record("r1", said(value, seen=now, at=now, **more))  # type: ignore[arg-type]


async def test_other_replicas_take_over_what_one_has_heard() -> None:
    """One replica hears it; the other holds to it after its next look, and again when it changes."""
    bed = Bed()
    other = Replica(bed.store, (), clock=bed.clock, learned=bed.learned)
    for stated in (1000, 200, 3000):
        await bed.hear(stated)
        await other.learning.refresh()
        for replica in (bed.replica, other):
            held_now = replica.effective.get(RPM)
            assert held_now is not None
            assert held_now.limit == stated * 0.95


async def test_an_operators_word_stands_above_what_is_learned() -> None:
    """SetLimit wins, even where it allows more; removed again, the learned limit holds."""
    bed = Bed()
    await bed.hear(1000)
    state = await bed.replica.quotas.set_limit(RPM, Limit(RPM, 7000), None, "ann", "they raised it")
    assert state is not None
    assert state.limit.limit == 7000
    await bed.hear(1001)
    assert bed.replica.effective.get(RPM) == Limit(RPM, 7000, version=1)
    removed = await bed.replica.quotas.set_limit(RPM, None, None, "ann", "")
    (kind, name, version, author, reason, _, after), (*_, before_removal, after_removal) = (
        bed.replica.notes.noted
    )
    assert (kind, name, version, author, reason) == ("limit", str(RPM), 1, "ann", "they raised it")
    assert (after, before_removal, after_removal) == (
        '{"limit":7000,"burst":null,"time_zone":"UTC","shadow":false,"pace":false}',
        after,
        "",
    )
    assert removed is not None
    assert removed.limit.limit == 950


async def test_quotas_show_the_evidence_also_of_what_is_not_sure() -> None:
    """An unsure limit is listed as a shadow limit, a sure one as holding; both with what was said."""
    bed = Bed()
    await bed.hear(1000, confidence=0.5)
    (shown,) = (await bed.replica.quotas.list((), 0, "")).quotas
    assert (shown.limit.limit, shown.limit.shadow) == (1000, True)
    assert bed.replica.effective.get(RPM) is None
    await bed.hear(1000, confidence=0.9)
    (shown,) = (await bed.replica.quotas.list((MODEL,), 0, "")).quotas
    assert (shown.limit.limit, shown.limit.shadow) == (950, False)
    word = bed.replica.quotas.learned(RPM)
    assert word is not None
    assert (word.value, word.source, word.confidence) == (1000, Source.HEADERS, 0.9)
    assert (await bed.replica.quotas.list(("model:a/b",), 0, "")).quotas == ()


async def test_what_is_not_said_any_more_holds_no_more() -> None:
    """An hour later the limit is gone, and so is the router that said it."""
    bed = Bed()
    await bed.hear(1000)
    bed.clock.advance(learned.HEADERS_COUNT + 1)
    await bed.replica.learning.refresh()
    assert bed.replica.effective.get(RPM) is None
    assert bed.learned.said == {}


async def test_a_store_that_is_gone_costs_nothing_but_news() -> None:
    """Learned limits go on holding, and a report meanwhile is no error to its router."""
    bed = Bed()
    await bed.hear(1000)
    bed.learned.gone = True
    await bed.hear(10)
    assert bed.replica.effective.get(RPM) == Limit(RPM, 950)
    bed.learned.gone = False
    await bed.hear(10)
    assert bed.replica.effective.get(RPM) == Limit(RPM, 9)


async def test_off_is_off() -> None:
    """Nothing is kept, nothing holds."""
    bed = Bed(mode=Mode.OFF)
    await bed.hear(1000)
    assert (bed.learned.said, bed.replica.effective.get(RPM)) == ({}, None)


async def test_a_new_catalog_is_capped_at_once() -> None:
    """A configured limit that appears later is capped by what was learned before."""
    bed = Bed()
    await bed.hear(1000)
    bed.replica.source.set(limit("requests", "minute", 5000, MODEL))
    assert bed.replica.effective.get(RPM) == Limit(RPM, 950)
    bed.replica.source.set(limit("requests", "minute", 50, MODEL))
    assert bed.replica.effective.get(RPM) == Limit(RPM, 50)
