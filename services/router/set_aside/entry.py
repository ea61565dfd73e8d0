"""A combination that is set aside, and the verdict on a call that is an instance of one."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import Struct

from libs.types import ErrorClass
from services.router.set_aside.combinations import LAST_RESORT, Combination, CombinationKind


@dataclass(slots=True)
class SetAsideEntry:
    """A combination that is set aside. Instants in epoch seconds."""

    combination: Combination
    error_class: ErrorClass
    #: The reason in words, for a person.
    reason: str
    since: float
    until: float
    #: Times in a row, this one included.
    times: int
    #: The version of the key that was used; empty: another kind.
    key: str = ""
    #: It was blamed by words alone: where no other candidate is left, it may be called after all.
    doubtful: bool = False
    #: A trial is running until then at the latest; 0: none.
    trial_until: float = 0.0

    def closed(self, now: float) -> bool:
        """Returns True if no call may go there now: its time is not over, or a trial is running."""
        return now < max(self.until, self.trial_until)

    @property
    def last_resort(self) -> bool:
        """Returns True if it may be called where no other candidate is left."""
        return self.doubtful or self.combination.kind in LAST_RESORT


class SetAsideVerdict(Struct, frozen=True):
    """The verdict on a call that is an instance of a combination set aside. `seconds`: until it may be made; None: it
    may be made now, as a trial. `last_resort`: it may be made where no other candidate is left."""

    reason: str
    seconds: float | None
    last_resort: bool
    kind: CombinationKind
