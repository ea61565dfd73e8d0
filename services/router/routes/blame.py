"""Attributes a failed call to the key or the endpoint of its route, or to neither. Pure."""

from __future__ import annotations

from msgspec import Struct

from libs.catalog.model import Provider
from libs.types import ACCOUNT_FAULTS, ErrorClass, RoutePart
from services.router.request.generation import ProviderFailure

#: The longest wait that a provider may ask for, seconds: a day and a little, for quotas of a day.
LONGEST_WAIT = 90_000.0
#: And the shortest: it is over when another call asks.
SHORTEST_WAIT = 0.1
#: Answers of a proxy in front of the provider, or of one that cannot reach what is behind it.
_OF_GATEWAY = frozenset({502, 503, 504})
_SILENT = frozenset({ErrorClass.TRANSPORT, ErrorClass.TIMEOUT, ErrorClass.STALLED})
#: Statuses that refuse the key itself; 403 may refuse it one model alone.
_OF_WHOLE_KEY = frozenset({401, 407})


class OutageRule(Struct, frozen=True):
    """The time for which a part is out: `base`, doubled each time in a row up to `cap`, in seconds. `tried`: one call
    tries it then, before others may. `forgive`: seconds of service after which the growth is forgotten."""

    base: float
    cap: float
    tried: bool
    forgive: float


#: A revoked key rarely comes back by itself, and trying it costs its caller one call's time.
REFUSED = OutageRule(60.0, 3600.0, True, 3600.0)
#: A quota may be whole again at any time; most are in days.
USED_UP = OutageRule(300.0, 3600.0, True, 3600.0)
#: Buckets refill within a minute.
LIMITED = OutageRule(2.0, 60.0, False, 60.0)
#: One broken connection may be chance, which a second elsewhere costs nothing.
UNREACHABLE = OutageRule(1.0, 60.0, True, 60.0)


def rule_of(part: RoutePart, error_class: ErrorClass) -> OutageRule:
    """Returns the rule of an outage of this part for a failure of this class."""
    if error_class is ErrorClass.RATE_LIMITED:
        return LIMITED
    if part is RoutePart.ENDPOINT:
        return UNREACHABLE
    return USED_UP if error_class is ErrorClass.QUOTA_EXHAUSTED else REFUSED


class Blame(Struct, frozen=True):
    """The part of a route that a failure is attributed to. `model`: its name, where other models are not concerned;
    `seconds`: stated by the provider, None: by the rule."""

    part: RoutePart
    model: str = ""
    seconds: float | None = None


def blame(failure: ProviderFailure, provider: Provider, model: str) -> Blame | None:
    """Returns the part to blame of `provider`'s routes for a failed call to `model` by one of them; None: neither its
    key nor its endpoint. Only parts of which there are several are blamed: without another, nothing is gained. What
    words alone say of an account is no proof, since they may be the caller's."""
    if not failure.at_fault:
        return None
    several_keys, several_endpoints = len(provider.keys) > 1, len(provider.endpoints) > 1
    found, wait = failure.error_class, failure.retry_after
    if wait is not None:
        wait = min(max(wait, SHORTEST_WAIT), LONGEST_WAIT)
    if found in ACCOUNT_FAULTS:
        if not (several_keys and failure.explicit):
            return None
        if found is ErrorClass.AUTHENTICATION:
            whole = failure.http_status in _OF_WHOLE_KEY
            return Blame(RoutePart.KEY, "" if whole else model)
        # A quota that says when it is whole again is the model's own.
        return Blame(RoutePart.KEY, "" if wait is None else model, wait)
    if found is ErrorClass.RATE_LIMITED:
        if not failure.retry_same:
            # The request alone is larger than the rate.
            return None
        if several_keys:
            return Blame(RoutePart.KEY, model, wait)
        # Many vendors limit each region by itself.
        return Blame(RoutePart.ENDPOINT, model, wait) if several_endpoints else None
    if several_endpoints and (found in _SILENT or failure.http_status in _OF_GATEWAY):
        return Blame(RoutePart.ENDPOINT, "", wait)
    return None
