"""Evidence of a provider's limits: stated by one answer, and learned from many."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from msgspec import Struct

from libs.limits import Period, Unit


class Source(StrEnum):
    """The kind of evidence that a learned limit rests on."""

    HEADERS = "headers"
    REFUSALS = "refusals"


@dataclass(frozen=True, slots=True)
class ObservedLimit:
    """One limit as stated by an answer.

    `unit`: requests or tokens. `limit`, `remaining`: in that unit, None where not stated; at least one is.
    `reset_seconds`: until the limit is whole again, None where not stated. `period`: NONE where the headers do not
    say it.
    """

    unit: Unit
    limit: int | None
    remaining: int | None
    reset_seconds: float | None
    period: Period = Period.NONE


class LearnedLimit(Struct, frozen=True):
    """A limit of a model with its evidence. `value` per `period`: of the whole account where headers said so, this
    router's own share where refusals did. `confidence` 0 to 1. `seen`: epoch seconds of the last evidence."""

    target: str
    unit: Unit
    period: Period
    value: int
    confidence: float
    source: Source
    seen: float
    observations: int
