"""Admission from leased slices.

A request that the slices cover makes no call. Demand is measured per limit, and slices for the next seconds are asked
for before they run out. When the limiter is gone, slices are lived off first; then, per dimension: rates and
concurrency get a local share of the configured limit, calendar quotas and money are closed. What is closed waits a
moment for a limiter that has just gone, as one that restarts has; then it is refused because the limiter is
unavailable, never because a limit is used up.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from opentelemetry.trace import SpanKind

from libs.answer import LimitState
from libs.catalog.catalog import Catalog
from libs.clock import Clock
from libs.limits import Amounts, Period, Scope
from libs.telemetry import Metrics
from libs.tracing import Span, current
from services.router.admission.admission import Claim, Permit
from services.router.admission.amounts import AdmissionDenied, Denial
from services.router.admission.lease_stream import LeaseReply, LeaseStream
from services.router.admission.local_share import LocalShare
from services.router.admission.slices import Taken

#: Without an answer for so long the limiter counts as gone, seconds.
ANSWER_TIMEOUT = 1.0
#: A limiter that went less than this ago is waited for where nothing can be admitted without it, seconds.
RETURN_PATIENCE = 3.0
#: A denial is repeated from memory for at most this long, so that a flood does not reach the limiter, seconds.
DENIAL_MEMORY = 0.1
#: Denials that are remembered; beyond, those that are over are forgotten.
DENIALS = 1024


class _KnownDenial(NamedTuple):
    """A denial, repeated `until` then to whoever asks for as much as `least`."""

    until: float
    least: Amounts
    denial: Denial


class LeasedAdmission:
    """Satisfies `Admission`; never waits for room."""

    def __init__(
        self,
        leases: LeaseStream,
        catalog: Callable[[], Catalog],
        clock: Clock,
        metrics: Metrics,
        local_share: float,
    ) -> None:
        """`leases` brings the slices to its pool; whoever makes it keeps it running. `local_share`: the share of each
        rate, 0 to 1, that this router may admit alone while the limiter is gone."""
        self._clock = clock
        self._pool = leases.pool
        self.leases = leases
        #: Replies to come, by the scopes of a request.
        self._asking: dict[tuple[Scope, ...], LeaseReply] = {}
        #: Requests that wait for a reply, by their scopes.
        self._waiting: Counter[tuple[Scope, ...]] = Counter()
        #: Scopes for which more is asked ahead.
        self._ahead: set[Scope] = set()
        #: The limiter is connected and does not answer.
        self._silent = False
        self._denials: dict[tuple[Scope, ...], _KnownDenial] = {}
        self._local = LocalShare(catalog, local_share)
        admitted = metrics.counter(
            "admissions", "Attempts admitted, by where the room came from", ("source",)
        )
        self._from_lease = admitted.labels("lease")
        self._from_share = admitted.labels("local_share")

    def try_admit(self, scopes: Sequence[Scope], amounts: Amounts) -> Permit | None:
        """Admits from what is held."""
        now = self._clock.monotonic()
        taken = self._pool.take(scopes, amounts, now)
        return None if taken is None else self._admitted(scopes, taken, now)

    def budget_use(self, scope: Scope, period: Period) -> tuple[int, int] | None:
        """Returns use and limit as of the last grant."""
        return self._pool.use(scope, period, self._clock.monotonic())

    def limit_states(self, scope: Scope) -> tuple[LimitState, ...]:
        """Returns the limits as of the last grant, less what this router has used since."""
        return self._pool.states(scope, self._clock.monotonic())

    async def admit(self, claim: Claim, timeout: float) -> Permit:
        """Admits after asking. Raises AdmissionDenied."""
        self._waiting[claim.scopes] += 1
        try:
            return await self._admit(claim.scopes, claim.amounts, timeout)
        finally:
            self._waiting[claim.scopes] -= 1
            if not self._waiting[claim.scopes]:
                del self._waiting[claim.scopes]

    async def _admit(self, scopes: tuple[Scope, ...], amounts: Amounts, timeout: float) -> Permit:
        returned = False
        began = self._clock.monotonic()
        deadline = began + min(timeout, ANSWER_TIMEOUT)
        while True:
            now = self._clock.monotonic()
            taken = self._pool.take(scopes, amounts, now)
            if taken is not None:
                return self._admitted(scopes, taken, now)
            self._raise_if_denied(scopes, amounts, now)
            if not self.leases.connected:
                back_by = min(began + timeout, self.leases.lost_at + RETURN_PATIENCE)
                try:
                    return self._without_limiter(scopes, amounts, now)
                except AdmissionDenied:
                    if now >= back_by:
                        raise
                with suppress(TimeoutError):
                    async with asyncio.timeout(back_by - now):
                        await self.leases.connection.wait()
                        deadline = self._clock.monotonic() + ANSWER_TIMEOUT
                continue
            if now >= deadline:
                return self._without_limiter(scopes, amounts, now)
            span = _span(scopes)
            try:
                reply = self._ask(scopes, amounts, now, span)
                if self._silent:
                    # It hangs. One question stays open, so that its first answer ends the silence; nobody waits.
                    return self._without_limiter(scopes, amounts, now)
                async with asyncio.timeout(deadline - now):
                    denied = await asyncio.shield(reply)
            except TimeoutError:
                self._silent = True
                continue
            except ConnectionError:
                continue
            finally:
                if span is not None:
                    span.end()
            if denied is None:
                continue
            if not returned and self.leases.report():
                # What this router is done with may be what is missing. The report goes first.
                returned = True
                continue
            self._remember(scopes, amounts, denied)
            raise AdmissionDenied(denied.violations, denied.retry_after)

    def _admitted(self, scopes: Sequence[Scope], taken: list[Taken], now: float) -> Permit:
        self._from_lease.value += 1
        for scope, want in self._pool.wanted(scopes, now):
            if scope not in self._ahead and self.leases.connected:
                self._ahead.add(scope)
                answer = self.leases.ask([scope], Amounts(), want, Amounts())
                answer.add_done_callback(partial(self._end_ahead, scope))
        return Permit(partial(self._settle, taken))

    def _settle(self, taken: list[Taken], used: Amounts | None) -> None:
        self._pool.settle(taken, used or Amounts(), self._clock.monotonic())

    def _ask(self, scopes: tuple[Scope, ...], amounts: Amounts, now: float, span: Span | None) -> LeaseReply:
        """Returns the reply to come. Requests for the same scopes ask once at a time."""
        answer = self._asking.get(scopes)
        if answer is None or answer.done():
            asks = self._pool.shortage(scopes, amounts, self._waiting[scopes], now)
            answers = [self.leases.ask(*ask, span) for ask in asks]
            answer = answers[0] if len(answers) == 1 else asyncio.ensure_future(_all(answers))
            self._asking[scopes] = answer
            answer.add_done_callback(partial(self._end_asking, scopes))
        return answer

    def _end_ahead(self, scope: Scope, _: LeaseReply) -> None:
        self._silent = False
        self._ahead.discard(scope)

    def _end_asking(self, scopes: tuple[Scope, ...], answer: LeaseReply) -> None:
        self._silent = False
        if not answer.cancelled():
            answer.exception()  # retrieved, or asyncio logs it where nobody waits any more
        if self._asking.get(scopes) is answer:
            del self._asking[scopes]

    def _without_limiter(self, scopes: Sequence[Scope], amounts: Amounts, now: float) -> Permit:
        reservation = self._local.admit(scopes, amounts, now)
        self._from_share.inc()
        return Permit(lambda _: self._local.release(reservation))

    def _raise_if_denied(self, scopes: tuple[Scope, ...], amounts: Amounts, now: float) -> None:
        known = self._denials.get(scopes)
        if known is None:
            return
        if now >= known.until:
            del self._denials[scopes]
        elif _covers(amounts, known.least):
            raise AdmissionDenied(known.denial.violations, known.denial.retry_after)

    def _remember(self, scopes: tuple[Scope, ...], amounts: Amounts, denial: Denial) -> None:
        now = self._clock.monotonic()
        if len(self._denials) >= DENIALS:
            self._denials = {key: entry for key, entry in self._denials.items() if entry.until > now}
        seconds = DENIAL_MEMORY if denial.retry_after is None else min(DENIAL_MEMORY, denial.retry_after)
        self._denials[scopes] = _KnownDenial(now + seconds, amounts, denial)


async def _all(answers: Sequence[LeaseReply]) -> Denial | None:
    """Of questions that belong together. Raises ConnectionError."""
    denied = [answer for answer in await asyncio.gather(*answers) if answer is not None]
    if len(denied) <= 1:
        return denied[0] if denied else None
    waits = [one.retry_after for one in denied if one.retry_after is not None]
    violations = tuple([violation for one in denied for violation in one.violations])
    return Denial(violations, max(waits) if len(waits) == len(denied) else None)


def _covers(asked: Amounts, denied: Amounts) -> bool:
    return (
        asked.requests >= denied.requests
        and asked.input_tokens >= denied.input_tokens
        and asked.output_tokens >= denied.output_tokens
        and asked.micro_usd >= denied.micro_usd
    )


def _span(scopes: Sequence[Scope]) -> Span | None:
    """Returns the span of a wait for the limiter. None: the request is not traced."""
    parent = current.get()
    if parent is None or not parent.recording:
        return None
    return Span("admission", SpanKind.CLIENT, parent.context, {"pointsman.scopes": tuple(map(str, scopes))})
