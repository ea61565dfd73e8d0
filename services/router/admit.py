"""From a candidate to a running attempt: through limits, budgets and the breaker."""

from __future__ import annotations

import itertools

from services.router.attempt import Attempt, Books
from services.router.domain.amounts import AdmissionDenied, Amounts
from services.router.domain.plan import Candidate
from services.router.in_flight import InFlight
from services.router.ports import Admission, Claim, Permit


class Gate:
    """Begins attempts. `attempt_prefix` makes attempt ids unique over all processes and restarts."""

    def __init__(self, admission: Admission, books: Books, attempt_prefix: str) -> None:
        self._admission = admission
        self._books = books
        self._health = books.health
        self._clock = books.clock
        self._prefix = attempt_prefix
        self._numbers = itertools.count(1)

    async def begin(
        self, request: InFlight, candidate: Candidate, *, hedge: bool = False, patience: float = 0.0
    ) -> Attempt | None:
        """Passes limits and breaker. None: refused, and remembered as that. `patience`: how long it may wait in the
        queue for limits, seconds."""
        generation, plan = request.generation, request.plan
        permit = await self._admit(request, candidate, patience)
        if permit is None:
            return None
        ticket = None
        if self._books.set_aside.begin(candidate, generation, stream=request.stream):
            ticket = self._health.begin(candidate.model)
        if ticket is None:
            permit.cancel()
            request.refused[candidate.target] = ()
            return None
        return Attempt(
            self._books,
            generation,
            candidate,
            attempt_id=f"{self._prefix}-{next(self._numbers):x}",
            number=len(request.records) + 1 + hedge,
            input_tokens=plan.input_tokens,
            admission=permit,
            ticket=ticket,
            streamed=request.stream,
            hedge=hedge,
            parent=request.span,
        )

    async def wait(self, request: InFlight) -> Attempt | None:
        """Waits in the queue for the candidate that limits will let pass soonest; there is one. None: in vain."""
        _, candidate = min(request.short, key=lambda entry: entry[0])
        request.short.clear()
        request.quota_retry_after = None
        remaining = request.envelope.deadline - self._clock.monotonic()
        return await self.begin(request, candidate, patience=remaining - (candidate.estimated_latency or 0.0))

    async def _admit(self, request: InFlight, candidate: Candidate, patience: float) -> Permit | None:
        generation = request.generation
        model = candidate.model
        scopes = [
            f"tenant:{generation.tenant}",
            f"provider:{model.provider}",
            f"model:{model.id}",
            f"tenant_provider:{generation.tenant}/{model.provider}",
        ]
        if generation.campaign:
            scopes.append(f"campaign:{generation.tenant}/{generation.campaign}")
        output = min(generation.prompt.max_output_tokens, model.max_output_tokens)
        amounts = Amounts(1, request.plan.input_tokens, output, candidate.estimated_micro_usd)
        permit = self._admission.try_admit(scopes, amounts)
        if permit is not None:
            return permit
        try:
            remaining = request.envelope.deadline - self._clock.monotonic()
            claim = Claim(tuple(scopes), amounts, generation.tenant, generation.priority, patience)
            return await self._admission.admit(claim, remaining)
        except AdmissionDenied as denied:
            request.refused[candidate.target] = denied.violations
            if denied.retry_after is not None:
                known = request.quota_retry_after
                request.quota_retry_after = min(denied.retry_after, known or denied.retry_after)
                request.short.append((denied.retry_after, candidate))
            if any(
                v.subject.startswith((f"tenant:{generation.tenant} ", "campaign:")) for v in denied.violations
            ):
                # The caller's own limit: no other provider would help.
                request.refused.update((c.target, denied.violations) for c in request.plan.candidates)
            return None
