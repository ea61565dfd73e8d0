"""Sends a stream of the router's events to an HTTP client as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

from aiohttp import web

from libs.answer import Delta, Event, Head, Restarted, Selected, Selection, SwitchedProvider
from libs.errors import PointsmanError
from libs.http.call import HttpCall
from libs.http.server import REQUEST_ID, SERVER
from services.router.api.openai.account import head_headers, head_of, ignored_headers, selection_headers
from services.router.api.openai.errors import SERVER_ERROR, ApiError, from_failure
from services.router.api.openai.exchange import ParsedRequest, StreamEncoder
from services.router.api.openai.routing import OnRestart

_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    # nginx would collect the answer before passing it on.
    "x-accel-buffering": "no",
    "server": SERVER,
}
#: A comment: https://html.spec.whatwg.org/multipage/server-sent-events.html#authoring-notes
_HEARTBEAT = b": heartbeat\n\n"


class HttpRelay:
    """One streamed answer on its way to an HTTP client.

    The head of the response waits for the first content: until then any failure is an HTTP status of its own, and the
    headers name the provider that answers, whichever failed before. After it a failure is an event, and the stream
    ends without the mark of a proper end. Where no content has come by the first heartbeat, a head without the names
    goes before it.
    """

    def __init__(self, call: HttpCall, encoder: StreamEncoder, request: ParsedRequest) -> None:
        self._call = call
        self._encoder = encoder
        self._request = request
        self._selection: Selection | None = None
        #: The response, once its head was sent.
        self._response: web.StreamResponse | None = None
        #: The encoder's first bytes were sent.
        self._begun = False
        #: A piece of an answer was sent, not of thoughts alone.
        self._answered = False

    async def beat(self) -> None:
        """Sends a comment, which clients of server-sent events skip."""
        response = self._response or await self._send_head({}, ())
        await response.write(_HEARTBEAT)

    async def run(self, events: AsyncGenerator[Event, None]) -> web.StreamResponse:
        """Sends every event and returns the ended response. Raises PointsmanError where the router fails before any
        content. Leaving early, as when the client goes away, closes `events`, which stops the provider."""
        async with aclosing(events):
            try:
                async for event in events:
                    if isinstance(event, Delta):
                        self._answered |= bool(event.text or event.tool_calls or event.refusal)
                        response, head = await self._open(event.head)
                        await response.write(head + self._encoder.delta(event))
                    elif isinstance(event, Restarted):
                        self._selection = event.selection
                        if not await self._restarted(event):
                            break
                    elif isinstance(event, Selected | SwitchedProvider):
                        self._selection = event.selection
                    else:
                        response, head = await self._open(head_of(event.result))
                        await response.write(head + self._encoder.finish(event.result))
            except PointsmanError as error:
                if self._response is None:
                    raise
                # Clients of responses know no failure of what has not begun.
                begin = b"" if self._selection is None else (await self._open(None))[1]
                await self._response.write(
                    begin + self._encoder.fail(from_failure(error, self._request.names))
                )
        assert self._response is not None, "the last event is written"
        await self._response.write_eof()
        return self._response

    async def _open(self, known: Head | None) -> tuple[web.StreamResponse, bytes]:
        """Returns the response, its head sent, and the bytes that must come first in its body. `known`: the account
        so far."""
        assert self._selection is not None, "the first event names who was selected"
        response = self._response
        if response is None:
            account, ignored = ({}, ()) if known is None else (head_headers(known), known.ignored)
            response = await self._send_head(selection_headers(self._selection) | account, ignored)
        if self._begun:
            return response, b""
        self._begun = True
        return response, self._encoder.begin(self._selection)

    async def _send_head(self, headers: Mapping[str, str], by_provider: Sequence[str]) -> web.StreamResponse:
        """Sends the head with these headers and those of every stream, and returns the response. `by_provider`:
        options that the provider could not be told."""
        ignored = ignored_headers(self._request.ignored, by_provider, self._request.names)
        self._response = web.StreamResponse(
            headers={**_HEADERS, REQUEST_ID: self._call.id, **headers, **ignored}
        )
        await self._response.prepare(self._call.request)
        return self._response

    async def _restarted(self, event: Restarted) -> bool:
        """Sends the restart, or the error that stands for it. Returns True if the stream goes on."""
        if self._response is None:
            return True
        if not self._answered and self._request.on_restart is not OnRestart.REPLACE:
            await self._response.write(self._encoder.void_thoughts())
            return True
        self._answered = False
        if self._request.on_restart is OnRestart.REPLACE:
            await self._response.write(self._encoder.restarted(event))
            return True
        error = ApiError(
            502,
            f"{event.from_provider} failed in the middle of its answer, and no other provider could continue it. "
            "The text so far is a part of an answer that will not be completed; send the request again.",
            code="stream_restarted",
            kind=SERVER_ERROR,
        )
        await self._response.write(self._encoder.fail(error))
        return False
