"""The Admission port: what the fake of the router's tests promises, leased admission does against a real limiter on a
real Valkey, and the queue in front of either changes none of it."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial

import pytest

from libs.clock import SystemClock
from libs.limits import Amounts
from libs.telemetry import Metrics
from services.ratelimit.adapters.redis_functions import Functions, connect
from services.ratelimit.adapters.redis_limits import RedisLimitStore
from services.ratelimit.domain.limits import Limit
from services.router.admission.admission import Admission, Claim, Permit
from services.router.admission.amounts import AdmissionDenied
from services.router.admission.queued_admission import QueueBounds, QueuedAdmission
from tests.support.engines import RedisServer
from tests.support.leasing import admission_at, claim, limiter_on
from tests.support.limits import limit
from tests.support.routing import FakeAdmission, denial

FULL = "tenant:full"
FREE = "provider:free"
#: The limit of FREE; nothing may be admitted for FULL.
SLOTS = 5
#: One call at a time, and five a minute.
NARROW = "tenant:narrow"

Make = Callable[[], Awaitable[Admission]]


@pytest.fixture(params=["fake", "leased", "queued fake", "queued leased"])
async def admission(
    request: pytest.FixtureRequest,
    valkey_server: RedisServer,
) -> AsyncIterator[Admission]:
    async with AsyncExitStack() as stack:
        made: Admission
        if request.param.endswith("fake"):
            made = FakeAdmission({FULL: denial(FULL, None)})
        else:
            redis = connect(valkey_server.url)
            stack.push_async_callback(redis.aclose)
            store = RedisLimitStore(Functions(redis), uuid.uuid4().hex, SystemClock(), trust=True)
            limits: list[Limit] = [
                limit("requests", "minute", 0, FULL),
                limit("requests", "minute", 600, FREE),
                limit("concurrency", "", SLOTS, FREE),
                limit("requests", "minute", 5, NARROW),
                limit("concurrency", "", 1, NARROW),
                limit("requests", "minute", 600, "provider:other"),
            ]
            limiter = await stack.enter_async_context(limiter_on(store, limits))
            made = await stack.enter_async_context(admission_at(limiter.address))
        if request.param.startswith("queued"):
            made = QueuedAdmission(made, SystemClock(), Metrics(), QueueBounds())
        yield made


async def admit(port: Admission, *scopes: str, requests: int = 1) -> Permit:
    """As the use case does: at once where it can be, else after asking."""
    wanted = claim(*scopes, requests=requests)
    return port.try_admit(wanted.scopes, wanted.amounts) or await port.admit(wanted, 5.0)


async def refused(port: Admission, asked: Claim) -> AdmissionDenied:
    assert port.try_admit(asked.scopes, asked.amounts) is None
    with pytest.raises(AdmissionDenied) as caught:
        await port.admit(asked, 5.0)
    return caught.value


async def test_what_has_room_is_admitted_and_settled(admission: Admission) -> None:
    """Any number of times, one after another: what is settled or cancelled is free again."""
    for number in range(3 * SLOTS):
        permit = await admit(admission, FREE, "model:free/m")
        if number % 2:
            permit.settle(Amounts(1, 10, 10, 5))
        else:
            permit.cancel()


async def test_what_has_no_room_is_refused_by_name(admission: Admission) -> None:
    """The violated limit is named as "scope unit period", and waiting is not advised where it does not help."""
    denied = await refused(admission, claim(FULL, FREE))
    assert [v.subject for v in denied.violations] == [f"{FULL} requests minute"]
    assert denied.retry_after is None


async def test_patience_does_not_help_where_waiting_does_not(admission: Admission) -> None:
    """A limit that will never have room is refused at once, however long the caller would wait."""
    denied = await refused(admission, claim(FULL, FREE, patience=3600.0))
    assert denied.retry_after is None


async def test_a_refusal_takes_nothing(admission: Admission) -> None:
    """The other scopes of a refused claim have all their room afterwards."""
    for _ in range(3):
        await refused(admission, claim(FULL, FREE))
    held = [await admit(admission, FREE) for _ in range(SLOTS)]
    for permit in held:
        permit.cancel()


async def test_scopes_without_limits_admit(admission: Admission) -> None:
    """Whatever the amounts."""
    scopes: Sequence[str] = ("tenant:nobody", "model:nobody/m")
    permit = await admit(admission, *scopes, requests=10**6)
    permit.settle(Amounts(10**6))


async def test_regression_one_call_at_a_time_never_waits_for_its_own_slot(admission: Admission) -> None:
    """With a single slot, calls one after another to two providers are admitted at once: the slot that is held for
    the tenant is free, also where nothing is known yet of the second provider."""
    for number in range(5):
        provider = ("provider:other", FREE)[number % 2]
        permit = await admit(admission, NARROW, provider, f"model:{number}/m")
        permit.settle(Amounts(1, 10, 10, 5))


async def test_an_end_is_shown_once_to_all_who_asked(admission: Admission) -> None:
    """Settled or cancelled, to each in the order in which they asked, once the room is back."""
    for number in range(4):
        permit = await admit(admission, FREE, "model:free/m")
        shown: list[str] = []
        permit.on_end(partial(shown.append, "first"))
        permit.on_end(partial(shown.append, "second"))
        assert shown == []
        if number % 2:
            permit.settle(Amounts(1, 10, 10, 5))
        else:
            permit.cancel()
        assert shown == ["first", "second"]
