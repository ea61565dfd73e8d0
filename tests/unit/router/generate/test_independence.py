"""The order of attempts: properties of whole requests, driven through `next_step` from outcomes drawn at random."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Struct, structs

from libs.catalog.model import Policy, Weighted
from libs.types import ErrorClass
from services.router.generate.next_step import Envelope, Failed, GiveUp, Outlook, Try, Wait, next_step
from services.router.planning.candidate import Candidate
from services.router.planning.entries import PolicyEntry
from services.router.planning.plan import Plan
from services.router.planning.recent_calls import OF_PROVIDER
from tests.support.routing import candidate_of, catalog, model

POLICY = Policy("default", ((Weighted("a/m"),),))
#: The most seconds of a fault that shows at once; and a deadline that is never met.
AT_ONCE, NEVER = 0.01, 1e9


class Case(Struct, frozen=True):
    """A plan, the fault of each broken provider, and what recent calls say."""

    plan: Plan
    broken: dict[str, ErrorClass]
    outlook: Outlook


class Call(Struct, frozen=True):
    """A call that a request made. `unpaid`: it needed no room in the retry budget."""

    candidate: Candidate
    unpaid: bool
    waited: bool


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draws up to six providers with up to three models each, in any order, the last of which may be last resorts."""
    names = "abcdef"[: draw(st.integers(2, 6))]
    models = [model(f"{name}/m{n}") for name in names for n in range(draw(st.integers(1, 3)))]
    models = draw(st.permutations(models))
    resorts = draw(st.integers(0, 2))
    found = catalog(models)
    candidates = []
    for tier, each in enumerate(models):
        base = candidate_of(found, each, 10)
        entry = PolicyEntry(
            base.provider, each, tier, 1, False, last_resort=tier >= max(1, len(models) - resorts)
        )
        candidates.append(structs.replace(base, entry=entry))
    broken = draw(st.dictionaries(st.sampled_from(names), st.sampled_from(sorted(OF_PROVIDER))))
    targets = st.frozensets(st.sampled_from([c.target for c in candidates]))
    outlook = Outlook(draw(targets), draw(targets), draw(st.booleans()))
    return Case(Plan(tuple(candidates), (), POLICY), broken, outlook)


def run(case: Case, max_attempts: int, answers: Callable[[Candidate], bool]) -> tuple[list[Call], bool]:
    """Returns the calls of one request, and True if it was answered. What needs room in the budget is made where
    there is some."""
    calls: list[Call] = []
    failed: list[Failed] = []
    now = 0.0
    while True:
        step = next_step(case.plan, failed, Envelope(NEVER, max_attempts), now, outlook=case.outlook)
        if isinstance(step, GiveUp):
            return calls, False
        unpaid = isinstance(step, Try) and not step.spends_retry
        if not unpaid and not case.outlook.room:
            return calls, False
        calls.append(Call(step.candidate, unpaid, isinstance(step, Wait)))
        if answers(step.candidate):
            return calls, True
        now += AT_ONCE
        fault = case.broken[step.candidate.model.provider]
        failed.append(Failed(step.candidate, fault, "", now, retry_same=True))


def providers_of(case: Case) -> set[str]:
    return {c.model.provider for c in case.plan.candidates}


@settings(max_examples=300, deadline=None)
@given(cases())
def test_a_living_provider_is_reached_whatever_is_broken_and_with_no_room_for_repeats(case: Case) -> None:
    """Named regression: four attempts went to four models of dead providers, and the retry budget then stopped
    at two. With an attempt for each provider, one that lives and has not failed before answers."""
    alive = providers_of(case) - case.broken.keys()
    repeated = {t.partition("/")[0] for t in case.outlook.repeated}
    _, answered = run(case, len(providers_of(case)), lambda c: c.model.provider in alive)
    if alive - repeated or (alive and case.outlook.room):
        assert answered


@settings(max_examples=300, deadline=None)
@given(cases(), st.integers(1, 10))
def test_calls_are_independent_as_far_as_can_be(case: Case, attempts: int) -> None:
    """Never more calls than the envelope has. A provider at fault is called again only where every other still has an
    attempt, or none is left; the first call to one that has not failed needs no room."""
    calls, _ = run(case, attempts, lambda c: c.model.provider not in case.broken)
    assert len(calls) <= attempts
    seen: set[str] = set()
    tried: set[str] = set()
    for number, call in enumerate(calls):
        provider = call.candidate.model.provider
        others = {
            c.model.provider
            for c in case.plan.candidates
            if c.target not in tried and c.model.provider not in seen
        }
        if provider in seen and case.outlook.room:
            assert len(others) <= attempts - number - 1 if call.waited else not others
        first = provider not in seen and call.candidate.target not in case.outlook.repeated
        assert call.unpaid is (first or number == 0)
        seen.add(provider)
        tried.add(call.candidate.target)


@settings(max_examples=300, deadline=None)
@given(cases(), st.integers(2, 10))
def test_the_last_attempt_goes_to_the_last_resort(case: Case, attempts: int) -> None:
    """To the first of them whose provider is not at fault and that is not avoided, where there is one."""
    everything = dict.fromkeys(providers_of(case), ErrorClass.OVERLOADED)
    case = structs.replace(case, broken=everything, outlook=structs.replace(case.outlook, room=True))
    calls, _ = run(case, attempts, lambda _: False)
    if len(calls) < attempts:
        return
    before = {call.candidate.model.provider for call in calls[:-1]}
    resorts = [
        c
        for c in case.plan.candidates
        if c.entry.last_resort and c.model.provider not in before and c.target not in case.outlook.avoided
    ]
    if resorts:
        assert calls[-1].candidate is resorts[0]
