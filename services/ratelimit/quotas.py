"""Use cases of operators: present use, limits set at run time, forecasts of exhaustion."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, replace

import msgspec

from libs.bounds import MAX_REASON
from libs.errors import FieldViolation, InvalidArgument, NotFound
from libs.limits import LimitKey
from libs.rpc.change_sender import ChangeNotes
from libs.telemetry import get_logger
from services.ratelimit.domain.limits import Limit, check_ids, check_scopes
from services.ratelimit.domain.quota import Quota
from services.ratelimit.effective_limits import EffectiveLimits
from services.ratelimit.enforce import Enforcer
from services.ratelimit.forecasting.exhaustion import Exhaustion, forecast_exhaustion
from services.ratelimit.forecasting.trends import Trends
from services.ratelimit.learning.learned import Learned
from services.ratelimit.learning.learning import Learning
from services.ratelimit.ports import LimitStore

log = get_logger(__name__)

MAX_PAGE = 1000

_read_position = msgspec.json.Decoder(tuple[str, int, int]).decode


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list. `next_token` empty: the last."""

    quotas: tuple[Quota, ...]
    next_token: str


class Quotas:
    """Lists, sets and forecasts limits."""

    def __init__(
        self,
        enforcer: Enforcer,
        effective: EffectiveLimits,
        store: LimitStore,
        trends: Trends,
        learning: Learning,
        changes: ChangeNotes | None = None,
    ) -> None:
        """`changes`: takes note of limits that are set; None: nobody does."""
        self._enforcer = enforcer
        self._effective = effective
        self._store = store
        self._trends = trends
        self._learning = learning
        self._changes = changes

    def learned(self, key: LimitKey) -> Learned | None:
        """Returns what is learned of a limit from providers; None: nothing."""
        return self._learning.of(key)

    async def list(self, scopes: Sequence[str], page_size: int, page_token: str) -> Page:
        """Returns a page, ordered by scope, unit and period. Learned limits that are not sure enough to hold are in
        it, as shadow limits. Raises InvalidArgument, Unavailable."""
        chosen = check_scopes(scopes) if scopes else ()
        if not 0 <= page_size <= MAX_PAGE:
            raise InvalidArgument([FieldViolation("page_size", f"must be from 1 to {MAX_PAGE}")])
        size = page_size or MAX_PAGE
        limits = self._effective.all(chosen)
        limits += [
            Limit(key, learned.value, shadow=True)
            for key, learned in self._learning.all().items()
            if self._effective.get(key) is None and (not chosen or key.scope in chosen)
        ]
        limits.sort(key=lambda limit: limit.key.position)
        if page_token:
            after = _decode(page_token)
            limits = [limit for limit in limits if limit.key.position > after]
        page = limits[:size]
        token = _encode(page[-1].key) if len(limits) > size else ""
        return Page(tuple(await self._enforcer.read(page)), token)

    async def set_limit(
        self, key: LimitKey, limit: Limit | None, expected_version: int | None, actor: str, reason: str
    ) -> Quota | None:
        """Sets the run-time limit, None: removes it. Returns the limit that holds now with its use, None: none.
        Raises InvalidArgument, Aborted, Unavailable."""
        check_ids({"actor": actor})
        if len(reason) > MAX_REASON:
            raise InvalidArgument([FieldViolation("reason", f"must be at most {MAX_REASON} characters")])
        before = self._effective.get(key)
        version = await self._store.set_override(key, limit, expected_version, actor, reason)
        if self._changes is not None:
            self._changes.note("limit", str(key), version, actor, reason, _setting(before), _setting(limit))
        log.info("limit_set", limit=str(key), version=version, actor=actor, removed=limit is None)
        await self._effective.refresh()
        now_holds = self._effective.get(key)
        if now_holds is None:
            return None
        (state,) = await self._enforcer.read([now_holds])
        return replace(state, limit=replace(now_holds, version=self._effective.version_of(key)))

    async def forecast(self, key: LimitKey) -> Exhaustion:
        """Forecasts when the limit will be used up, and begins to follow it. Raises NotFound, Unavailable."""
        limit = self._effective.get(key)
        if limit is None:
            raise NotFound(f"There is no limit {key}", reason="LIMIT_UNKNOWN")
        self._trends.follow([limit])
        now, (reading,) = await self._enforcer.readings([limit])
        return forecast_exhaustion(limit, reading, now, self._trends.of(key))


def _setting(limit: Limit | None) -> str:
    """Returns a limit as JSON for the history of changes; None, for which the catalog's holds: empty."""
    if limit is None:
        return ""
    fields = {name: getattr(limit, name) for name in ("limit", "burst", "time_zone", "shadow", "pace")}
    return msgspec.json.encode(fields).decode()


def _encode(key: LimitKey) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(key.position)).decode()


def _decode(token: str) -> tuple[str, int, int]:
    try:
        return _read_position(base64.urlsafe_b64decode(token.encode()))
    except (ValueError, msgspec.DecodeError):
        raise InvalidArgument(
            [FieldViolation("page_token", "is not one that this service gave")], reason="BAD_PAGE_TOKEN"
        ) from None
