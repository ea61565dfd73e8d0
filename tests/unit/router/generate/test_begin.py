"""An attempt begins, or leaves nothing behind."""

from __future__ import annotations

import asyncio

import pytest

from libs.catalog.model import Model
from services.router.health.view import CallTicket
from tests.support.routing import TENANT, FakeHealth, Harness, catalog, generation, model


class Waiting(FakeHealth):
    """The permit to probe is on its way for ever."""

    async def begin_call(self, model: Model, tenant: str) -> CallTicket | None:
        await asyncio.Event().wait()
        return None


async def test_a_caller_that_leaves_while_a_permit_is_on_its_way_holds_no_limits() -> None:
    """The amounts admitted for its attempt are given back."""
    found = catalog([model("a/m")])
    harness = Harness(found, {"a/m": ["fine"]}, health=Waiting())
    call = asyncio.create_task(harness.generate.whole(found, TENANT, generation()))
    async with asyncio.timeout(5):
        while not harness.admission.open:
            await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    harness.assert_settled()
