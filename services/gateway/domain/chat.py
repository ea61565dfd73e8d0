"""A chat completions answer, whole or as a stream of chunks.

References: https://platform.openai.com/docs/api-reference/chat/object and …/chat-streaming. Beyond OpenAI's fields
there is `pointsman` (see `account.extension`): in the body of an answer in one piece, and in the last chunk of a
stream before `[DONE]`, which is the usage chunk where the client asked for one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from libs.client.model import Delta, Restarted, Result, Selection
from libs.client.request import ToolCall
from services.gateway.domain.account import FINISH_REASONS, chat_usage, extension, model_id
from services.gateway.domain.chat_request import read_chat
from services.gateway.domain.errors import ApiError
from services.gateway.domain.exchange import Ask

_encode = msgspec.json.Encoder().encode
_DONE = b"data: [DONE]\n\n"


class ChatExchange:
    """Satisfies `exchange.Exchange`."""

    def __init__(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Raises ApiError."""
        self.ask: Ask
        self.ask, self._include_usage = read_chat(body, headers)

    def whole(self, result: Result, created: int) -> bytes:
        """See `Exchange.whole`."""
        message: dict[str, Any] = {
            "role": "assistant",
            # As OpenAI does it: null where there are only calls.
            "content": result.text or (None if result.tool_calls else ""),
            "refusal": None,
            "annotations": [],
        }
        if result.tool_calls:
            message["tool_calls"] = [_tool_call(call) for call in result.tool_calls]
        return _encode(
            {
                "id": f"chatcmpl-{result.request_id}",
                "object": "chat.completion",
                "created": created,
                "model": model_id(result.selection),
                "choices": [
                    {
                        "index": 0,
                        "message": message,
                        "logprobs": None,
                        "finish_reason": FINISH_REASONS[result.finish_reason],
                    }
                ],
                "usage": chat_usage(result.usage),
                "system_fingerprint": None,
                "pointsman": extension(result),
            }
        )

    def stream(self, request_id: str, created: int) -> ChatStream:
        """See `Exchange.stream`."""
        return ChatStream(request_id, created, include_usage=self._include_usage)


def _tool_call(call: ToolCall) -> dict[str, Any]:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments_json},
    }


class ChatStream:
    """Satisfies `exchange.StreamEncoder`. A chunk of text is two constant pieces around the quoted text."""

    def __init__(self, request_id: str, created: int, *, include_usage: bool) -> None:
        self._head: dict[str, Any] = {
            "id": f"chatcmpl-{request_id}",
            "object": "chat.completion.chunk",
            "created": created,
        }
        self._include_usage = include_usage
        self._prefix = b""
        self._text_prefix = b""
        # With include_usage every chunk but the last says that it has none.
        self._suffix = b"}],%b}\n\n" % (b'"usage":null' if include_usage else b'"system_fingerprint":null')

    def begin(self, selection: Selection) -> bytes:
        """The chunk with the role. The model named is the one that began; the last chunk says who ended."""
        self._head |= {"model": model_id(selection)}
        self._prefix = b"data: " + _encode(self._head)[:-1]
        self._text_prefix = self._prefix + b',"choices":[{"index":0,"delta":{"content":'
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def delta(self, delta: Delta) -> bytes:
        """A chunk of text, of tool calls, or one of each."""
        chunks = b""
        if delta.text:
            chunks = b'%b%b},"logprobs":null,"finish_reason":null%b' % (
                self._text_prefix,
                _encode(delta.text),
                self._suffix,
            )
        if delta.tool_calls:
            pieces = []
            for piece in delta.tool_calls:
                function = {"arguments": piece.arguments_json}
                if piece.id or piece.name:
                    named = {"index": piece.index, "id": piece.id, "type": "function"}
                    pieces.append({**named, "function": {"name": piece.name, **function}})
                else:
                    pieces.append({"index": piece.index, "function": function})
            chunks += self._chunk({"tool_calls": pieces})
        return chunks

    def restarted(self, restarted: Restarted) -> bytes:
        """A chunk without choices, and the role again."""
        notice = {"restarted": True, "from_provider": restarted.from_provider}
        notice |= {"provider": restarted.selection.provider, "model": restarted.selection.model}
        return b'%b,"choices":[],"pointsman":%b}\n\n%b' % (
            self._prefix,
            _encode(notice),
            self._chunk({"role": "assistant", "content": ""}),
        )

    def finish(self, result: Result) -> bytes:
        """The chunk with the finish reason, the one with usage where it was asked for, and `[DONE]`."""
        account = b',"pointsman":' + _encode(extension(result))
        reason = _encode(FINISH_REASONS[result.finish_reason])
        last = b'%b,"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":%b' % (
            self._prefix,
            reason,
        )
        if not self._include_usage:
            return b"%b}]%b}\n\n%b" % (last, account, _DONE)
        usage = _encode(chat_usage(result.usage))
        end = b'%b,"choices":[],"usage":%b%b}\n\n' % (self._prefix, usage, account)
        return last + self._suffix + end + _DONE

    def fail(self, error: ApiError) -> bytes:
        """An error event, and no `[DONE]`: OpenAI's clients raise it."""
        return b"event: error\ndata: %b\n\n" % error.body()

    def _chunk(self, delta: dict[str, Any]) -> bytes:
        return b'%b,"choices":[{"index":0,"delta":%b,"logprobs":null,"finish_reason":null%b' % (
            self._prefix,
            _encode(delta),
            self._suffix,
        )
