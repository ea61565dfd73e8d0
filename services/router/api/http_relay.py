"""Sends a stream of the router's events to an HTTP client as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from aiohttp import web

from libs.answer import Delta, Event, Head, Restarted, Selected, Selection, SwitchedProvider
from libs.errors import PointsmanError
from libs.http.call import HttpCall
from libs.http.server import REQUEST_ID, SERVER
from services.router.api.openai.account import head_headers, head_of, selection_headers
from services.router.api.openai.errors import SERVER_ERROR, ApiError, from_failure
from services.router.api.openai.exchange import StreamEncoder
from services.router.api.openai.routing import OnRestart

_HEADERS = {
    "content-type": "text/event-stream; charset=utf-8",
    "cache-control": "no-cache",
    # nginx would collect the answer before passing it on.
    "x-accel-buffering": "no",
    "server": SERVER,
}


class HttpRelay:
    """One streamed answer on its way to an HTTP client.

    The head of the response waits for the first content: until then any failure is an HTTP status of its own, and the
    headers name the provider that answers, whichever failed before. After it a failure is an event, and the stream
    ends without the mark of a proper end.
    """

    def __init__(
        self, call: HttpCall, encoder: StreamEncoder, names: Mapping[str, str], on_restart: OnRestart
    ) -> None:
        self._call = call
        self._encoder = encoder
        self._names = names
        self._on_restart = on_restart
        self._selection: Selection | None = None
        self._response: web.StreamResponse | None = None

    async def run(self, events: AsyncGenerator[Event, None]) -> web.StreamResponse:
        """Sends every event and returns the ended response. Raises PointsmanError where the router fails before any
        content. Leaving early, as when the client goes away, closes `events`, which stops the provider."""
        async with aclosing(events):
            try:
                async for event in events:
                    if isinstance(event, Delta):
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
                await self._response.write(self._encoder.fail(from_failure(error, self._names)))
        response, _ = await self._open(None)
        await response.write_eof()
        return response

    async def _open(self, known: Head | None) -> tuple[web.StreamResponse, bytes]:
        """Returns the response, its head sent, and the bytes that must come first in its body. `known`: the account
        so far."""
        if self._response is not None:
            return self._response, b""
        assert self._selection is not None, "the first event names who was selected"
        headers = {**_HEADERS, REQUEST_ID: self._call.id, **selection_headers(self._selection)}
        if known is not None:
            headers |= head_headers(known)
        self._response = web.StreamResponse(headers=headers)
        await self._response.prepare(self._call.request)
        return self._response, self._encoder.begin(self._selection)

    async def _restarted(self, event: Restarted) -> bool:
        """Sends the restart, or the error that stands for it. Returns True if the stream goes on."""
        if self._response is None:
            return True
        if self._on_restart is OnRestart.REPLACE:
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
