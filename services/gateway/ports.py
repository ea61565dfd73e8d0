"""What the gateway needs."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from typing import Protocol

from libs.client.model import Event, Listing, Result
from libs.client.request import Message, Options


@dataclass(frozen=True, slots=True)
class Call:
    """One generation of one tenant. `timeout` is in seconds; None: the tenant's default."""

    key: str = field(repr=False)
    messages: tuple[Message, ...] = field(repr=False)
    options: Options = field(repr=False)
    timeout: float | None = None


class Router(Protocol):
    """Routes generations. Every method raises libs.errors."""

    async def generate(self, call: Call) -> Result:
        """The answer in one piece. Cancelling it stops the provider."""
        ...

    def stream(self, call: Call) -> AsyncGenerator[Event, None]:
        """The answer as events; the last is Completed. Closing it stops the provider."""
        ...

    async def models(self, key: str) -> Listing:
        """What the tenant may name."""
        ...

    async def ready(self) -> bool:
        """Whether a router that serves is connected. Never raises."""
        ...
