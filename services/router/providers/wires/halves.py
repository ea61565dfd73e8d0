"""Characters whose halves, as UTF-16 has them, some servers send in two pieces of a stream."""

from __future__ import annotations

from msgspec.structs import replace

from libs.conversation import ReasoningDelta, ToolCallDelta
from services.router.providers.wires.fields import join_halves
from services.router.request.generation import RefusalDelta, StreamEvent, TextDelta


def join_half(halves: dict[StreamEvent, str], key: StreamEvent, text: str) -> str:
    """Returns the text after the half of a character that ended the piece before. Its own last half waits."""
    text = halves.pop(key, "") + text
    if "\ud800" <= text[-1:] <= "\udbff":
        halves[key] = text[-1]
        text = text[:-1]
    return join_halves(text)


def half_lost(event: StreamEvent) -> StreamEvent:
    """Returns the event with the mark of a character of which only half came."""
    if isinstance(event, ReasoningDelta):
        return replace(event, piece=replace(event.piece, text="\ufffd"))
    if isinstance(event, ToolCallDelta):
        return replace(event, arguments_json="\ufffd")
    assert isinstance(event, TextDelta | RefusalDelta), "nothing else holds back halves"
    return replace(event, text="\ufffd")
