"""The shape every provider wire has: pure translation, no I/O.

A wire turns a prompt into an HTTP request and HTTP answers into completions, events and classified failures. One
transport (`http_transport.py`) moves the bytes, so a wire can be fed recorded exchanges as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from msgspec import Struct

from libs.types import FinishReason, Usage
from services.router.providers.wires.validity.inverse import UNCHANGED, Inverse
from services.router.request.generation import Completion, Prompt, ProviderFailure, StreamEvent


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address and the key for calls to one model: from the catalog and the secret store, fixed until either
    changes."""

    base_url: str
    #: The model's name on the provider's wire.
    model: str
    #: The secret. Never printed: excluded from repr.
    api_key: str
    #: Wire-specific settings from the catalog (Azure `api_version`, Vertex `project` and `region`, ...).
    options: Mapping[str, str]
    #: The model thinks before it answers.
    reasons: bool = False
    #: Tokens that the model writes at most; None: not known.
    max_output_tokens: int | None = None
    #: The model goes on from a begun answer.
    prefill: bool = True

    def __repr__(self) -> str:
        return f"Endpoint({self.base_url!r}, {self.model!r})"


class HttpRequest(Struct, frozen=True):
    """A request to send."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes
    #: The changes that made the prompt valid for the vendor, to be undone in its answer.
    inverse: Inverse = UNCHANGED
    #: The prompt's options that the wire has no form for.
    ignored: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"HttpRequest({self.method} {self.url})"


class StreamDecoder(Protocol):
    """Turns the bytes of one stream into events, incrementally. Chunk borders mean nothing."""

    #: The finish reason, once it came.
    finish: FinishReason | None
    #: The model's name.
    model: str

    @property
    def usage(self) -> Usage | None:
        """The usage told so far. EXACT once it is all told, at the end of the answer."""
        ...

    def feed(self, chunk: bytes) -> list[StreamEvent]:
        """Returns the events completed by this chunk. Raises ProviderFailure on an error event or an undecodable
        stream; where the same chunk completed events too, they are returned and the next call raises. A StreamEnd is
        emitted at most once and last."""
        ...

    def close(self) -> list[StreamEvent]:
        """Ends the stream, whose connection ended, broke or fell silent for good. Returns the events held back (a
        StreamEnd where a finish reason was seen without the terminator). Raises ProviderFailure(TRANSPORT or
        MALFORMED) where the answer is incomplete."""
        ...


class Wire(Protocol):
    """One provider's wire format."""

    def request(self, prompt: Prompt, endpoint: Endpoint, *, stream: bool) -> HttpRequest:
        """Returns the HTTP request for a prompt."""
        ...

    def completion(self, status: int, headers: Mapping[str, str], body: bytes) -> Completion:
        """Reads a successful answer in one piece. Raises ProviderFailure where a 200 holds an error or nothing
        usable."""
        ...

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderFailure:
        """Classifies an unsuccessful answer (status >= 400). Header names are lower case. Never raises."""
        ...

    def decoder(self, *, may_be_empty: bool = False) -> StreamDecoder:
        """Returns a decoder for one stream. `may_be_empty`: an answer without text and tool calls is one too (a
        stream that continues text already sent may have nothing to add); otherwise it fails as MALFORMED."""
        ...
