"""A request in one of OpenAI's two dialects, and the encoders of its answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from msgspec import Struct

from libs.answer import Delta, Restarted, Result, Selection
from services.router.api.accept import Draft
from services.router.api.openai.errors import ApiError
from services.router.api.openai.routing import OnRestart


class ParsedRequest(Struct, frozen=True):
    """A client's request as it was read. `names`: the router's name of a field → the client's, for errors. `timeout`
    is in seconds; None: the tenant's default. `ignored`: fields that are set and that nothing is made of."""

    draft: Draft
    stream: bool
    timeout: float | None
    on_restart: OnRestart
    names: Mapping[str, str]
    ignored: tuple[str, ...] = ()


class StreamEncoder(Protocol):
    """Writes one streamed answer as server-sent events; called in the order of the methods."""

    def begin(self, selection: Selection) -> bytes:
        """Returns the bytes that come before the first delta."""
        ...

    def delta(self, delta: Delta) -> bytes:
        """Returns more of the answer."""
        ...

    def restarted(self, restarted: Restarted) -> bytes:
        """Returns the notice that everything so far is void; for clients that ask for it (OnRestart.REPLACE)."""
        ...

    def void_thoughts(self) -> bytes:
        """Returns the bytes that end the thoughts so far, which belong to no answer; nothing else was sent."""
        ...

    def finish(self, result: Result) -> bytes:
        """Returns the end of a whole answer."""
        ...

    def fail(self, error: ApiError) -> bytes:
        """Returns the end of an answer that could not be completed, which no client takes for a proper end."""
        ...


class Exchange(Protocol):
    """One request and its answer."""

    @property
    def request(self) -> ParsedRequest:
        """The request."""
        ...

    def whole(self, result: Result, created: int) -> bytes:
        """Returns the body of an answer in one piece. `created`: epoch seconds."""
        ...

    def stream(self, request_id: str, created: int) -> StreamEncoder:
        """Returns the encoder of a streamed answer."""
        ...
