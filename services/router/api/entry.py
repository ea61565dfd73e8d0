"""The calls of both doors, gRPC and HTTP: a caller's name becomes its tenant, its draft a request that can be served,
which is handed on."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager

from msgspec import structs

from libs.answer import Event, Result
from libs.catalog.catalog import Catalog
from libs.catalog.model import Model, Tenant
from libs.clock import Clock
from libs.errors import PermissionDenied, Unauthenticated
from libs.rpc.identity import OPERATOR
from libs.rpc.observe import current_span
from libs.types import Usage
from services.router.api.accept import Draft, accept
from services.router.api.fetched import FetchedAddresses
from services.router.generate.dry_run import DryRun
from services.router.generate.generate import Generate
from services.router.planning.candidate import Candidate
from services.router.planning.plan import Plan
from services.router.planning.planner import permitted_models
from services.router.request.generation import Generation


class Entry:
    """The calls that tenants may make. `new_id`: returns an id for a request that has none. `caller`: as the
    authenticator named it. `remaining`: seconds until the caller's deadline, None: it set none. Every method raises
    the errors of `libs.errors`."""

    def __init__(
        self,
        catalog: Callable[[], Catalog],
        generate: Generate,
        dry_run: DryRun,
        clock: Clock,
        new_id: Callable[[], str],
        addresses: FetchedAddresses | None = None,
    ) -> None:
        """`addresses`: fetches those of images and files that the operator allows; None: it allows none."""
        self._addresses = addresses
        self._catalog = catalog
        self._generate = generate
        self._dry_run = dry_run
        self._clock = clock
        self._new_id = new_id

    async def generate(self, caller: str, draft: Draft, remaining: float | None) -> Result:
        """Returns the answer in one piece. Cancelling it stops the provider."""
        accepted = self._accept(caller, draft, remaining)
        if self._fetches(accepted[2]):
            async with self._fetched(caller, draft, accepted[2]) as accepted:
                return await self._generate.whole(*accepted, current_span())
        return await self._generate.whole(*accepted, current_span())

    def stream(self, caller: str, draft: Draft, remaining: float | None) -> AsyncGenerator[Event, None]:
        """Yields the answer as events; the last is Completed. Closing it stops the provider."""
        accepted = self._accept(caller, draft, remaining)
        if self._fetches(accepted[2]):
            return self._stream_fetched(caller, draft, accepted[2])
        return self._generate.stream(*accepted, current_span())

    async def _stream_fetched(
        self, caller: str, draft: Draft, generation: Generation
    ) -> AsyncGenerator[Event, None]:
        async with (
            self._fetched(caller, draft, generation) as accepted,
            aclosing(self._generate.stream(*accepted, current_span())) as events,
        ):
            async for event in events:
                yield event

    def _fetches(self, generation: Generation) -> bool:
        # Most requests hold no images and files at all.
        addresses = self._addresses
        return bool(generation.attachments) and addresses is not None and addresses.wanted(generation.prompt)

    @asynccontextmanager
    async def _fetched(
        self, caller: str, draft: Draft, generation: Generation
    ) -> AsyncIterator[tuple[Catalog, Tenant, Generation]]:
        """Gives what `_accept` makes of the draft with its allowed addresses fetched. `generation`: what it made of
        it before, which holds the deadline and the id."""
        assert self._addresses is not None, "somebody has found addresses to fetch"
        left = generation.deadline - self._clock.monotonic()
        async with self._addresses.fetched(caller, draft, left) as filled:
            left = generation.deadline - self._clock.monotonic()
            named = structs.replace(filled, request_id=generation.request_id)
            yield self._accept(caller, named, left)

    def select(self, caller: str, draft: Draft, remaining: float | None) -> Plan:
        """Returns the plan of a dry run, with at least one candidate."""
        return self._dry_run.select(*self._accept(caller, draft, remaining))

    def estimate_costs(
        self, caller: str, draft: Draft, remaining: float | None
    ) -> list[tuple[Candidate, Usage, int]]:
        """See `DryRun.estimate_costs`."""
        return self._dry_run.estimate_costs(*self._accept(caller, draft, remaining))

    def models(self, caller: str) -> tuple[Sequence[Model], Sequence[str]]:
        """Returns the models and the content types that the caller may name."""
        catalog, tenant = self._tenant(caller)
        return permitted_models(catalog, tenant), list(catalog.content_types)

    def _tenant(self, caller: str) -> tuple[Catalog, Tenant]:
        catalog = self._catalog()
        tenant = catalog.tenants.get(caller)
        if caller == OPERATOR:
            raise PermissionDenied("The service token is no tenant's key", reason="TENANT_KEY_REQUIRED")
        if tenant is None:
            raise Unauthenticated("This tenant has just been removed", reason="KEY_UNKNOWN")
        return catalog, tenant

    def _accept(
        self, caller: str, draft: Draft, remaining: float | None
    ) -> tuple[Catalog, Tenant, Generation]:
        catalog, tenant = self._tenant(caller)
        now = self._clock.monotonic()
        return catalog, tenant, accept(catalog, tenant, draft, now, remaining, self._new_id)
