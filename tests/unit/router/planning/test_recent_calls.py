"""Evidence of recent calls: who is avoided, and for whom a further call is a repetition."""

from __future__ import annotations

import pytest

from libs.types import ErrorClass
from services.router.planning.recent_calls import (
    AVOID_SILENT,
    AVOID_VISIBLE,
    LATE,
    OF_PROVIDER,
    PROVEN,
    REMEMBERED,
    RecentCalls,
)
from tests.support.routing import model

A, SIBLING, B = model("a/m"), model("a/n"), model("b/m")
#: Seconds that a provider may fairly take for an answer.
FAIR = 2.0


def call(
    recent: RecentCalls,
    name: str,
    failure: ErrorClass | None,
    *,
    at: float,
    took: float = 0.1,
    caller: str = "one",
) -> None:
    """One call to a model of A's provider that ended."""
    recent.begin(name, A, caller, at, FAIR, extra=False)
    recent.end(name, A, caller, at + took, failure)


@pytest.mark.parametrize("failure", sorted(OF_PROVIDER))
def test_a_visible_fault_is_avoided_when_it_repeats_and_a_timeout_at_once(failure: ErrorClass) -> None:
    """For a short time, and so are the provider's other models; what `set_aside` acts upon is not avoided."""
    recent = RecentCalls()
    call(recent, "1", failure, at=0.0)
    assert recent.avoids(A, "one", 0.2) is (failure is ErrorClass.TIMEOUT)
    call(recent, "2", failure, at=0.2)
    account = failure in (ErrorClass.AUTHENTICATION, ErrorClass.QUOTA_EXHAUSTED)
    span = AVOID_SILENT if failure is ErrorClass.TIMEOUT else AVOID_VISIBLE
    for target in (A, SIBLING):
        assert recent.avoids(target, "one", 0.3) is not account
        assert not recent.avoids(target, "one", 0.4 + span)
    assert not recent.avoids(B, "one", 0.3)
    assert recent.all_quiet(0.4 + AVOID_SILENT)


@pytest.mark.parametrize("sign", ["shown", "answer", "refusal of the request"])
def test_an_answer_clears_all(sign: str) -> None:
    """The first content is an answer, and what the request was refused for is one, too."""
    recent = RecentCalls()
    for number in range(3):
        call(recent, f"{number}", ErrorClass.TIMEOUT, at=0.0)
    assert recent.avoids(A, "one", 1.0)
    assert recent.repeats(A, 1.0)
    recent.begin("a", A, "one", 1.0, FAIR, extra=False)
    if sign == "shown":
        recent.shown("a", 1.1)
    else:
        recent.end("a", A, "one", 1.1, None if sign == "answer" else ErrorClass.CONTEXT_TOO_LONG)
    assert not recent.avoids(A, "one", 1.2)
    assert not recent.repeats(A, 1.2)


def test_a_late_call_is_evidence_before_it_ends() -> None:
    """Of the model and its provider, until a call that began after it is answered; an earlier one's answer, which may
    have come from before the fault, says nothing."""
    recent = RecentCalls()
    recent.begin("earlier", A, "one", 0.0, 60.0, extra=False)
    recent.begin("silent", A, "one", 1.0, FAIR, extra=False)
    late = 1.0 + LATE * FAIR
    assert recent.all_quiet(late - 0.01)
    assert not recent.all_quiet(late)
    recent.shown("earlier", late)
    for target in (A, SIBLING):
        assert recent.avoids(target, "one", late)
        assert recent.repeats(target, late)
    recent.begin("later", A, "one", late, FAIR, extra=False)
    recent.shown("later", late + 0.1)
    assert not recent.avoids(A, "one", late + 0.2)


@pytest.mark.parametrize("end", [None, ErrorClass.CANCELLED])
def test_a_late_call_that_ends_without_a_fault_is_none(end: ErrorClass | None) -> None:
    """Nothing is left of it."""
    recent = RecentCalls()
    recent.begin("1", A, "one", 0.0, FAIR, extra=True)
    assert recent.avoids(A, "one", FAIR)
    recent.end("1", A, "one", FAIR, end)
    assert not recent.avoids(A, "one", FAIR)
    assert not recent.repeats(A, FAIR)
    assert recent.all_quiet(FAIR)


def test_one_callers_failures_are_its_own_until_another_meets_them() -> None:
    """Ended calls and late ones alike. Another call is a repetition for all: it has a share of the budget."""
    recent = RecentCalls()
    for number in range(3):
        call(recent, f"{number}", ErrorClass.SERVER_ERROR, at=0.0)
    recent.begin("late", A, "one", 0.0, FAIR, extra=False)
    assert recent.avoids(A, "one", FAIR)
    assert not recent.avoids(A, "two", FAIR)
    assert recent.repeats(A, FAIR)
    call(recent, "two", ErrorClass.SERVER_ERROR, at=FAIR, caller="two")
    for caller in ("one", "two", "three"):
        assert recent.avoids(A, caller, FAIR + 0.2), caller


def test_a_further_call_repeats_what_has_failed_within_a_minute() -> None:
    """Other models of the provider count as the same."""
    recent = RecentCalls()
    call(recent, "1", ErrorClass.OVERLOADED, at=0.0)
    for target in (A, SIBLING):
        assert recent.repeats(target, REMEMBERED - 0.1)
        assert not recent.repeats(target, REMEMBERED + 0.2)
    assert not recent.repeats(B, 0.2)


def test_one_extra_call_at_a_time_finds_out_whether_a_provider_answers() -> None:
    """Any number passes at one that has just answered."""
    recent = RecentCalls()
    recent.begin("1", A, "one", 0.0, FAIR, extra=True)
    assert recent.repeats(A, 0.1)
    assert recent.repeats(SIBLING, 0.1)
    recent.shown("1", 0.2)
    recent.begin("2", A, "one", 0.3, FAIR, extra=True)
    assert not recent.repeats(A, 0.2 + PROVEN)
    assert recent.repeats(A, 0.3 + PROVEN)
    recent.end("2", A, "one", 0.4 + PROVEN, ErrorClass.CANCELLED)
    assert not recent.repeats(A, 0.4 + PROVEN)


def test_calls_that_have_ended_leave_nothing_that_grows() -> None:
    """A hundred thousand of them, answered or not."""
    recent = RecentCalls()
    for number in range(100_000):
        failure = (None, ErrorClass.TIMEOUT, ErrorClass.CANCELLED)[number % 3]
        call(recent, f"{number}", failure, at=number / 100, took=0.01)
        recent.all_quiet(number / 100)
    assert len(recent._running) == 0
    assert recent._late == 0
    assert not any(place.late for places in recent._places.values() for place in places)
