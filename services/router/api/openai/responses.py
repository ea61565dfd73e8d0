"""A response, whole or as a stream of typed events.

References: https://platform.openai.com/docs/api-reference/responses/object and …/responses-streaming. Nothing is
stored: `store` is always false. Beyond OpenAI's fields a finished response has `pointsman` (see
`account.pointsman_object`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from libs.answer import Result
from libs.conversation import Reasoning
from services.router.api.openai.exchange import ParsedRequest
from services.router.api.openai.responses_events import (
    PREFIXES,
    ResponseHead,
    ResponsesStream,
    finished_response,
)
from services.router.api.openai.responses_items import Item, ItemKind
from services.router.api.openai.responses_request import read_responses

_encode = msgspec.json.Encoder().encode


class ResponsesExchange:
    """Satisfies `exchange.Exchange`."""

    def __init__(self, body: bytes, headers: Mapping[str, str], request_id: str) -> None:
        """Reads the request. Raises ApiError."""
        self.request: ParsedRequest
        self.request, self._echo, self._sealed = read_responses(body, headers, request_id)

    def whole(self, result: Result, created: int) -> bytes:
        """See `Exchange.whole`."""
        output: list[Item] = []

        def add(kind: ItemKind, text: str, call_id: str = "", name: str = "") -> Item:
            number = len(output)
            item = Item(number, kind, f"{PREFIXES[kind]}_{result.request_id}_{number}", call_id, name, [text])
            output.append(item)
            return item

        def think(of: Callable[[Reasoning], bool]) -> None:
            for thought in result.reasoning:
                if of(thought) and (thought.text or self._sealed):
                    item = add(ItemKind.THOUGHT, thought.text)
                    item.thought, item.sealed = thought, self._sealed

        calls = {call.id for call in result.tool_calls}
        think(lambda thought: thought.tool_call_id not in calls)
        if result.text or not (result.tool_calls or result.refusal):
            add(ItemKind.MESSAGE, result.text).citations.extend(result.citations)
        if result.refusal:
            add(ItemKind.REFUSAL, result.refusal)
        for call in result.tool_calls:
            think(lambda thought, call_id=call.id: thought.tool_call_id == call_id)  # type: ignore[misc]
            add(ItemKind.CALL, call.arguments_json, call.id, call.name)
        return _encode(
            finished_response(ResponseHead(self._echo, result.request_id, created), result, output)
        )

    def stream(self, request_id: str, created: int) -> ResponsesStream:
        """See `Exchange.stream`."""
        return ResponsesStream(ResponseHead(self._echo, request_id, created), sealed=self._sealed)
