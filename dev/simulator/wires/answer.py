"""The answer of a virtual provider, in the parts that wires keep apart, and how a wire lays it out as a stream."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from dev.simulator.behaviour import OddCalls

encode = msgspec.json.encode
_PLAIN = OddCalls()


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as reported. `input` includes cached ones; `output` does not include `reasoning`."""

    input: int
    output: int
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0


@dataclass(slots=True)
class Part:
    """A piece of an answer that a wire keeps apart: thinking, text, or a call, whose pieces join to its arguments."""

    kind: Literal["thinking", "text", "call"]
    pieces: tuple[str, ...]
    #: The tool's, of a call.
    name: str = ""
    #: The same pieces as JSON strings.
    quoted: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        if len(self.quoted) != len(self.pieces):
            self.quoted = tuple(map(encode, self.pieces))

    @property
    def text(self) -> str:
        """Returns the pieces, joined."""
        return "".join(self.pieces)

    @property
    def arguments(self) -> Any:
        """Returns a call's arguments as an object; a call that was cut short has none."""
        try:
            return msgspec.json.decode(self.text.encode())
        except msgspec.DecodeError:
            return {}


@dataclass(slots=True)
class Answer:
    """The answer of the virtual provider."""

    parts: tuple[Part, ...]
    #: stop, stop_sequence, length, tool_calls, content_filter; None: the wire says nothing.
    finish: str | None
    usage: Usage | None
    stop_sequence: str | None = None
    #: Oddities of its calls.
    odd: OddCalls = _PLAIN

    @property
    def count(self) -> int:
        """Returns the number of its tokens."""
        return sum(len(part.pieces) for part in self.parts)

    @property
    def text(self) -> str:
        """Returns the text, without thinking and calls."""
        return "".join(part.text for part in self.parts if part.kind == "text")

    @property
    def thought(self) -> str | None:
        """Returns the thinking; None where there is none."""
        return next((part.text for part in self.parts if part.kind == "thinking"), None)

    @property
    def calls(self) -> list[Part]:
        """Returns the calls."""
        return [part for part in self.parts if part.kind == "call"]

    def finished(self, words: Mapping[str, str]) -> str | None:
        """Returns the wire's word for why it ended."""
        finish = "stop" if self.finish == "tool_calls" and self.odd.finish == "stop" else self.finish
        return None if finish is None else words.get(finish, finish)


@dataclass(frozen=True, slots=True)
class Script:
    """A streamed answer, each part one write. `opening` comes with the first token."""

    opening: bytes
    pieces: list[bytes]
    finish: bytes
    terminator: bytes
    malformed: bytes


def call_id(answer: Answer, uid: str, number: int, prefix: str) -> str | None:
    """Returns the id of a call by its number; None: the wire sends none."""
    ids = {
        "own": f"{prefix}{uid}" + (f"_{number}" if number else ""),
        "none": None,
        "empty": "",
        "repeated": f"call_{number}",
        "long": f"{prefix}{uid}".ljust(65, "x"),
        "dotted": f"functions.{answer.calls[number].name}:{number}",
    }
    return ids[answer.odd.ids]


def lay_out(
    answer: Answer,
    begin: Callable[[int, Part], bytes],
    token: Callable[[int, Part], tuple[bytes, bytes]],
    end: Callable[[int, Part], bytes],
    frame: Callable[[bytes], bytes] = bytes,
) -> tuple[bytes, list[bytes], bytes]:
    """Returns the events of the parts: what comes before the first token, one write a token, and what closes the last
    part. `token` gives what stands before and after a token's JSON string; `frame` makes an event of the three."""
    opening, events, pending = b"", [], b""
    for number, part in enumerate(answer.parts):
        if number:
            pending += begin(number, part)
        else:
            opening = begin(number, part)
        before, after = token(number, part)
        events.extend([frame(before + quoted + after) for quoted in part.quoted])
        if pending and part.quoted:
            place = len(events) - len(part.quoted)
            events[place] = pending + events[place]
            pending = b""
        pending += end(number, part)
    return opening, events, pending
