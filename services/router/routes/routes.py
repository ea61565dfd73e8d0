"""The routes of this router's providers: chooses, attributes failures, and says what is out (see the room's head)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from random import Random

from msgspec import structs

from libs.answer import LimitState
from libs.catalog.catalog import Catalog
from libs.catalog.model import Model, Provider
from libs.catalog.routes import ProviderRoute
from libs.catalog.secrets import Keys
from libs.clock import Clock
from libs.instruments import Count
from libs.limits import Scope, ScopeKind
from libs.telemetry import Metrics, get_logger
from libs.types import OF_REQUEST, RoutePart
from services.router.health.route_changes import Outage, Place
from services.router.health.target_health import Availability, TargetHealth
from services.router.request.generation import ProviderFailure
from services.router.routes.blame import blame
from services.router.routes.choice import choose, headroom
from services.router.routes.outages import Outages, place_of
from services.router.routes.standing import RouteState, Standing, shares, state_of

log = get_logger(__name__)

Health = Callable[[Model], TargetHealth]
#: To callers, who must not read the names of variables, files and addresses.
NO_KEY_SERVES = "each of its keys is refused, used up or missing"


def _is_in(place: Place, catalog: Catalog) -> bool:
    """Returns True if the catalog still has the key or the endpoint, as one of several."""
    provider = catalog.providers.get(place.provider)
    routes = [r.route for r in provider.routes if r.route is not None] if provider is not None else []
    if place.part is RoutePart.KEY:
        return any(route.key == place.name for route in routes)
    return any(route.endpoint == place.name for route in routes)


class ProviderRoutes:
    """The routes of all providers that have several keys or endpoints."""

    def __init__(
        self,
        catalog: Callable[[], Catalog],
        keys: Keys,
        limits: Callable[[Scope], Iterable[LimitState]],
        clock: Clock,
        rng: Random,
        metrics: Metrics,
    ) -> None:
        """`limits` returns what is known of a scope's limits."""
        self._catalog = catalog
        self._keys = keys
        self._limits = limits
        self._clock = clock
        self._rng = rng
        self._outages = Outages(rng)
        #: Keys and endpoints out of service; empty: nobody has to ask here. Read-only.
        self.places_out: Mapping[Place, float] = self._outages.places
        #: The catalog of which all places that are out were looked at.
        self._seen: Catalog | None = None
        #: Remembered, bounded by the catalog: the routes of each model, with their provider; the scopes of keys; the
        #: counters.
        self._ready: dict[str, tuple[Provider, list[RouteState]]] = {}
        self._scopes: dict[str, Scope] = {}
        self._counts: dict[tuple[str, str, str, str], Count] = {}
        #: To be told to the other routers.
        self._changes: list[Outage] = []
        #: Names of keys that were not there when they were wanted: logged once.
        self._missing: set[str] = set()
        self._calls = metrics.counter(
            "route_calls",
            "Calls that ended, by the key and endpoint of providers with several",
            ("provider", "key", "endpoint", "result"),
        )
        self._gauge = metrics.gauge(
            "routes_out",
            "Keys and endpoints that are out of service, or wait for the trial that ends it",
            ("part",),
        )
        for part in RoutePart:
            self._gauge.labels(part).set(0)

    def choose(
        self,
        provider: Provider,
        model: Model,
        tried: Collection[ProviderRoute] = (),
        without: Collection[str] = (),
    ) -> Provider | None:
        """Returns one of the provider's routes for a call to the model, by weight and headroom; one of `tried` only
        where there is no other, none with a key of `without`. None: no key may be called."""
        if not (self.places_out or tried or without):
            ready = self._all_ready(provider, model)
            found = self._draw(ready) if ready else None
            if found is not None and self._has_key(found.provider):
                return found.provider
        now = self._clock.now()
        states = [
            state
            for state in self._states(now, provider, model)
            if state.standing is not Standing.CLOSED and state.route.key not in without
        ]

        def order(state: RouteState) -> tuple[bool, int, bool, bool]:
            again = shares(state, tried)
            return (
                again and state.standing is not Standing.READY,
                state.standing,
                state.endpoint_out,
                again,
            )

        while states:
            best = min(map(order, states))
            found = self._draw([state for state in states if order(state) == best])
            if self._has_key(found.provider):
                return found.provider
            states = [state for state in states if state.route.key != found.route.key]
        return None

    def _draw(self, pool: Sequence[RouteState]) -> RouteState:
        """Returns one of the routes, of which there is at least one, by weight and headroom."""
        if len(pool) == 1:
            return pool[0]
        rooms = {key: self._room(key) for key in {state.route.key for state in pool}}
        weights = [state.route.weight for state in pool]
        return pool[choose(weights, [rooms[state.route.key] for state in pool], self._rng.random())]

    def begin_call(self, provider: Provider, model: Model) -> None:
        """Takes the trials of a route that was chosen, for the call that begins now."""
        if self.places_out:
            now = self._clock.now()
            for outage in self._outages.out(now, provider, model.name):
                # An endpoint that is out before its time is not tried: it is called because all are out.
                early = outage.place.part is RoutePart.KEY
                if early or not self._outages.is_closed(now, outage):
                    self._outages.begin_trial(now, outage)

    def view(self, health: Health, catalog: Catalog) -> Health:
        """Returns `health` as planning should see it while something is out of service: a target of which no key
        serves is down."""
        if catalog is not self._seen:
            self._seen = catalog
            self._outages.forget([place for place in [*self.places_out] if not _is_in(place, catalog)])
            self._count_out()
        now = self._clock.now()

        def seen(model: Model) -> TargetHealth:
            state, provider = health(model), catalog.providers[model.provider]
            if not provider.routes or state.availability is Availability.DOWN:
                return state
            states = [s for s in self._states(now, provider, model) if self._keys(s.provider) is not None]
            if any(s.standing <= Standing.ENDPOINT_OUT for s in states):
                return state
            return structs.replace(
                state,
                availability=Availability.DOWN,
                reason=NO_KEY_SERVES,
                retry_after=max(0.0, min(s.back for s in states) - now) if states else None,
                trial=any(s.standing is Standing.LAST_RESORT for s in states),
            )

        return seen

    def record_success(self, provider: Provider, model: Model, began: float) -> None:
        """Records a call by a route which began at `began` (epoch seconds) and gave the answer."""
        self._count_call(provider, "success")
        self._put_back_proven(provider, model, began)

    def _put_back_proven(self, provider: Provider, model: Model, began: float) -> None:
        """Puts back what an answer shows to work, which a refusal of the request is too."""
        if self.places_out:
            now = self._clock.now()
            for back in self._outages.record_success(now, began, provider, model.name):
                self._tell_back(back, "a trial that succeeded")

    def give_up(self, provider: Provider, model: Model) -> None:
        """Gives the trials of a call back which has shown nothing: not made, or left by its caller."""
        if self.places_out:
            self._outages.end_trials(provider, model.name)

    def record_failure(
        self, provider: Provider, model: Model, began: float, failure: ProviderFailure
    ) -> None:
        """Records a call by a route which began at `began` and failed. Where a key or an endpoint is to blame, it is
        taken out; the failure says then which part the next attempt replaces, and it is held against the provider
        only where nothing is left to replace it."""
        self._count_call(provider, failure.error_class)
        of = self._catalog().providers.get(provider.name)
        blamed = blame(failure, of, model.name) if of is not None else None
        if of is None or blamed is None:
            if failure.error_class in OF_REQUEST:
                self._put_back_proven(provider, model, began)
            else:
                self.give_up(provider, model)
            return
        # Of another part it has shown nothing.
        self.give_up(provider, model)
        now = self._clock.now()
        outage = self._outages.record_failure(
            now,
            began,
            place_of(provider, blamed),
            blamed,
            failure.error_class,
            self._version(provider, blamed.part),
        )
        if outage is not None:
            self._changes.append(outage)
            self._count_out()
            log.warning(
                "route_out",
                provider=provider.name,
                part=outage.place.part,
                name=outage.place.name,
                model=outage.place.model,
                reason=outage.error_class,
                seconds=round(outage.until - now, 1),
                times=outage.times,
            )
        others = [
            state
            for state in self._states(now, of, model)
            if state.route != provider.route and self._keys(state.provider) is not None
        ]
        if any(state.standing is Standing.READY for state in others):
            failure.next_route = blamed.part
        spare = [state.route for state in others if state.standing is not Standing.CLOSED]
        failure.spare_parts = frozenset(
            [route.key if blamed.part is RoutePart.KEY else route.endpoint for route in spare]
        )
        # Of the keys this room alone is the judge: the last one takes the targets out of plans.
        if failure.next_route is not None or blamed.part is RoutePart.KEY:
            failure.at_fault = False

    def take_changes(self) -> list[Outage]:
        """See `RouteChanges.take_changes`."""
        changes, self._changes = self._changes, []
        return changes

    def all_out(self) -> list[Outage]:
        """See `RouteChanges.all_out`."""
        return self._outages.all_out()

    def merge(self, change: Outage) -> None:
        """See `RouteChanges.merge`. What it says of another key than this router has is left out."""
        if change.until and change.key_version and change.key_version not in self._versions(change):
            return
        if self._outages.merge(self._clock.now(), change):
            self._count_out()

    def _states(self, now: float, provider: Provider, model: Model) -> list[RouteState]:
        """Returns the state of each route that serves the model."""
        if not self.places_out:
            return self._all_ready(provider, model)
        found = []
        for candidate in provider.routes:
            route = candidate.route
            if route is None or not route.serves(model.name):
                continue
            outages = self._outages.out(now, candidate, model.name)
            outages = [outage for outage in outages if not self._put_back_replaced(now, candidate, outage)]
            found.append(state_of(now, candidate, route, outages, self._outages))
        return found

    def _all_ready(self, provider: Provider, model: Model) -> list[RouteState]:
        """Returns the states of the routes that serve the model as they are while nothing is out."""
        known = self._ready.get(model.id)
        if known is None or known[0] is not provider:
            states = [
                state_of(0.0, candidate, candidate.route, (), self._outages)
                for candidate in provider.routes
                if candidate.route is not None and candidate.route.serves(model.name)
            ]
            known = self._ready[model.id] = (provider, states)
        return known[1]

    def _put_back_replaced(self, now: float, route: Provider, outage: Outage) -> bool:
        """Puts a key back that is not the one which was taken out. Returns True if it was."""
        if not outage.key_version or outage.key_version == self._keys.version(route):
            return False
        self._tell_back(self._outages.put_back(now, outage), "another key")
        return True

    def _tell_back(self, back: Outage, by: str) -> None:
        self._changes.append(back)
        self._count_out()
        place = back.place
        log.info(
            "route_back", provider=place.provider, part=place.part, name=place.name, model=place.model, by=by
        )

    def _room(self, key: str) -> float:
        if not key:
            return 1.0
        scope = self._scopes.get(key)
        if scope is None:
            scope = self._scopes[key] = Scope(ScopeKind.KEY, key)
        return headroom(self._limits(scope))

    def _has_key(self, route: Provider) -> bool:
        """Returns True if the key is there, or none is needed; logs one that is missing."""
        if self._keys(route) is not None:
            self._missing.discard(route.key_name)
            return True
        if route.key_name not in self._missing:
            self._missing.add(route.key_name)
            log.warning("key_missing", provider=route.name, why=self._keys.why_missing(route))
        return False

    def _version(self, route: Provider, part: RoutePart) -> str:
        return self._keys.version(route) if part is RoutePart.KEY else ""

    def _versions(self, change: Outage) -> set[str]:
        """Returns the version of the key that a change names, as this router has it; empty: it has none."""
        provider = self._catalog().providers.get(change.place.provider)
        routes = provider.routes if provider is not None else ()
        return {self._keys.version(r) for r in routes if r.key_name == change.place.name}

    def _count_call(self, provider: Provider, result: str) -> None:
        route = provider.route
        if route is None:
            return
        # Looking children up by their labels costs more than counting.
        labels = (provider.name, route.key, route.endpoint, result)
        count = self._counts.get(labels)
        if count is None:
            count = self._counts[labels] = self._calls.labels(*labels)
        count.inc()

    def _count_out(self) -> None:
        counts = dict.fromkeys(RoutePart, 0)
        for outage in self._outages.all_out():
            counts[outage.place.part] += 1
        for part, count in counts.items():
            self._gauge.labels(part).set(count)
