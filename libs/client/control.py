"""Clients for what operators change: modes, failovers and maintenance windows, and the history of it all. `key` is
the service token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import grpc
from pointsman.analytics.v1 import analytics_pb2, analytics_pb2_grpc
from pointsman.health.v1 import health_pb2 as pb
from pointsman.health.v1 import health_pb2_grpc

from libs.change import Change
from libs.client.connection import ServiceClient
from libs.client.operations import ProviderState, provider_from_proto
from libs.rpc.change_wire import change_from_proto
from libs.rpc.convert import duration_from_proto, duration_to_proto, timestamp_from_proto, timestamp_to_proto

#: Changes on one page.
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class MaintenanceWindow:
    """A time in which a target is not called (`model` empty: the provider as a whole): `starts` to `ends`, epoch
    seconds, and `drain` seconds before. `weekly`: it comes back every week, by the clocks of `time_zone`."""

    provider: str
    model: str
    starts: float
    ends: float
    reason: str
    time_zone: str = "UTC"
    weekly: bool = False
    drain: float = 0.0
    #: Made by the server.
    window_id: str = ""


class ControlClient(ServiceClient):
    """Calls the health monitor to change what it obeys. `author` and `reason` are kept with every change."""

    service = "pointsman.health.v1.ProviderHealth"
    _stub: health_pb2_grpc.ProviderHealthAsyncStub

    def _bind(self, channel: grpc.aio.Channel) -> None:
        self._stub = health_pb2_grpc.ProviderHealthStub(channel)

    async def set_mode(
        self,
        provider: str,
        model: str,
        mode: str,
        author: str,
        reason: str,
        *,
        share: float | None = None,
        by_hand: bool = False,
        version: int | None = None,
        timeout: float | None = None,
    ) -> tuple[ProviderState, Change]:
        """Sets the mode of a provider or of a model: "automatic", "maintenance", "drain", "blocked" or
        "rehabilitating", which takes `share` (0.05, 0.25, 0.5, 1; None: the first) and `by_hand`. Raises NotFound,
        and Aborted where the mode is not at `version`."""
        self._open()
        request = pb.SetProviderModeRequest(
            provider=provider,
            model=model,
            mode=f"PROVIDER_MODE_{mode.upper()}",
            author=author,
            reason=reason,
            share=share,
            by_hand=by_hand,
            version=version,
        )
        found = await self._unary(self._stub.SetProviderMode, request, timeout)
        return provider_from_proto(found.state), change_from_proto(found.change)

    async def fail_over(
        self,
        provider: str,
        model: str,
        author: str,
        reason: str,
        *,
        seconds: float | None = None,
        to: tuple[str, str] | None = None,
        tenants: Sequence[str] = (),
        content_types: Sequence[str] = (),
        timeout: float | None = None,
    ) -> tuple[ProviderState, Change]:
        """Makes calls leave a provider or a model for `seconds` (None: one breaker period): those of all tenants and
        content types, or of those named; to a provider and one of its models (empty: any), or to the next of the
        policy. Raises NotFound, InvalidArgument, FailedPrecondition."""
        self._open()
        to_provider, to_model = to or ("", "")
        request = pb.TriggerFailoverRequest(
            provider=provider,
            model=model,
            author=author,
            reason=reason,
            duration=duration_to_proto(seconds),
            tenants=tenants,
            content_types=content_types,
            to_provider=to_provider,
            to_model=to_model,
        )
        found = await self._unary(self._stub.TriggerFailover, request, timeout)
        return provider_from_proto(found.state), change_from_proto(found.change)

    async def undo(self, change_id: str, author: str, reason: str, *, timeout: float | None = None) -> Change:
        """Takes a change back, and returns the change that this is. Raises NotFound, and FailedPrecondition where
        the thing was changed since."""
        self._open()
        request = pb.UndoChangeRequest(change_id=change_id, author=author, reason=reason)
        return change_from_proto((await self._unary(self._stub.UndoChange, request, timeout)).change)

    async def add_window(
        self, window: MaintenanceWindow, author: str, *, timeout: float | None = None
    ) -> tuple[MaintenanceWindow, Change]:
        """Adds a maintenance window and returns it with its id. Raises NotFound, InvalidArgument, AlreadyExists where
        it overlaps another."""
        self._open()
        message = pb.MaintenanceWindow(
            provider=window.provider,
            model=window.model,
            starts=timestamp_to_proto(window.starts),
            ends=timestamp_to_proto(window.ends),
            weekly=window.weekly,
            time_zone=window.time_zone,
            drain=duration_to_proto(window.drain),
            reason=window.reason,
        )
        request = pb.AddMaintenanceWindowRequest(window=message, author=author)
        found = await self._unary(self._stub.AddMaintenanceWindow, request, timeout)
        return _window(found.window), change_from_proto(found.change)

    async def list_windows(
        self, provider: str = "", *, timeout: float | None = None
    ) -> tuple[MaintenanceWindow, ...]:
        """Returns the windows that are not over, of one provider or of all, the next one first."""
        self._open()
        request = pb.ListMaintenanceWindowsRequest(provider=provider)
        found = await self._unary(self._stub.ListMaintenanceWindows, request, timeout)
        return tuple(map(_window, found.windows))

    async def remove_window(
        self, window_id: str, author: str, reason: str, *, timeout: float | None = None
    ) -> Change:
        """Removes a window; one in force ends. Raises NotFound."""
        self._open()
        request = pb.RemoveMaintenanceWindowRequest(window_id=window_id, author=author, reason=reason)
        found = await self._unary(self._stub.RemoveMaintenanceWindow, request, timeout)
        return change_from_proto(found.change)


class HistoryClient(ServiceClient):
    """Calls analytics for what operators have changed."""

    service = "pointsman.analytics.v1.Analytics"
    _stub: analytics_pb2_grpc.AnalyticsAsyncStub

    def _bind(self, channel: grpc.aio.Channel) -> None:
        self._stub = analytics_pb2_grpc.AnalyticsStub(channel)

    async def list_changes(
        self,
        *,
        kind: str = "",
        name: str = "",
        since: float | None = None,
        most: int = _PAGE,
        timeout: float | None = None,
    ) -> tuple[Change, ...]:
        """Returns at most `most` changes, of a kind ("mode", "windows", "failovers") and of the thing of a name, from
        `since` on (epoch seconds); the latest first."""
        self._open()
        found: list[Change] = []
        token = ""
        while len(found) < most:
            request = analytics_pb2.ListChangesRequest(
                kind=kind,
                name=name,
                since=timestamp_to_proto(since),
                page_size=min(_PAGE, most - len(found)),
                page_token=token,
            )
            page = await self._unary(self._stub.ListChanges, request, timeout)
            found += map(change_from_proto, page.changes)
            token = page.next_page_token
            if not token:
                break
        return tuple(found)


def _window(message: pb.MaintenanceWindow) -> MaintenanceWindow:
    return MaintenanceWindow(
        message.provider,
        message.model,
        timestamp_from_proto(message.starts),
        timestamp_from_proto(message.ends),
        message.reason,
        message.time_zone,
        message.weekly,
        duration_from_proto(message.drain),
        message.window_id,
    )
