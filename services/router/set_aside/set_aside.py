"""Setting aside what keeps failing: hands every attempt to the patterns, their verdicts to planning, and the reasons
to operators."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from msgspec import structs

from libs.catalog.catalog import Catalog
from libs.catalog.model import Model, Provider
from libs.clock import Clock
from libs.errors import NotFound
from libs.telemetry import Metrics, get_logger
from libs.types import ErrorClass
from services.router.health.target_health import Availability, TargetHealth
from services.router.request.features import Unsupported
from services.router.request.generation import Generation
from services.router.set_aside.combinations import Call, CombinationKind
from services.router.set_aside.entry import SetAsideEntry
from services.router.set_aside.patterns import Patterns

log = get_logger(__name__)

Health = Callable[[Model], TargetHealth]


class SettingAside:
    """The combinations that this router process sets aside."""

    def __init__(
        self,
        clock: Clock,
        rng: Random,
        metrics: Metrics,
        key_version: Callable[[Provider], str],
    ) -> None:
        """`key_version` returns what tells a provider's present key from its earlier ones."""
        self._clock = clock
        self._patterns = Patterns(rng, key_version)
        self._catalog = ""
        self._gauge = metrics.gauge(
            "set_aside", "Combinations that are set aside, or wait for the trial that ends it", ("kind",)
        )
        for kind in CombinationKind:
            self._gauge.labels(kind).set(0)

    def view(self, health: Health, catalog: Catalog, generation: Generation, *, stream: bool) -> Health:
        """Returns `health` as planning should see it for this request. Costs nothing while nothing is set aside."""
        if catalog.version != self._catalog:
            if self._catalog:
                self._patterns.allow_trials(self._clock.now())
            self._catalog = catalog.version
        if not self._patterns:
            return health
        now = self._clock.now()

        def seen(model: Model) -> TargetHealth:
            state = health(model)
            if state.availability is Availability.DOWN:
                return state
            call = Call(catalog.providers[model.provider], model, generation, stream)
            self._put_back_replaced_keys(call)
            verdict = self._patterns.verdict(now, call)
            if verdict is None:
                return state
            if verdict.seconds is None:
                return structs.replace(state, suspect=verdict.kind is CombinationKind.SHAPE)
            return structs.replace(
                state,
                availability=Availability.DOWN,
                reason=f"set aside for another {verdict.seconds:.0f} s: {verdict.reason}",
                retry_after=verdict.seconds,
                trial=verdict.last_resort,
            )

        return seen

    def begin_call(self, provider: Provider, model: Model, generation: Generation, *, stream: bool) -> bool:
        """Takes leave for an attempt, and the trial where one is due. Returns False if the combination is set aside
        by now, or another call is trying it."""
        if not self._patterns:
            return True
        call = Call(provider, model, generation, stream)
        self._put_back_replaced_keys(call)
        return self._patterns.begin_call(self._clock.now(), call)

    def record_success(
        self, provider: Provider, model: Model, generation: Generation, began: float, *, stream: bool
    ) -> None:
        """Records an attempt that began at `began` (epoch seconds) and gave the answer."""
        call = Call(provider, model, generation, stream)
        if back := self._patterns.record_success(self._clock.now(), began, call):
            self._put_back(back, "a trial that succeeded")

    def record_failure(
        self,
        provider: Provider,
        model: Model,
        generation: Generation,
        began: float,
        error_class: ErrorClass,
        *,
        explicit: bool,
        stream: bool,
        unsupported: Unsupported | None = None,
        quota_back: float | None = None,
    ) -> None:
        """Records one that failed; see `Patterns.record_failure`."""
        now = self._clock.now()
        call = Call(provider, model, generation, stream)
        entry = self._patterns.record_failure(
            now,
            began,
            call,
            error_class,
            explicit=explicit,
            unsupported=unsupported,
            quota_back=quota_back,
        )
        if entry is not None:
            self._count()
            log.warning(
                "set_aside",
                combination=entry.combination.name,
                reason=entry.reason,
                seconds=round(entry.until - now),
                times=entry.times,
            )

    def entries(self) -> list[SetAsideEntry]:
        """Returns all that is set aside, sorted by name."""
        found = self._patterns.entries(self._clock.now())
        self._count()
        return found

    def clear(self, name: str) -> SetAsideEntry:
        """Puts one combination back for an operator, and returns it. Raises NotFound."""
        entry = self._patterns.clear(name)
        if entry is None:
            raise NotFound(f"Nothing called {name[:300]!r} is set aside", reason="NOT_SET_ASIDE")
        self._count()
        log.warning("put_back", combination=name, by="an operator")
        return entry

    def _put_back_replaced_keys(self, call: Call) -> None:
        self._put_back(self._patterns.put_back_replaced_keys(call.provider, call.model), "another key")

    def _put_back(self, back: list[SetAsideEntry], by: str) -> None:
        if back:
            self._count()
            for entry in back:
                log.info("put_back", combination=entry.combination.name, by=by)

    def _count(self) -> None:
        counts = dict.fromkeys(CombinationKind, 0)
        for entry in self._patterns.entries(self._clock.now()):
            counts[entry.combination.kind] += 1
        for kind, count in counts.items():
            self._gauge.labels(kind).set(count)
