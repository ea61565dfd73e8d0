"""Decisions about recommendations: what may follow what, and the port that keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, Protocol

from libs.bounds import MAX_ID, MAX_REASON
from libs.errors import Aborted, FailedPrecondition, FieldViolation, InvalidArgument, NotFound
from services.analytics.recommendations.recommendation import Recommendation

#: The longest snooze, seconds.
MAX_SNOOZE: Final = 366 * 86_400.0
_MICROSECONDS: Final = 6


class Verdict(StrEnum):
    """The decision of an operator. Stored."""

    ACCEPT = "accept"
    REJECT = "reject"
    SNOOZE = "snooze"
    UNDO = "undo"


class Standing(StrEnum):
    """The state of a recommendation. Stored."""

    OPEN = "open"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    SNOOZED = "snoozed"


_AFTER: Final = {
    Verdict.ACCEPT: Standing.ACCEPTED,
    Verdict.REJECT: Standing.REJECTED,
    Verdict.SNOOZE: Standing.SNOOZED,
    Verdict.UNDO: Standing.OPEN,
}


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict by somebody at an instant (epoch seconds), on a recommendation as it was at `version`. `until`: of a
    snooze; instants are taken to the microsecond. Raises InvalidArgument naming each wrong field."""

    id: str
    version: int
    verdict: Verdict
    by: str
    at: float
    note: str = ""
    until: float | None = None

    def __post_init__(self) -> None:
        faults = []
        for name, text, least, most in (
            ("id", self.id, 1, MAX_ID),
            ("decided_by", self.by, 1, MAX_ID),
            ("note", self.note, 0, MAX_REASON),
        ):
            if not least <= len(text) <= most or "\0" in text:
                faults.append(FieldViolation(name, f"must have {least} to {most} characters and no NUL"))
        if not 0 <= self.version < 2**62:
            faults.append(FieldViolation("version", "must be that of the recommendation, as it was listed"))
        snooze = self.verdict is Verdict.SNOOZE
        if snooze and (self.until is None or not self.at < self.until <= self.at + MAX_SNOOZE):
            faults.append(FieldViolation("snoozed_until", "must be after now, and at most a year ahead"))
        if not snooze and self.until is not None:
            faults.append(FieldViolation("snoozed_until", "must be set to snooze only"))
        if faults:
            raise InvalidArgument(faults)
        # As they are kept, so that a repeated decision is the same.
        object.__setattr__(self, "at", round(self.at, _MICROSECONDS))
        if self.until is not None:
            object.__setattr__(self, "until", round(self.until, _MICROSECONDS))

    @property
    def said(self) -> tuple[str, int, Verdict, str, str, float | None]:
        """Returns all but the instant: a repeated call has the same."""
        return self.id, self.version, self.verdict, self.by, self.note, self.until


@dataclass(frozen=True, slots=True)
class KeptRecommendation:
    """A recommendation and what was decided about it. `found`, `seen`: epoch seconds of the first and the last look
    that found it. `version`: counts the decisions; `last` is the latest of them. Once accepted it stays as it was
    accepted."""

    recommendation: Recommendation
    found: float
    seen: float
    standing: Standing = Standing.OPEN
    version: int = 0
    last: Decision | None = None

    def standing_at(self, now: float) -> Standing:
        """Returns its state: a snooze ends by itself."""
        last = self.last
        if self.standing is Standing.SNOOZED and last is not None and (last.until or 0.0) <= now:
            return Standing.OPEN
        return self.standing

    def is_gone(self, now: float, looked: float) -> bool:
        """Returns True if it is open and the last look, at `looked`, did not find it: what spoke for it holds no
        more."""
        return self.standing_at(now) is Standing.OPEN and self.seen < looked


def decide(kept: KeptRecommendation, decision: Decision, looked: float) -> KeptRecommendation:
    """Returns the recommendation after a decision; as it is where that was made already, so a repeated call does no
    harm. `looked`: epoch seconds of the last look. Raises NotFound where it is gone, Aborted where it has changed
    since, FailedPrecondition for what cannot follow its state."""
    last = kept.last
    if last is not None and last.said == decision.said:
        return kept
    if kept.is_gone(decision.at, looked):
        raise no_such(decision.id)
    if decision.version != kept.version:
        raise Aborted(
            f"Somebody has decided about this recommendation: it is {kept.standing} at version {kept.version}; read "
            "it again",
            reason="RECOMMENDATION_CHANGED",
            metadata={"version": str(kept.version)},
        )
    if decision.verdict is Verdict.UNDO:
        if kept.standing is Standing.OPEN:
            raise FailedPrecondition(
                "The recommendation is open: there is nothing to undo", reason="RECOMMENDATION_DECIDED"
            )
    elif kept.standing in (Standing.ACCEPTED, Standing.REJECTED):
        raise FailedPrecondition(
            f"The recommendation is {kept.standing}: undo that first", reason="RECOMMENDATION_DECIDED"
        )
    return replace(kept, standing=_AFTER[decision.verdict], version=kept.version + 1, last=decision)


def no_such(recommendation_id: str) -> NotFound:
    """Returns the error for an id that names no recommendation, or one that the last look did not find again."""
    return NotFound(f"There is no recommendation {recommendation_id!r}", reason="RECOMMENDATION_NOT_FOUND")


def in_order(kept: KeptRecommendation) -> tuple[str, float, str]:
    """Returns its place in a list: by unit, the largest saving first."""
    found = kept.recommendation
    return found.unit, -found.saving.p50, found.id


class RecommendationStore(Protocol):
    """Keeps findings and decisions. All methods raise Unavailable while the store is gone."""

    async def last_look(self) -> tuple[float, bytes] | None:
        """Returns the instant of the last look (epoch seconds) and its summary; None: there was none."""
        ...

    async def keep(self, found: Sequence[Recommendation], at: float, summary: bytes) -> None:
        """Keeps what a look at `at` found. What is accepted stays as it was accepted; a look older than the last one
        changes nothing."""
        ...

    async def all(self) -> list[KeptRecommendation]:
        """Returns those of the last look, and all that were decided about and are open no more, or were snoozed; the
        largest saving first within a unit."""
        ...

    async def decide(self, decision: Decision) -> KeptRecommendation:
        """Applies `decide`, all or nothing against other decisions. Raises NotFound, and as `decide`."""
        ...
