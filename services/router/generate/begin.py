"""From a candidate to a running attempt: through budgets, limits and the breaker."""

from __future__ import annotations

from collections.abc import Collection
from functools import lru_cache

from libs.catalog.model import Provider
from libs.catalog.routes import ProviderRoute
from libs.clock import Clock
from libs.errors import QuotaViolation
from libs.limits import Amounts, Scope, ScopeKind
from libs.selection import Degradation
from libs.types import Priority
from services.router.admission.admission import Admission, Claim, Permit
from services.router.admission.amounts import AdmissionDenied
from services.router.budgets.budget import UNRESTRICTED, BudgetVerdict, dearest
from services.router.budgets.budgets import Budgets
from services.router.generate.attempt import Attempts, RunningAttempt
from services.router.generate.in_flight import InFlight, LimitedCandidate
from services.router.health.view import HealthView
from services.router.planning.candidate import Candidate
from services.router.routes.routes import ProviderRoutes
from services.router.set_aside.set_aside import SettingAside

#: A wait in vain ends this long before the caller's deadline, seconds: so that the caller hears what is full and when
#: to come back, not its own clock.
LAST_WORD = 0.1


class Gate:
    """Begins the attempts that budgets, limits, set-aside and breakers let pass."""

    def __init__(
        self,
        budgets: Budgets,
        admission: Admission,
        set_aside: SettingAside,
        health: HealthView,
        attempts: Attempts,
        clock: Clock,
        routes: ProviderRoutes,
    ) -> None:
        self._budgets = budgets
        self._admission = admission
        self._set_aside = set_aside
        self._health = health
        self._attempts = attempts
        self._clock = clock
        self._routes = routes

    async def begin(
        self,
        request: InFlight,
        candidate: Candidate,
        *,
        hedge: bool = False,
        patience: float = 0.0,
        only_paced: bool = False,
    ) -> RunningAttempt | None:
        """Returns an attempt that has passed budgets, limits and breaker. None: refused, and recorded as that.
        `patience`: how long it may wait in the queue for limits, seconds; `only_paced`: for those that are paced
        alone."""
        generation, plan = request.generation, request.plan
        # The first attempt begins in the instant in which the plan was made.
        verdict, request.budget_verdict = request.budget_verdict, None
        if verdict is None:
            verdict = self._budgets.check_budgets(plan.budgets)
        if verdict is not UNRESTRICTED and not self._affords(request, candidate, verdict):
            return None
        full: tuple[str, ...] = ()
        while True:
            provider = candidate.provider
            if provider.routes:
                chosen = self._choose_route(request, candidate, full)
                if chosen is None:
                    return None
                provider = chosen
            scopes, amounts = _wanted(request, candidate, provider)
            permit = self._admission.try_admit(scopes, amounts)
            if permit is None:
                priority = Priority.BACKGROUND if verdict.queue else generation.priority
                claim = Claim(scopes, amounts, generation.tenant, priority, patience, only_paced)
                permit = await self._admit(request, candidate, claim)
            if permit is not None:
                break
            if not self._is_key_full(request, candidate, provider):
                return None
            full = (*full, provider.key_name)
        # The limiter has answered by now, so no budget is unknown any more.
        if verdict.unsure and not self._affords(
            request, candidate, self._budgets.check_budgets(plan.budgets)
        ):
            permit.cancel()
            return None
        ticket = None
        if provider.route is not None:
            self._routes.begin_call(provider, candidate.model)
        if self._set_aside.begin_call(candidate.provider, candidate.model, generation, stream=request.stream):
            try:
                ticket = await self._health.begin_call(candidate.model, generation.tenant)
            except BaseException:
                permit.cancel()
                self._give_route_up(candidate, provider)
                raise
        if ticket is None:
            permit.cancel()
            self._give_route_up(candidate, provider)
            request.refused[candidate.target] = ()
            return None
        return self._attempts.begin(
            generation,
            candidate,
            provider,
            number=len(request.records) + 1 + hedge,
            reserved=amounts,
            permit=permit,
            ticket=ticket,
            streamed=request.stream,
            hedge=hedge,
            parent=request.span,
            before=None if provider.route is None else _route_before(request, candidate),
        )

    async def wait(self, request: InFlight, *, only_paced: bool) -> RunningAttempt | None:
        """Returns an attempt after waiting in the queue for the candidate that limits (`only_paced`: paced ones
        alone) will let pass soonest; there is one. None: in vain."""
        waitable = [limited for limited in request.limited if limited.paced or not only_paced]
        candidate = min(waitable, key=lambda limited: limited.seconds).candidate
        request.limited.clear()
        request.quota_retry_after = None
        # What had no room before the wait may have some after it.
        request.refused = {target: full for target, full in request.refused.items() if not full}
        remaining = request.envelope.deadline - self._clock.monotonic()
        patience = remaining - max(candidate.estimated_latency or 0.0, LAST_WORD)
        return await self.begin(request, candidate, patience=patience, only_paced=only_paced)

    def _choose_route(
        self, request: InFlight, candidate: Candidate, full: Collection[str]
    ) -> Provider | None:
        """Returns one of the routes of the candidate's provider, none with a key of `full`. None: there is none;
        where it is not for want of room, that is recorded."""
        tried = [f.route for f in request.failed if f.route is not None]
        found = self._routes.choose(candidate.provider, candidate.model, tried, full)
        if found is not None and full:
            # The key before had no room; this one may.
            request.refused.pop(candidate.target, None)
        elif found is None and not full:
            request.refused[candidate.target] = ()
        return found

    def _is_key_full(self, request: InFlight, candidate: Candidate, provider: Provider) -> bool:
        """Returns True if nothing but the key's own limits refused the attempt, and others may have room."""
        if provider.route is None:
            return False
        violations = request.refused.get(candidate.target, ())
        return bool(violations) and all(
            not isinstance(v.key, str) and v.key.scope.kind is ScopeKind.KEY for v in violations
        )

    def _give_route_up(self, candidate: Candidate, provider: Provider) -> None:
        if provider.route is not None:
            self._routes.give_up(provider, candidate.model)

    def _affords(self, request: InFlight, candidate: Candidate, verdict: BudgetVerdict) -> bool:
        """Returns True if the budgets' thresholds let the candidate pass; records a refusal."""
        if verdict.notices:
            self._budgets.record_notices(verdict.notices, request.notices)
        if verdict.refused:
            request.quota_retry_after = max(v.reset_seconds or 0.0 for v in verdict.refused)
            self._refuse_all(request, verdict.refused)
            return False
        if verdict.cheaper:
            everyone = (candidate, *request.plan.candidates)
            if candidate.estimated_micro_usd > dearest(c.estimated_micro_usd for c in everyone):
                request.refused[candidate.target] = ()
                request.degradation = request.degradation or Degradation.CHEAPER_MODEL
                return False
        return True

    async def _admit(self, request: InFlight, candidate: Candidate, claim: Claim) -> Permit | None:
        try:
            remaining = request.envelope.deadline - self._clock.monotonic()
            return await self._admission.admit(claim, max(remaining - LAST_WORD, remaining / 2))
        except AdmissionDenied as denied:
            request.refused[candidate.target] = denied.violations
            if denied.retry_after is not None:
                known = request.quota_retry_after
                request.quota_retry_after = min(denied.retry_after, known or denied.retry_after)
                request.limited.append(LimitedCandidate(denied.retry_after, candidate, denied.paced))
            # Where the caller's own limit has no room, no other provider would help.
            if any(not isinstance(v.key, str) and v.key.scope.kind.callers for v in denied.violations):
                self._refuse_all(request, denied.violations)
            return None

    def _refuse_all(self, request: InFlight, violations: tuple[QuotaViolation, ...]) -> None:
        request.refused.update((c.target, violations) for c in request.plan.candidates)


