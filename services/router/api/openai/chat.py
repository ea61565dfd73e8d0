"""A chat completions answer, whole or as a stream of chunks.

References: https://platform.openai.com/docs/api-reference/chat/object and …/chat-streaming. Beyond OpenAI's fields
there is `pointsman` (see `account.pointsman_object`): in the body of an answer in one piece, and in the last chunk of
a stream before `[DONE]`, which is the usage chunk where the client asked for one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from libs.answer import Delta, Restarted, Result, Selection
from libs.conversation import Citation, ToolCall, ToolCallDelta
from libs.thoughts import ThoughtAssembler
from services.router.api.openai.account import FINISH_REASONS, chat_usage, pointsman_object
from services.router.api.openai.chat_request import read_chat
from services.router.api.openai.errors import ApiError, error_body
from services.router.api.openai.exchange import ParsedRequest
from services.router.api.openai.thoughts import text_of_thoughts, write_details

_encode = msgspec.json.Encoder().encode
_DONE = b"data: [DONE]\n\n"


class ChatExchange:
    """Satisfies `exchange.Exchange`."""

    def __init__(self, body: bytes, headers: Mapping[str, str], request_id: str) -> None:
        """Reads the request. Raises ApiError."""
        self.request: ParsedRequest
        self.request, self._include_usage = read_chat(body, headers, request_id)

    def whole(self, result: Result, created: int) -> bytes:
        """See `Exchange.whole`."""
        message: dict[str, Any] = {
            "role": "assistant",
            # As OpenAI does it: null where there are only calls.
            "content": result.text or (None if result.tool_calls else ""),
            "refusal": result.refusal or None,
            "annotations": _annotations(result.citations),
        }
        if result.refusal and not result.text:
            message["content"] = None
        if text := text_of_thoughts(result.reasoning):
            message["reasoning_content"] = text
        if result.reasoning:
            message["reasoning_details"] = write_details(result.reasoning)
        if result.tool_calls:
            message["tool_calls"] = [_tool_call(call) for call in result.tool_calls]
        return _encode(
            {
                "id": f"chatcmpl-{result.request_id}",
                "object": "chat.completion",
                "created": created,
                "model": result.selection.target,
                "choices": [
                    {
                        "index": 0,
                        "message": message,
                        "logprobs": None,
                        "finish_reason": _finish_reason(result),
                    }
                ],
                "usage": chat_usage(result.usage),
                "system_fingerprint": None,
                "pointsman": pointsman_object(result),
            }
        )

    def stream(self, request_id: str, created: int) -> ChatStream:
        """See `Exchange.stream`."""
        return ChatStream(request_id, created, include_usage=self._include_usage)


def _finish_reason(result: Result) -> str:
    """Returns the reason why an answer ended; that of a refusal is no filter, as OpenAI does it."""
    return "stop" if result.refusal else FINISH_REASONS[result.finish_reason]


def _annotations(citations: Sequence[Citation]) -> list[dict[str, Any]]:
    """Returns citations as OpenAI has them: of pages alone, and of the whole answer where nothing else is known."""
    return [
        {
            "type": "url_citation",
            "url_citation": {
                "url": citation.url,
                "title": citation.title,
                "start_index": citation.start or 0,
                "end_index": citation.end or 0,
            },
        }
        for citation in citations
        if citation.url
    ]


def _tool_call(call: ToolCall) -> dict[str, Any]:
    return {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments_json},
    }


def _pieces(deltas: Sequence[ToolCallDelta]) -> list[dict[str, Any]]:
    """Returns one entry for each call: of two with one index in one chunk, clients take the last or neither."""
    pieces: dict[int, dict[str, Any]] = {}
    texts: dict[int, list[str]] = {}
    for delta in deltas:
        piece = pieces.setdefault(delta.index, {"index": delta.index, "function": {}})
        if delta.id or delta.name:
            function = piece["function"]
            piece["id"] = piece.get("id", "") + delta.id
            piece["type"] = "function"
            function["name"] = function.get("name", "") + delta.name
        texts.setdefault(delta.index, []).append(delta.arguments_json)
    for index, piece in pieces.items():
        piece["function"]["arguments"] = "".join(texts[index])
    return list(pieces.values())


class ChatStream:
    """Satisfies `exchange.StreamEncoder`. A chunk of text is two constant pieces around the quoted text."""

    def __init__(self, request_id: str, created: int, *, include_usage: bool) -> None:
        self._head: dict[str, Any] = {
            "id": f"chatcmpl-{request_id}",
            "object": "chat.completion.chunk",
            "created": created,
        }
        self._include_usage = include_usage
        self._thoughts = ThoughtAssembler()
        self._refused = False
        self._prefix = b""
        self._text_prefix = b""
        # With include_usage every chunk but the last says that it has none.
        self._suffix = b"}],%b}\n\n" % (b'"usage":null' if include_usage else b'"system_fingerprint":null')

    def begin(self, selection: Selection) -> bytes:
        """Returns the chunk with the role. It names the model that began; the last chunk names the one that ended."""
        self._head |= {"model": selection.target}
        self._prefix = b"data: " + _encode(self._head)[:-1]
        self._text_prefix = self._prefix + b',"choices":[{"index":0,"delta":{"content":'
        return self._chunk({"role": "assistant", "content": "", "refusal": None})

    def delta(self, delta: Delta) -> bytes:
        """Returns chunks of thoughts, of text and of each tool call: LlamaIndex reads no more than one call of a
        chunk."""
        chunks = b""
        if delta.reasoning:
            self._thoughts.feed(delta.reasoning)
            if text := "".join([piece.piece.text for piece in delta.reasoning]):
                chunks = self._chunk({"reasoning_content": text})
        if delta.text:
            chunks += b'%b%b},"logprobs":null,"finish_reason":null%b' % (
                self._text_prefix,
                _encode(delta.text),
                self._suffix,
            )
        for piece in _pieces(delta.tool_calls):
            chunks += self._chunk({"tool_calls": [piece]})
        if delta.refusal:
            self._refused = True
            chunks += self._chunk({"refusal": delta.refusal})
        if delta.citations and (annotations := _annotations(delta.citations)):
            chunks += self._chunk({"annotations": annotations})
        return chunks

    def restarted(self, restarted: Restarted) -> bytes:
        """Returns a chunk without choices that says so, and the role again."""
        self._thoughts.clear()
        self._refused = False
        notice = {"restarted": True, "from_provider": restarted.from_provider}
        notice |= {"provider": restarted.selection.provider, "model": restarted.selection.model}
        return b'%b,"choices":[],"pointsman":%b}\n\n%b' % (
            self._prefix,
            _encode(notice),
            self._chunk({"role": "assistant", "content": ""}),
        )

    def void_thoughts(self) -> bytes:
        """Forgets the thoughts so far: no details of them will come. Their text, once shown, cannot be taken back."""
        self._thoughts.clear()
        return b""

    def finish(self, result: Result) -> bytes:
        """Returns the chunk with the finish reason and all that must be sent back of the thoughts, the one with usage
        where it was asked for, and `[DONE]`."""
        account = b',"pointsman":' + _encode(pointsman_object(result))
        reason = b'"stop"' if self._refused else _encode(FINISH_REASONS[result.finish_reason])
        thoughts = self._thoughts.whole()
        delta = _encode({"reasoning_details": write_details(thoughts)}) if thoughts else b"{}"
        last = b'%b,"choices":[{"index":0,"delta":%b,"logprobs":null,"finish_reason":%b' % (
            self._prefix,
            delta,
            reason,
        )
        if not self._include_usage:
            return b"%b}]%b}\n\n%b" % (last, account, _DONE)
        usage = _encode(chat_usage(result.usage))
        end = b'%b,"choices":[],"usage":%b%b}\n\n' % (self._prefix, usage, account)
        return last + self._suffix + end + _DONE

    def fail(self, error: ApiError) -> bytes:
        """Returns an error event, and no `[DONE]`: OpenAI's clients raise it."""
        return b"event: error\ndata: %b\n\n" % error_body(error)

    def _chunk(self, delta: dict[str, Any]) -> bytes:
        return b'%b,"choices":[{"index":0,"delta":%b,"logprobs":null,"finish_reason":null%b' % (
            self._prefix,
            _encode(delta),
            self._suffix,
        )
