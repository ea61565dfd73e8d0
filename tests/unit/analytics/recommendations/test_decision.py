"""Decisions: what may follow what, by which version, and that a repeated one does no harm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound
from services.analytics.recommendations.decision import (
    Decision,
    KeptRecommendation,
    Standing,
    Verdict,
    decide,
)
from tests.support.ledger import NOW
from tests.support.recommendations import a_recommendation

OPEN = KeptRecommendation(a_recommendation(), NOW, NOW)
ID = OPEN.recommendation.id


def by_ann(verdict: Verdict, version: int, at: float = NOW) -> Decision:
    return Decision(ID, version, verdict, "ann", at, until=NOW + 100 if verdict is Verdict.SNOOZE else None)


def after(*verdicts: Verdict) -> KeptRecommendation:
    kept = OPEN
    for verdict in verdicts:
        kept = decide(kept, by_ann(verdict, kept.version), NOW)
    return kept


@pytest.mark.parametrize(
    ("verdict", "standing"),
    [
        (Verdict.ACCEPT, Standing.ACCEPTED),
        (Verdict.REJECT, Standing.REJECTED),
        (Verdict.SNOOZE, Standing.SNOOZED),
    ],
)
def test_each_verdict_may_be_undone(verdict: Verdict, standing: Standing) -> None:
    """It is open again, by who and when; each decision counts."""
    decided = after(verdict)
    assert (decided.standing, decided.version) == (standing, 1)
    undone = decide(decided, by_ann(Verdict.UNDO, 1), NOW)
    assert (undone.standing, undone.version) == (Standing.OPEN, 2)
    assert undone.last == by_ann(Verdict.UNDO, 1)


@pytest.mark.parametrize(
    ("kept", "verdict"),
    [
        (OPEN, Verdict.UNDO),
        (after(Verdict.ACCEPT), Verdict.REJECT),
        (after(Verdict.ACCEPT), Verdict.ACCEPT),
        (after(Verdict.REJECT), Verdict.SNOOZE),
        (after(Verdict.ACCEPT, Verdict.UNDO), Verdict.UNDO),
    ],
)
def test_what_cannot_follow_is_refused(kept: KeptRecommendation, verdict: Verdict) -> None:
    """An accepted or rejected one is undone first, and what is open cannot be."""
    with pytest.raises(FailedPrecondition) as refused:
        decide(kept, by_ann(verdict, kept.version), NOW)
    assert refused.value.reason == "RECOMMENDATION_DECIDED"


def test_who_decides_on_an_old_version_reads_again() -> None:
    """ABORTED names the version that there is now."""
    with pytest.raises(Aborted) as aborted:
        decide(after(Verdict.SNOOZE), replace(by_ann(Verdict.ACCEPT, 0), by="bob"), NOW)
    assert (aborted.value.reason, aborted.value.metadata) == ("RECOMMENDATION_CHANGED", {"version": "1"})


def test_a_snooze_ends_by_itself() -> None:
    """Then it is open, and may be decided about as such."""
    snoozed = after(Verdict.SNOOZE)
    assert snoozed.standing_at(NOW + 99) is Standing.SNOOZED
    assert snoozed.standing_at(NOW + 100) is Standing.OPEN
    for at in (NOW, NOW + 100, NOW + 400 * 86_400):
        assert decide(snoozed, by_ann(Verdict.ACCEPT, 1, at), NOW).standing is Standing.ACCEPTED


def test_nobody_decides_on_what_the_last_look_did_not_find() -> None:
    """An open one, or one whose snooze has ended, is gone with its evidence; the same call again, and what undoes a
    decision, are as before."""
    later = NOW + 50
    for kept, at in (
        (OPEN, NOW),
        (after(Verdict.SNOOZE), NOW + 200),
        (after(Verdict.ACCEPT, Verdict.UNDO), NOW),
    ):
        assert kept.is_gone(at, later)
        with pytest.raises(NotFound):
            decide(kept, replace(by_ann(Verdict.REJECT, kept.version), at=at), later)
    accepted = after(Verdict.ACCEPT)
    assert not accepted.is_gone(NOW, later)
    assert decide(accepted, by_ann(Verdict.ACCEPT, 0), later) is accepted
    assert decide(accepted, by_ann(Verdict.UNDO, 1), later).standing is Standing.OPEN
    assert decide(after(Verdict.SNOOZE), by_ann(Verdict.ACCEPT, 1), later).standing is Standing.ACCEPTED


@given(st.lists(st.sampled_from(Verdict), max_size=8))
def test_a_repeated_decision_changes_nothing(verdicts: list[Verdict]) -> None:
    """Whatever was decided: the same call again, later, gives the same."""
    kept = OPEN
    for verdict in verdicts:
        decision = by_ann(verdict, kept.version)
        try:
            kept = decide(kept, decision, NOW)
        except FailedPrecondition:
            continue
        assert decide(kept, replace(decision, at=NOW + 50), NOW) is kept


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"id": ""}, "id"),
        ({"id": "x" * 129}, "id"),
        ({"by": ""}, "decided_by"),
        ({"by": "a\0b"}, "decided_by"),
        ({"note": "x" * 501}, "note"),
        ({"version": -1}, "version"),
        ({"until": NOW + 1}, "snoozed_until"),
        ({"verdict": Verdict.SNOOZE}, "snoozed_until"),
        ({"verdict": Verdict.SNOOZE, "until": NOW}, "snoozed_until"),
        ({"verdict": Verdict.SNOOZE, "until": NOW + 400 * 86_400}, "snoozed_until"),
        ({"verdict": Verdict.SNOOZE, "until": float("nan")}, "snoozed_until"),
    ],
)
def test_wrong_fields_are_named(fields: Mapping[str, object], named: str) -> None:
    """Each by its name in the proto."""
    with pytest.raises(InvalidArgument) as refused:
        replace(by_ann(Verdict.ACCEPT, 0), **fields)  # type: ignore[arg-type]
    assert [fault.field for fault in refused.value.violations] == [named]
