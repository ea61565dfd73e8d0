"""The standing of each route of a provider, as a call finds it. Pure."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from enum import IntEnum

from msgspec import Struct

from libs.catalog.model import Provider
from libs.catalog.routes import ProviderRoute
from libs.types import RoutePart
from services.router.health.route_changes import Outage
from services.router.routes.outages import Outages


class Standing(IntEnum):
    """The ways in which a route may be taken, best first."""

    READY = 0
    #: Its endpoint is out. Without any that serves, the provider's own breaker is the judge.
    ENDPOINT_OUT = 1
    #: Its key is out, and may be tried all the same where nothing else is left.
    LAST_RESORT = 2
    #: Its key is out.
    CLOSED = 3


class RouteState(Struct, frozen=True):
    """A route as a call finds it. `back`: the instant from which it may be taken, if only as a last resort;
    `endpoint_out`: its endpoint is out, whatever its key is."""

    provider: Provider
    route: ProviderRoute
    standing: Standing
    back: float
    endpoint_out: bool


def shares(state: RouteState, tried: Collection[ProviderRoute]) -> bool:
    """Returns True if what speaks against the route has been met by one of `tried`: its endpoint or its key; of one
    that is ready, the route itself."""
    route = state.route
    if state.standing is Standing.ENDPOINT_OUT:
        return any(other.endpoint == route.endpoint for other in tried)
    if state.standing is Standing.LAST_RESORT:
        return any(other.key == route.key for other in tried)
    return route in tried


def state_of(
    now: float, provider: Provider, route: ProviderRoute, met: Sequence[Outage], outages: Outages
) -> RouteState:
    """Returns a route's state; `met`: the outages on its way."""
    closed = [outage for outage in met if outages.is_closed(now, outage)]
    keys = [outage for outage in closed if outage.place.part is RoutePart.KEY]
    endpoint_out = len(closed) > len(keys)
    if not keys:
        standing = Standing.ENDPOINT_OUT if endpoint_out else Standing.READY
        return RouteState(provider, route, standing, now, endpoint_out)
    back = max(min(outages.opens_at(outage), outages.last_resort_at(outage)) for outage in keys)
    standing = Standing.LAST_RESORT if now >= back else Standing.CLOSED
    return RouteState(provider, route, standing, back, endpoint_out)
