"""Admission as the attempt loop needs it: a claim on limits, and the permit that it gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from msgspec import Struct

from libs.limits import Amounts, Scope
from libs.types import Priority


class Permit:
    """The admission of one attempt: room in limits, given back once, by either `settle` or `cancel`."""

    __slots__ = ("_give_back", "_on_end")

    def __init__(self, give_back: Callable[[Amounts | None], None]) -> None:
        """`give_back` returns to the limits what was not used; None: all, the attempt never happened."""
        self._give_back = give_back
        self._on_end: list[Callable[[], None]] = []

    def on_end(self, call: Callable[[], None]) -> None:
        """Calls it as the permit ends, however it does, after the limits have back what was not used."""
        self._on_end.append(call)

    def settle(self, used: Amounts) -> None:
        """Ends it after the attempt used this much."""
        self._end(used)

    def cancel(self) -> None:
        """Ends it without an attempt."""
        self._end(None)

    def _end(self, used: Amounts | None) -> None:
        self._give_back(used)
        for call in self._on_end:
            call()


class Claim(Struct, frozen=True):
    """A demand for room in limits, and its place in the queue for them."""

    scopes: tuple[Scope, ...]
    amounts: Amounts
    tenant: str
    priority: Priority
    #: The longest it may wait in the queue, seconds; 0: not at all.
    patience: float = 0.0
    #: It may wait for limits that are paced, and for no others.
    only_paced: bool = False


class Admission(Protocol):
    """Limits, quotas and budgets."""

    def try_admit(self, scopes: Sequence[Scope], amounts: Amounts) -> Permit | None:
        """Admits at once from what is leased; None: ask `admit`."""
        ...

    async def admit(self, claim: Claim, timeout: float) -> Permit:
        """Admits after asking the limiter, whose answer is waited for at most `timeout` seconds, and after waiting in
        the queue where the claim may. Raises AdmissionDenied."""
        ...
