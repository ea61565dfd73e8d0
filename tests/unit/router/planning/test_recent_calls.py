"""Evidence of recent calls: who is avoided, and for whom a further call is a repetition."""

from __future__ import annotations

import pytest

from libs.types import ErrorClass
from services.router.planning.recent_calls import (
    AVOID_SILENT,
    AVOID_VISIBLE,
    LATE,
    MOST_HURRIED,
    OF_PROVIDER,
    PROVEN,
    REMEMBERED,
    VISIBLE_ROW,
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


@pytest.mark.parametrize("failure", [ErrorClass.TIMEOUT, ErrorClass.OVERLOADED])
def test_regression_the_model_named_first_is_avoided_for_its_own_faults_alone(failure: ErrorClass) -> None:
    """Named regression: one silent model kept callers who named another of its provider from it for 15 s, so that a
    refusal of theirs was routed around. Models named as fallbacks are called where they are independent."""
    recent = RecentCalls()
    for number in range(VISIBLE_ROW):
        call(recent, f"{number}", failure, at=0.0)
    assert recent.avoids(A, "one", 0.2, named=A.id)
    assert recent.avoids(SIBLING, "one", 0.2, named=A.id)
    assert not recent.avoids(SIBLING, "one", 0.2, named=SIBLING.id)


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


def test_doubt_follows_a_silence_until_an_answer_or_for_a_minute() -> None:
    """For all models of the provider; a visible fault leaves none."""
    recent = RecentCalls()
    call(recent, "1", ErrorClass.OVERLOADED, at=0.0)
    assert not recent.is_doubted(A, "one", 0.2)
    call(recent, "2", ErrorClass.TIMEOUT, at=1.0, took=2.0)
    assert recent.is_doubted(A, "one", 3.1)
    assert recent.is_doubted(SIBLING, "one", 2.9 + REMEMBERED)
    assert not recent.is_doubted(A, "one", 3.0 + REMEMBERED)
    assert not recent.is_doubted(B, "one", 3.1)
    call(recent, "3", None, at=4.0)
    assert not recent.is_doubted(A, "one", 4.2)


def hurry(
    recent: RecentCalls, name: str, caller: str, *, at: float, took: float, usual: float | None
) -> None:
    """A call to A that its caller's deadline cut."""
    recent.begin(name, A, caller, at, FAIR, extra=False, usual=usual)
    recent.end(name, A, caller, at + took, ErrorClass.CANCELLED, hurried=True)


def test_regression_a_caller_in_a_hurry_learns_of_a_silent_target_too() -> None:
    """Named regression: with deadlines of a second or two every call waited for a silent provider, and with four of
    them none was answered, since a deadline that cuts a call is no fault of its provider. It is avoided for those
    callers alone, not where it had no time to answer, and until it answers anybody."""
    recent = RecentCalls()
    hurry(recent, "1", "one", at=0.0, took=0.6, usual=0.4)
    assert not recent.avoids(A, "one", 0.7)
    hurry(recent, "2", "one", at=1.0, took=0.6, usual=0.1)
    hurry(recent, "3", "two", at=1.0, took=0.6, usual=None)
    for caller, concerned in (("one", True), ("two", True), ("patient", False)):
        for target in (A, SIBLING):
            assert recent.avoids(target, caller, 1.7) is concerned
            assert recent.is_doubted(target, caller, 1.7 + AVOID_SILENT) is concerned
            assert not recent.avoids(target, caller, 1.7 + AVOID_SILENT)
    assert not recent.repeats(A, 1.7)
    call(recent, "4", None, at=2.0, caller="patient")
    assert not recent.avoids(A, "one", 2.2)
    assert not recent.is_doubted(A, "one", 2.2)


def test_callers_in_a_hurry_are_remembered_up_to_a_bound() -> None:
    """The latest."""
    recent = RecentCalls()
    for number in range(3 * MOST_HURRIED):
        hurry(recent, f"{number}", f"tenant {number}", at=0.0, took=0.6, usual=None)
    avoided = [number for number in range(3 * MOST_HURRIED) if recent.avoids(A, f"tenant {number}", 1.0)]
    assert avoided == list(range(2 * MOST_HURRIED, 3 * MOST_HURRIED))
