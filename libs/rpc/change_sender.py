"""Sends changes that are kept elsewhere, a limit or what a router sets aside, to the history of changes."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Protocol

import grpc
from pointsman.analytics.v1 import analytics_pb2 as pb
from pointsman.analytics.v1 import analytics_pb2_grpc

from libs.bounds import MAX_ID, MAX_REASON
from libs.change import MAX_NAME, Change
from libs.clock import Clock
from libs.ids import TimeOrderedIds
from libs.rpc import channel as rpc
from libs.rpc.change_wire import change_to_proto
from libs.rpc.status import from_rpc_error
from libs.telemetry import get_logger
from libs.throttle import Throttle

#: Changes that wait; of more the oldest is given up.
MAX_WAITING = 1000
#: Seconds between two tries, and for one call.
SEND_INTERVAL, TIMEOUT = 1.0, 2.0
#: Where an operator has not said who does it, or why.
UNKNOWN_AUTHOR, NO_REASON = "unknown", "none given"
log = get_logger(__name__)


class ChangeNotes(Protocol):
    """Takes note of what operators change."""

    def note(
        self, kind: str, name: str, version: int, author: str, reason: str, before: str, after: str
    ) -> None:
        """Notes a change, for fields as of `Change`. Texts that are empty or too long are made to fit: what has
        happened is noted in any case."""
        ...


class ChangeSender:
    """Satisfies `ChangeNotes`. Nobody waits for it; what is not sent yet is lost with the process."""

    def __init__(self, channel: grpc.aio.Channel, token: str, ids: TimeOrderedIds, clock: Clock) -> None:
        self._stub = analytics_pb2_grpc.AnalyticsStub(channel)
        self._metadata = rpc.metadata(token)
        self._ids = ids
        self._clock = clock
        self._waiting: deque[Change] = deque(maxlen=MAX_WAITING)
        self._failed = Throttle(clock)

    def note(
        self, kind: str, name: str, version: int, author: str, reason: str, before: str, after: str
    ) -> None:
        """See `ChangeNotes.note`."""
        now = self._clock.now()
        self._waiting.append(
            Change(
                *(self._ids.make(now), kind, name[:MAX_NAME], version, now),
                (author.strip() or UNKNOWN_AUTHOR)[:MAX_ID],
                (reason.strip() or NO_REASON)[:MAX_REASON],
                *(before, after),
            )
        )

    async def run(self) -> None:
        """Sends until cancelled."""
        while True:
            await asyncio.sleep(SEND_INTERVAL)
            await self.send()

    async def send(self) -> None:
        """Sends what waits; what is not taken goes on waiting."""
        sent = tuple(self._waiting)
        if not sent:
            return
        request = pb.RecordChangesRequest(changes=[change_to_proto(change) for change in sent])
        try:
            await self._stub.RecordChanges(request, timeout=TIMEOUT, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            if times := self._failed.due():
                log.warning("changes_not_recorded", error=from_rpc_error(error).message, times=times)
            return
        done = {change.change_id for change in sent}
        self._waiting = deque(
            (change for change in self._waiting if change.change_id not in done), maxlen=MAX_WAITING
        )
