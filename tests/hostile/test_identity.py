"""A caller without a key costs nothing, and requests that are refused or failed are forgotten."""

from __future__ import annotations

import asyncio

import grpc
import pytest
from grpc import StatusCode
from pointsman.router.v1 import router_pb2 as pb

from libs.errors import (
    DeadlineExceeded,
    InvalidArgument,
    PermissionDenied,
    ResourceExhausted,
    Unauthenticated,
)
from libs.rpc.channel import metadata
from tests.hostile.ground import ATTACKER_KEY, GENERATE, MIB, NEIGHBOURS, STREAM, Ground, attack

METHODS = {
    "router": GENERATE,
    "health": "/pointsman.health.v1.ProviderHealth/SetProviderMode",
    "ratelimit": "/pointsman.ratelimit.v1.RateLimiter/Reserve",
    "analytics": "/pointsman.analytics.v1.Analytics/RecordUsage",
}
UNKNOWN = (Unauthenticated, ResourceExhausted, PermissionDenied)


def text_of(size: int, **fields: float) -> bytes:
    """A generation whose only message is so long."""
    said = pb.Generation(messages=[pb.Message(role=pb.ROLE_USER, text="x" * size)], **fields)  # type: ignore[arg-type]
    return pb.GenerateRequest(generation=said).SerializeToString()


def field_of(number: int, body: bytes) -> bytes:
    """A field of any message: its number, the length, the bytes."""
    return varint(number << 3 | 2) + varint(len(body)) + body


def varint(value: int) -> bytes:
    out = bytearray()
    while value >= 128:
        out.append(value % 128 + 128)
        value //= 128
    return bytes((*out, value))


#: 16 million messages of two bytes in a generation of 31 MiB.
EMPTY = field_of(1, b"\x1a\x00" * (31 * MIB // 2))


@pytest.mark.parametrize(
    "key", [None, "wrong", "wrong key"], ids=["no key", "a wrong key", "a key with a space"]
)
@pytest.mark.parametrize("service", METHODS)
async def test_an_unknown_caller_cannot_spend_memory(ground: Ground, service: str, key: str | None) -> None:
    """30 MiB of text, 30 kB on the wire, one after the other and all at once: refused for the caller alone."""
    message = text_of(30 * MIB) if service == "router" else field_of(1000, b"x" * 30 * MIB)
    async with attack(ground, f"30 MiB to {service} with key {key!r}"):
        for _ in range(6):
            refusal = await ground.send(message, path=METHODS[service], service=service, key=key, packed=True)
            assert isinstance(refusal.error, (*UNKNOWN, InvalidArgument)), refusal
        several = [
            ground.send(message, path=METHODS[service], service=service, key=key, packed=True)
            for _ in range(6)
        ]
        for refusal in await asyncio.gather(*several):
            assert isinstance(refusal.error, (*UNKNOWN, InvalidArgument)), refusal


async def test_an_unknown_caller_cannot_spend_time(ground: Ground) -> None:
    """Sixteen million empty messages are not decoded."""
    async with attack(ground, "31 MiB of empty messages without a key"):
        for _ in range(4):
            refusal = await ground.send(EMPTY, key=None, packed=True)
            assert isinstance(refusal.error, UNKNOWN), refusal


async def test_a_known_caller_cannot_spend_time_with_nothing(ground: Ground) -> None:
    """Sixteen million empty messages are refused before they become objects."""
    async with attack(ground, "31 MiB of empty messages"):
        for _ in range(4):
            refusal = await ground.send(EMPTY, packed=True)
            assert isinstance(refusal.error, InvalidArgument | ResourceExhausted), refusal


@pytest.mark.parametrize("path", [GENERATE, STREAM], ids=["whole", "stream"])
async def test_a_failed_call_is_forgotten(ground: Ground, path: str) -> None:
    """A hundred calls of 7 MiB that are refused, fail or pass their deadline leave nothing behind."""
    wrong = text_of(7 * MIB, top_p=9)
    async with attack(ground, f"100 failed calls of 7 MiB ({path.rpartition('/')[2]})"):
        for number in range(100):
            reply = await ground.send(wrong, path=path, packed=True, timeout=0.02 if number % 10 == 9 else 15)
            assert reply.error is not None


async def test_one_tenants_bytes_in_flight_are_bounded(ground: Ground) -> None:
    """Thirty requests of 20 MiB at once are served in turn, refused with when to come back, or ended where they
    keep others waiting for the place that they take."""
    message = text_of(20 * MIB)
    async with attack(ground, "30 requests of 20 MiB at once"):
        for reply in await asyncio.gather(*(ground.send(message, packed=True) for _ in range(30))):
            assert isinstance(reply.error, InvalidArgument | ResourceExhausted | DeadlineExceeded), reply
            if isinstance(reply.error, DeadlineExceeded):
                assert reply.error.reason == "MESSAGE_NOT_RECEIVED"


async def test_requests_of_two_tenants_that_a_slow_provider_holds_fit_beside_all_else(ground: Ground) -> None:
    """As many bytes as may be in flight, of the kind that is largest once decoded: characters that JSON escapes, and
    one that takes four bytes, which makes all of them do. The process stays under its cap."""
    evil = ground.evil("openai")
    await ground.stack.simulator.set(evil, tokens=5, latency_ms=4000)
    text = "\x01" * (4 * MIB - 50_000) + "😀"
    said = pb.Generation(
        messages=[pb.Message(role=pb.ROLE_USER, text=text)], models=[f"{evil}/m"], max_attempts=1
    )
    message = pb.GenerateRequest(generation=said).SerializeToString()
    async with attack(ground, "8 texts of 4 MiB of two tenants", growth=380 * MIB):
        keys = (ATTACKER_KEY, f"hostile-neighbour-{NEIGHBOURS - 1}")
        calls = [ground.send(message, key=key, packed=True) for key in keys for _ in range(4)]
        for reply in await asyncio.gather(*calls):
            assert reply.error is None or isinstance(reply.error, ResourceExhausted | DeadlineExceeded), reply
    await ground.stack.simulator.set(evil, tokens=20)


async def test_thousands_of_calls_at_once_take_no_answer_from_another(ground: Ground) -> None:
    """Of one tenant, on one connection: the runtime dropped calls by lot, the neighbour's among them."""
    said = pb.Generation(
        messages=[pb.Message(role=pb.ROLE_USER, text="Describe a mug.")], models=["nobody/m"]
    )
    request = pb.GenerateRequest(generation=said).SerializeToString()
    async with (
        attack(ground, "3,000 calls at once"),
        grpc.aio.insecure_channel(ground.stack.addresses["router"]) as channel,
    ):
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(GENERATE)

        async def call() -> StatusCode:
            try:
                await method(request, metadata=metadata(ATTACKER_KEY), timeout=60)
            except grpc.aio.AioRpcError as error:
                return error.code()
            return StatusCode.OK

        codes = set(await asyncio.gather(*(call() for _ in range(3000))))
    # Of streams that begin before the connection's bound is known, the runtime refuses those beyond it: UNAVAILABLE.
    allowed = (StatusCode.INVALID_ARGUMENT, StatusCode.RESOURCE_EXHAUSTED, StatusCode.UNAVAILABLE)
    assert codes <= set(allowed), codes
