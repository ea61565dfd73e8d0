"""The limits that hold now: the catalog's, capped and completed by learned ones, overridden by those set at run
time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from libs.limits import LimitKey, Scope
from libs.telemetry import get_logger
from services.ratelimit.domain.limits import Limit
from services.ratelimit.ports import LimitSource, LimitStore, Override

log = get_logger(__name__)

#: (configured limits, learned limits that held so far) → learned limits that hold from now on.
LearnedRule = Callable[[Mapping[LimitKey, Limit], Mapping[LimitKey, Limit]], Mapping[LimitKey, Limit]]

#: Scope lists whose limits are cached; a fleet uses a few per tenant.
_REMEMBERED = 65536


class EffectiveLimits:
    """The effective limits of this process. `version` is the store's, of the run-time limits that are known here."""

    def __init__(self, source: LimitSource, store: LimitStore) -> None:
        self._source = source
        self._store = store
        self._configured: Mapping[LimitKey, Limit] = source.current()
        self._overrides: dict[LimitKey, Override] = {}
        self._rule: LearnedRule = lambda configured, before: {}
        self._learned: Mapping[LimitKey, Limit] = {}
        self._limits: dict[LimitKey, Limit] = {}
        self._by_scope: dict[Scope, tuple[Limit, ...]] = {}
        self._by_scopes: dict[tuple[Scope, ...], tuple[Limit, ...]] = {}
        self._listeners: list[Callable[[frozenset[LimitKey]], None]] = []
        self.version = 0
        self._rebuild()
        source.subscribe(self._reconfigured)

    def subscribe(self, changed: Callable[[frozenset[LimitKey]], None]) -> Callable[[], None]:
        """Calls `changed` with the names of limits that changed. Returns a function that ends the subscription."""
        self._listeners.append(changed)
        return lambda: self._listeners.remove(changed)

    def of(self, scopes: tuple[Scope, ...]) -> tuple[Limit, ...]:
        """Returns every limit of the scopes, in their order."""
        found = self._by_scopes.get(scopes)
        if found is None:
            if len(self._by_scopes) >= _REMEMBERED:
                self._by_scopes.clear()
            found = tuple(limit for scope in scopes for limit in self._by_scope.get(scope, ()))
            self._by_scopes[scopes] = found
        return found

    def get(self, key: LimitKey) -> Limit | None:
        """Returns the limit of that name; None: there is none."""
        return self._limits.get(key)

    def version_of(self, key: LimitKey) -> int:
        """Returns the number of changes of this limit at run time so far."""
        override = self._overrides.get(key)
        return override.version if override else 0

    def all(self, scopes: Sequence[Scope] = ()) -> list[Limit]:
        """Returns all limits, or those of the scopes, ordered by scope, unit and period."""
        found = self.of(tuple(scopes)) if scopes else self._limits.values()
        return sorted(found, key=lambda limit: limit.key.position)

    async def refresh(self) -> None:
        """Reads the run-time limits again. Raises Unavailable."""
        self.version, self._overrides = await self._store.overrides()
        self._rebuild()

    def set_learned(self, rule: LearnedRule) -> None:
        """Sets the rule that says which learned limits hold, and applies it."""
        self._rule = rule
        if rule(self._configured, self._learned) != self._learned:
            self._rebuild()

    def _reconfigured(self) -> None:
        self._configured = self._source.current()
        self._rebuild()

    def _rebuild(self) -> None:
        self._learned = self._rule(self._configured, self._learned)
        before, limits = self._limits, {**self._configured, **self._learned}
        for key, override in self._overrides.items():
            if override.limit is not None:
                limits[key] = override.limit
        self._limits = limits
        by_scope: dict[Scope, list[Limit]] = {}
        for limit in sorted(limits.values(), key=lambda limit: limit.key.position):
            by_scope.setdefault(limit.key.scope, []).append(limit)
        self._by_scope = {scope: tuple(found) for scope, found in by_scope.items()}
        self._by_scopes = {}
        changed = frozenset(
            key for key in before.keys() | limits.keys() if before.get(key) != limits.get(key)
        )
        if changed and before:
            log.info("limits_changed", count=len(changed), version=self.version)
            for listener in tuple(self._listeners):
                listener(changed)