def _route_before(request: InFlight, candidate: Candidate) -> ProviderRoute | None:
    """Returns the route by which the request's last attempt failed, where that was at the same target."""
    last = request.failed[-1] if request.failed else None
    return last.route if last is not None and last.candidate.target == candidate.target else None


def _wanted(request: InFlight, candidate: Candidate, provider: Provider) -> tuple[tuple[Scope, ...], Amounts]:
    """Returns the scopes of which an attempt takes, and the amounts."""
    generation, model = request.generation, candidate.model
    key = provider.key_name
    scopes = _scopes(
        generation.tenant, generation.content_type, generation.campaign, model.provider, model.id, key
    )
    amounts = Amounts(1, candidate.input_tokens, candidate.output_tokens, candidate.estimated_micro_usd)
    return scopes, amounts


@lru_cache(maxsize=4096)
def _scopes(
    tenant: str, content_type: str, campaign: str, provider: str, model: str, key: str
) -> tuple[Scope, ...]:
    scopes = [
        Scope(ScopeKind.TENANT, tenant),
        Scope(ScopeKind.PROVIDER, provider),
        Scope(ScopeKind.MODEL, model),
        Scope(ScopeKind.TENANT_PROVIDER, provider, tenant),
        Scope(ScopeKind.TENANT_CONTENT, content_type, tenant),
    ]
    if key:
        scopes.append(Scope(ScopeKind.KEY, key))
    if campaign:
        scopes.append(Scope(ScopeKind.CAMPAIGN, campaign, tenant))
    return tuple(scopes)
