"""A shared stack made well again after a test that broke its providers: health remembers failures for a minute, and
the router puts whom it thinks degraded or recovering behind the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial

from pointsman.health.v1 import health_pb2 as pb
from pointsman.health.v1 import health_pb2_grpc

from libs.client import Client, SetAsideClient
from libs.errors import PointsmanError
from libs.rpc.channel import metadata
from tests.support.stack import RunningStack

PATIENCE = 60.0


class Recovery:
    """Of a stack whose providers answer by the time it is asked for; `models` are those that matter."""

    def __init__(
        self,
        stack: RunningStack,
        client: Client,
        health: health_pb2_grpc.ProviderHealthAsyncStub,
        models: Sequence[str],
    ) -> None:
        self._stack = stack
        self._client = client
        self._health = health
        self._models = tuple(models)
        self._token = stack.addresses["service_token"]

    async def complete(self) -> None:
        """Returns once nothing that failed so far is held against a model. Does nothing where nothing failed."""
        faulty = self._stack.simulator.faulty
        if not faulty and await self._well():
            return
        async with asyncio.timeout(PATIENCE):
            await self._rehabilitate()
            # The router may not have told all of it yet, and telling it later would count again. It tells one report
            # after the other: with the second that began after now, the last of what was before now has come.
            for _ in range(2):
                now = time.time()
                await asyncio.gather(*(self._answered(model) for model in self._models))
                await _until(partial(self._told_since, now))
            await self._rehabilitate()
            await _until(self._in_order)
        faulty.clear()

    async def _well(self) -> bool:
        return all(
            state.error_rate == 0
            and state.status
            not in {pb.PROVIDER_STATUS_DEGRADED, pb.PROVIDER_STATUS_RECOVERING, pb.PROVIDER_STATUS_DOWN}
            for state in await self._listed()
        )

    async def _listed(self) -> Sequence[pb.ProviderHealthState]:
        answer = await self._health.ListProviders(pb.ListProvidersRequest(), metadata=metadata(self._token))
        return answer.providers

    async def _rehabilitate(self) -> None:
        for provider in {model.partition("/")[0] for model in self._models}:
            word = pb.SetProviderModeRequest(
                provider=provider, mode=pb.PROVIDER_MODE_AUTOMATIC, author="ann", reason="the next test"
            )
            await self._health.SetProviderMode(word, metadata=metadata(self._token))
        async with SetAsideClient(self._stack.addresses["router"], self._token) as operator:
            for entry in await operator.list_set_aside():
                await operator.clear_set_aside(entry.name)

    async def _answered(self, model: str) -> None:
        """The router hears of the rehabilitation a moment later."""

        async def answered() -> bool:
            with suppress(PointsmanError):
                await self._client.generate("Are you well?", models=[model], timeout=20)
                return True
            return False

        await _until(answered)

    async def _told_since(self, now: float) -> bool:
        told = {f"{s.provider}/{s.model}": s.last_checked.ToNanoseconds() / 1e9 for s in await self._listed()}
        return all(told[model] > now for model in self._models)

    async def _in_order(self) -> bool:
        """Returns True if the router takes the models as they are named: none is down, and none behind."""
        try:
            decision = await self._client.select("Are you well?", models=self._models, timeout=20)
        except PointsmanError:
            return False
        candidates = [
            decision.selection,
            *(c.selection for c in decision.alternatives if not c.excluded_because),
        ]
        return [f"{c.provider}/{c.model}" for c in candidates] == list(self._models)


async def _until(condition: Callable[[], Awaitable[bool]]) -> None:
    while not await condition():
        await asyncio.sleep(0.02)
