"""Keeps an answer to one call of a tool, for callers that asked for no more (`parallel_tool_calls` false): not every
vendor can be told so, and not every model does what it was told. The model calls the next in its next turn."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from libs.conversation import ToolCallDelta
from services.router.request.generation import Completion, StreamEvent


def keep_one_call(completion: Completion) -> Completion:
    """Returns the answer with its first call alone."""
    if len(completion.tool_calls) <= 1:
        return completion
    first = completion.tool_calls[:1]
    # Thoughts of calls that are not made belong to nothing.
    kept = tuple([thought for thought in completion.reasoning if thought.tool_call_id in ("", first[0].id)])
    return structs.replace(completion, tool_calls=first, reasoning=kept)


def keep_pieces_of_one_call(events: Sequence[StreamEvent]) -> Sequence[StreamEvent]:
    """Returns the events without pieces of other calls than the first."""
    return [event for event in events if not (isinstance(event, ToolCallDelta) and event.index > 0)]
