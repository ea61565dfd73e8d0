"""Admission as the attempt loop needs it: a claim on limits, and the permit that it gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from libs.limits import Amounts, Scope
from libs.types import Priority


class Permit(Protocol):
    """Admission of one attempt; exactly one of its methods is called, once."""

    def settle(self, used: Amounts) -> None:
        """The attempt used this much."""
        ...

    def cancel(self) -> None:
        """The attempt never happened."""
        ...


class Claim(Struct, frozen=True):
    """What an attempt asks limits for, and how it stands in the queue for them."""

    scopes: tuple[Scope, ...]
    amounts: Amounts
    tenant: str
    priority: Priority
    #: How long it may wait in the queue, seconds; 0: not at all.
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
