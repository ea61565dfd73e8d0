"""Reading of answers in one piece that several wires do alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import structs

from libs.conversation import Citation, Reasoning, ToolCall
from libs.types import FinishReason, Usage
from services.router.providers.wires.errors import malformed
from services.router.providers.wires.fields import Undecodable, as_dict, as_json_text, as_list, as_str, decode
from services.router.providers.wires.stream import needs_content
from services.router.request.generation import Completion


def decode_answer(body: bytes) -> Mapping[str, Any]:
    """Returns the object that an answer is, an empty one for other JSON. Raises ProviderFailure(MALFORMED)."""
    try:
        return as_dict(decode(body))
    except Undecodable:
        raise malformed("the answer is not JSON") from None


class WholeThoughts:
    """The thoughts of a whole answer: each belongs to the call that follows it, or to none where text does."""

    def __init__(self) -> None:
        self._thoughts: list[Reasoning] = []
        #: The first that nothing has followed yet.
        self._unfollowed = 0

    def add(self, thought: Reasoning) -> None:
        """Adds the next, unless there is nothing in it."""
        if thought.text or thought.opaque:
            self._thoughts.append(thought)

    def end_at_text(self) -> None:
        """Records that text follows."""
        self._unfollowed = len(self._thoughts)

    def end_at_call(self, call_id: str) -> None:
        """Records that a call follows."""
        for index in range(self._unfollowed, len(self._thoughts)):
            self._thoughts[index] = structs.replace(self._thoughts[index], tool_call_id=call_id)
        self._unfollowed = len(self._thoughts)

    def whole(self) -> tuple[Reasoning, ...]:
        """Returns all of them in their order."""
        return tuple(self._thoughts)


def complete(
    text: str,
    finish: FinishReason,
    usage: Usage | None,
    calls: tuple[ToolCall, ...] = (),
    model: str = "",
    *,
    reasoning: tuple[Reasoning, ...] = (),
    refusal: str = "",
    citations: tuple[Citation, ...] = (),
) -> Completion:
    """Returns the completion: calls without arguments have empty ones, and a stop after calls is theirs. Raises
    ProviderFailure(MALFORMED) where it is empty and its end does not explain it: thoughts alone are no answer."""
    if not text and not calls and not refusal and needs_content(finish):
        raise malformed("the answer is empty", usage)
    if calls:
        finish = finish_with_calls(finish, calls=True)
        calls = tuple(
            call if call.arguments_json.strip() else ToolCall(call.id, call.name, "{}") for call in calls
        )
    return Completion(text, finish, usage, calls, model, reasoning, refusal, citations)


def read_calls(message: Mapping[str, Any]) -> tuple[ToolCall, ...]:
    """Reads the tool calls of a message as chat completions have them, and Cohere and Ollama too."""
    return tuple(
        ToolCall(
            as_str(call.get("id")), as_str(function.get("name")), as_json_text(function.get("arguments"))
        )
        for call in map(as_dict, as_list(message.get("tool_calls")))
        if (function := as_dict(call.get("function")))
    )


def finish_with_calls(finish: FinishReason, *, calls: bool) -> FinishReason:
    """Returns the finish reason of a wire that has no word of its own for tool calls."""
    return FinishReason.TOOL_CALLS if calls and finish is FinishReason.STOP else finish
