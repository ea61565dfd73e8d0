"""Keys and endpoints that are out of service, and their way back (see the room's head). Pure: time (seconds since the
Unix epoch) and chance are parameters; memory is bounded by MOST places.

A change is one value that routers hand each other: of two on one place the later one stays, whatever their order.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterable
from random import Random

from msgspec import structs

from libs.catalog.model import Provider
from libs.types import ErrorClass, RoutePart
from services.router.health.route_changes import Outage, Place
from services.router.routes.blame import Blame, OutageRule, rule_of

#: Places that are remembered at most, out of service or back; the oldest are forgotten first.
MOST = 1024
#: A trial whose end is never reported gives way to the next after this, seconds.
TRIAL = 30.0
#: Where nothing else is left, what is out is tried before its time, so often at most, seconds.
LAST_RESORT = 5.0
GROWTH = 2.0
JITTER = 0.2
#: Of what is left of an outage that another router has found, so that not all try at once.
SPREAD = 0.1


class Outages:
    """All places that are out of service, or were. Not thread-safe; never blocks."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._known: OrderedDict[Place, Outage] = OrderedDict()
        #: Those of them that are out: the place, and the end of its running trial; 0: none runs. Written here alone.
        self.places: dict[Place, float] = {}

    def out(self, now: float, provider: Provider, model: str) -> list[Outage]:
        """Returns the outages that a call to the model by this route (`Provider.route`) would meet: at most four.
        Those that nobody has to try are over with their time."""
        found = [self._known[place] for place in places_of(provider, model) if place in self.places]
        over = [
            outage
            for outage in found
            if not rule_of(outage.place.part, outage.error_class).tried and now >= outage.until
        ]
        for outage in over:
            del self.places[outage.place]
        return [outage for outage in found if outage not in over] if over else found

    def is_closed(self, now: float, outage: Outage) -> bool:
        """Returns True if no call may go there now: its time is not over, or a call is trying it."""
        return now < max(outage.until, self.places.get(outage.place, 0.0))

    def opens_at(self, outage: Outage) -> float:
        """Returns the instant from which a call may go there."""
        return max(outage.until, self.places.get(outage.place, 0.0))

    def last_resort_at(self, outage: Outage) -> float:
        """Returns the instant from which a call that has no other way may try the place before its time; infinity:
        never, since the provider said when, or as good as that."""
        if not rule_of(outage.place.part, outage.error_class).tried:
            return math.inf
        return max(outage.since + LAST_RESORT, self.places.get(outage.place, 0.0))

    def begin_trial(self, now: float, outage: Outage) -> None:
        """Takes the trial of a place that is not closed, where it asks for one."""
        if rule_of(outage.place.part, outage.error_class).tried:
            self.places[outage.place] = now + TRIAL

    def end_trials(self, provider: Provider, model: str) -> None:
        """Ends the trials that a call by this route began, which has shown nothing: the next call tries."""
        for place in places_of(provider, model):
            if place in self.places:
                self.places[place] = 0.0

    def record_failure(
        self, now: float, began: float, place: Place, blame: Blame, error_class: ErrorClass, key_version: str
    ) -> Outage | None:
        """Records that a call which began at `began` failed by the place. Returns the outage that began because of
        it; None: it is out already, and the call says no more than the one that took it out."""
        known = self._known.get(place)
        if known is not None and began < known.since:
            return None
        if known is not None and place in self.places and now < known.until:
            # It was a last resort.
            self.places[place] = now + LAST_RESORT
            return None
        rule, times = rule_of(place.part, error_class), 1
        if known is not None and (place in self.places or now - known.since < rule.forgive):
            times = known.times + 1
        seconds = blame.seconds if blame.seconds is not None else self._length(rule, times)
        outage = Outage(place, error_class, now, now + seconds, times, key_version)
        self._keep(outage)
        return outage

    def record_success(self, now: float, began: float, provider: Provider, model: str) -> list[Outage]:
        """Records that a call by a route which began at `began` gave the answer. Returns what is back because of
        it."""
        out = self.out(now, provider, model)
        return [self.put_back(now, outage) for outage in out if began >= outage.since]

    def put_back(self, now: float, outage: Outage) -> Outage:
        """Puts a place back in service. Returns the change."""
        back = structs.replace(outage, since=now, until=0.0)
        self._keep(back)
        return back

    def merge(self, now: float, outage: Outage) -> bool:
        """Takes another router's change, where it is later than what is known. Returns True if it was."""
        known = self._known.get(outage.place)
        if known is not None and known.since >= outage.since:
            return False
        if outage.until:
            left = max(0.0, outage.until - now)
            outage = structs.replace(outage, until=outage.until + left * SPREAD * self._rng.random())
        self._keep(outage)
        return True

    def forget(self, places: Iterable[Place]) -> None:
        """Forgets places that are there no more."""
        for place in places:
            self._known.pop(place, None)
            self.places.pop(place, None)

    def all_out(self) -> list[Outage]:
        """Returns every outage that is not over."""
        return [self._known[place] for place in self.places]

    def _keep(self, outage: Outage) -> None:
        place = outage.place
        self._known[place] = outage
        self._known.move_to_end(place)
        self.places.pop(place, None)
        if outage.until:
            self.places[place] = 0.0
        if len(self._known) > MOST:
            oldest, _ = self._known.popitem(last=False)
            self.places.pop(oldest, None)

    def _length(self, rule: OutageRule, times: int) -> float:
        seconds = min(rule.cap, rule.base * GROWTH ** min(times - 1, 32))
        return seconds * (1 + JITTER * (2 * self._rng.random() - 1))


def places_of(provider: Provider, model: str) -> list[Place]:
    """Returns the places that a call to the model by this route passes."""
    route = provider.route
    if route is None:
        return []
    name = provider.name
    found = [
        Place(name, RoutePart.ENDPOINT, route.endpoint),
        Place(name, RoutePart.ENDPOINT, route.endpoint, model),
    ]
    if route.key:
        found += [Place(name, RoutePart.KEY, route.key), Place(name, RoutePart.KEY, route.key, model)]
    return found


def place_of(provider: Provider, blame: Blame) -> Place:
    """Returns the place of a route that is blamed; the provider has a route."""
    assert provider.route is not None, "only routes are blamed"
    name = provider.route.key if blame.part is RoutePart.KEY else provider.route.endpoint
    return Place(provider.name, blame.part, name, blame.model)
