"""Tests a provider step by step. What it finds is evidence, like a probe's."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from urllib.parse import quote, urlsplit

from libs.catalog.catalog import Catalog
from libs.catalog.model import Model, Provider
from libs.catalog.secrets import Keys
from libs.clock import Clock
from libs.connectivity import (
    AddressesDetail,
    Cause,
    CertificateDetail,
    ConnectionDetail,
    EndpointTest,
    Finding,
    HttpDetail,
    ModelsDetail,
    ModelState,
    Step,
    StepName,
    StepVerdict,
)
from libs.errors import NotFound
from services.health.connectivity.free_endpoints import FreeEndpoint, free_endpoint
from services.health.connectivity.model_list import (
    ListedModel,
    find_listed,
    findings,
    read_list,
    read_model,
)
from services.health.connectivity.network import Address, Answer, Connection, Network, StepFailed
from services.health.connectivity.verdicts import REFUSED, ends_soon, evidence, trouble_of
from services.health.domain.evidence import ProbeResult, best_result

#: Bytes of a list of models; OpenRouter's, the longest known, has some 600 KB.
_LIST_BYTES = 8 * 1024 * 1024
#: Bytes that are read of an answer whose status is what counts.
_ANSWER_BYTES = 16 * 1024
#: Models that are not listed and looked for by name: the most, and at once.
_MOST_BY_NAME, _AT_ONCE = 50, 8


class ProviderTester:
    """Tests providers of the catalog. `timeout`: of each step, in seconds."""

    def __init__(
        self,
        network: Network,
        keys: Keys,
        catalog: Callable[[], Catalog],
        record: Callable[[ProbeResult], None],
        clock: Clock,
        timeout: float,
    ) -> None:
        self._network = network
        self._keys = keys
        self._catalog = catalog
        self._record = record
        self._clock = clock
        self._timeout = timeout

    async def test(self, name: str) -> tuple[EndpointTest, ...]:
        """Tests every key and every endpoint of a provider once, all at the same time. Raises NotFound."""
        catalog = self._catalog()
        provider = catalog.providers.get(name)
        if provider is None:
            raise NotFound(f"The catalog has no provider {name[:200]!r}")
        models = [model for model in catalog.models.values() if model.provider == name]
        tests = await asyncio.gather(*(self._test(part, models) for part in provider.each_key_and_endpoint()))
        self._record(best_result([evidence(name, tested) for tested in tests]))
        return tuple(tests)

    async def _test(self, part: Provider, models: Sequence[Model]) -> EndpointTest:
        """Tests one key at one endpoint, with the models that the key may call."""
        route = part.route
        served = models if route is None else [model for model in models if route.serves(model.name)]
        return EndpointTest(part.base_url, part.key_name, await self._steps(part, part.base_url, served))

    async def _steps(self, provider: Provider, base_url: str, models: Sequence[Model]) -> tuple[Step, ...]:
        run = _Run(self._network, provider, base_url, self._keys(provider), models, self._clock)
        steps: list[Step] = []
        try:
            for name, work in run.works():
                if any(step.verdict is StepVerdict.FAILED for step in steps):
                    skipped = Step(name, StepVerdict.SKIPPED, 0.0, Cause.EARLIER_STEP_FAILED)
                    steps.append(skipped)
                    continue
                began = self._clock.monotonic()
                found = await self._bounded(work)
                seconds = max(0.0, self._clock.monotonic() - began)
                steps.append(Step(name, found.verdict, seconds, found.cause, found.detail))
        finally:
            run.close()
        return tuple(steps)

    async def _bounded(self, work: Callable[[], Awaitable[Finding]]) -> Finding:
        try:
            async with asyncio.timeout(self._timeout):
                return await work()
        except TimeoutError:
            return Finding(StepVerdict.FAILED, Cause.TIMED_OUT)
        except StepFailed as failure:
            return Finding(StepVerdict.FAILED, failure.cause, failure.certificate)


class _Run:
    """One test of one endpoint; each step leaves behind what the next one needs."""

    def __init__(
        self,
        network: Network,
        provider: Provider,
        base_url: str,
        key: str | None,
        models: Sequence[Model],
        clock: Clock,
    ) -> None:
        place = urlsplit(base_url)
        self._network = network
        self._provider = provider
        self._base_url = base_url
        self._host = place.hostname or ""
        self._secure = place.scheme == "https"
        self._port = place.port or (443 if self._secure else 80)
        self._key = key
        self._models = models
        self._clock = clock
        self._endpoint: FreeEndpoint = free_endpoint(provider)
        self._addresses: tuple[Address, ...] = ()
        self._connection: Connection | None = None
        self._status = 0

    def works(self) -> tuple[tuple[StepName, Callable[[], Awaitable[Finding]]], ...]:
        """Returns the steps in their order."""
        return (
            (StepName.NAME_RESOLUTION, self._resolve),
            (StepName.CONNECTION, self._connect),
            (StepName.TLS, self._handshake),
            (StepName.AUTHENTICATION, self._authenticate),
            (StepName.MODELS, self._compare),
        )

    def close(self) -> None:
        """Closes the connection."""
        if self._connection is not None:
            self._connection.close()

    async def _resolve(self) -> Finding:
        self._addresses = await self._network.resolve(self._host, self._port)
        found = tuple(address.ip for address in self._addresses)
        return Finding(StepVerdict.PASSED, detail=AddressesDetail(found))

    async def _connect(self) -> Finding:
        self._connection = await self._network.connect(self._addresses)
        return Finding(StepVerdict.PASSED, detail=ConnectionDetail(self._connection.address.ip))

    async def _handshake(self) -> Finding:
        if not self._secure:
            return Finding(StepVerdict.SKIPPED, Cause.NOT_OFFERED)
        assert self._connection is not None
        shown = await self._connection.secure(self._host)
        detail = CertificateDetail(shown.ends, shown.issuer, shown.protocol)
        if ends_soon(shown, self._clock.now()):
            return Finding(StepVerdict.WARNING, Cause.CERTIFICATE_ENDS_SOON, detail)
        return Finding(StepVerdict.PASSED, detail=detail)

    async def _authenticate(self) -> Finding:
        answer = await self._get(self._endpoint.least, self._key, _ANSWER_BYTES)
        self._status = answer.status
        detail = HttpDetail(answer.status)
        trouble = trouble_of(answer, detail)
        if trouble is not None and trouble.cause is Cause.SERVER_FAULT:
            return trouble
        if not self._endpoint.lists:
            return Finding(StepVerdict.SKIPPED, Cause.NOT_OFFERED, detail)
        if self._key is None:
            return Finding(StepVerdict.WARNING, Cause.KEY_NOT_SET, detail)
        if trouble is not None:
            return trouble
        if not self._key:
            return Finding(StepVerdict.SKIPPED, Cause.NO_KEY_NEEDED, detail)
        if (await self._get(self._endpoint.least, None, _ANSWER_BYTES)).status == answer.status:
            return Finding(StepVerdict.WARNING, Cause.KEY_NOT_PROVEN, detail)
        return Finding(StepVerdict.PASSED, detail=detail)

    async def _compare(self) -> Finding:
        if not self._endpoint.lists:
            return Finding(StepVerdict.SKIPPED, Cause.NOT_OFFERED)
        if self._key is None and self._status in REFUSED:
            return Finding(StepVerdict.SKIPPED, Cause.KEY_NOT_SET)
        if not self._endpoint.comparable:
            return Finding(StepVerdict.SKIPPED, Cause.NOT_COMPARABLE)
        answer = await self._get(self._endpoint.whole, self._key, _LIST_BYTES)
        detail = HttpDetail(answer.status)
        trouble = trouble_of(answer, detail)
        if trouble is not None:
            return trouble
        listed = read_list(answer.body) if answer.body is not None else None
        if listed is None:
            return Finding(StepVerdict.WARNING, Cause.UNEXPECTED_ANSWER, detail)
        found = find_listed(listed, self._models)
        if self._endpoint.by_name:
            more = await self._find_by_name([m for m in self._models if m.wire_name not in found])
            if isinstance(more, Finding):
                return more
            found |= more
        named = findings(self._models, found)
        compared = ModelsDetail(len(listed), len(self._models), named)
        if any(finding.state is ModelState.MISSING for finding in named):
            return Finding(StepVerdict.FAILED, Cause.MODELS_MISSING, compared)
        if named:
            return Finding(StepVerdict.WARNING, Cause.MODELS_RETIRING, compared)
        return Finding(StepVerdict.PASSED, detail=compared)

    async def _find_by_name(self, models: Sequence[Model]) -> dict[str, ListedModel] | Finding:
        """Returns those of the models that the vendor has all the same, by the name in requests; the trouble where it
        does not say."""
        slots = asyncio.Semaphore(_AT_ONCE)

        async def find(name: str) -> ListedModel | Finding | None:
            path = f"/{quote(name.removeprefix('models/'), safe='/')}"
            try:
                async with slots:
                    answer = await self._get(path, self._key, _ANSWER_BYTES)
            except StepFailed as failure:
                return Finding(StepVerdict.FAILED, failure.cause)
            if answer.status == 200:
                return read_model(answer.body) if answer.body is not None else None
            trouble = trouble_of(answer, HttpDetail(answer.status))
            unsaid = trouble is not None and trouble.cause in (Cause.SERVER_FAULT, Cause.RATE_LIMITED)
            return trouble if unsaid else None

        names = [model.wire_name for model in models[:_MOST_BY_NAME]]
        found: dict[str, ListedModel] = {}
        for name, result in zip(names, await asyncio.gather(*map(find, names)), strict=True):
            if isinstance(result, Finding):
                return result
            if result is not None:
                found[name] = result
        return found

    async def _get(self, rest: str, key: str | None, most: int) -> Answer:
        url = f"{self._base_url}{self._endpoint.path}{rest}"
        return await self._network.get(url, self._endpoint.headers(key), most)
