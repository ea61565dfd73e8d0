"""`pointsman test` and `pointsman doctor` against services that answer badly, or are of another version."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pointsman.health.v1 import health_pb2 as pb
from pointsman.health.v1 import health_pb2_grpc
from typer.testing import CliRunner, Result

from cli.app import build
from libs.clock import SystemClock
from libs.errors import Unavailable
from libs.rpc.diagnosis import DiagnosisServicer, diagnosis_registration
from libs.rpc.identity import ServiceToken
from libs.rpc.server import Registration
from services.health.servicer import SERVICE
from tests.support.address import fresh_address
from tests.support.server import grpc_server

TOKEN = "operators-token"


class Health(health_pb2_grpc.ProviderHealthServicer):
    """Has the providers old, which it tests as an earlier version did, and broken, which it cannot test."""

    async def ListProviders(self, request: Any, context: Any) -> pb.ListProvidersResponse:
        names = ("old", "broken")
        return pb.ListProvidersResponse(providers=[pb.ProviderHealthState(provider=name) for name in names])

    async def TestProvider(self, request: pb.TestProviderRequest, context: Any) -> pb.TestProviderResponse:
        if request.provider == "broken":
            raise Unavailable("it is draining", reason="DRAINING")
        return pb.TestProviderResponse()


@asynccontextmanager
async def health() -> AsyncIterator[str]:
    """Serves it, with its diagnosis, for operators; yields the address."""
    monitor = Health()  # type: ignore[abstract]  # nobody calls the other methods
    servicer = DiagnosisServicer("health", "me", [], [], lambda: "abc", SystemClock())
    registrations = [
        Registration(health_pb2_grpc.add_ProviderHealthServicer_to_server, monitor, SERVICE),
        diagnosis_registration(servicer),
    ]
    server = grpc_server(registrations, ServiceToken(TOKEN))
    await server.start(fresh_address())
    server.begin_serving()
    try:
        yield f"127.0.0.1:{server.port}"
    finally:
        await server.drain(0)


async def command(*arguments: str) -> Result:
    given = [*arguments, "--json", "--token", TOKEN]
    return await asyncio.to_thread(CliRunner().invoke, build(), given)


async def test_a_test_without_steps_is_no_passed_test() -> None:
    """An answer of an earlier version is an error, not an empty checklist; so is a test that could not be made."""
    async with health() as address:
        for name, reason in (("old", "NO_TEST_STEPS"), ("broken", "DRAINING")):
            ended = await command("test", name, "--health", address)
            assert ended.exit_code == 1
            assert json.loads(ended.stderr)["error"]["reason"] == reason


async def test_a_doctor_tells_what_it_could_not_test() -> None:
    """Each provider that could not be tested fails with its reason, whatever else does not answer."""
    async with health() as address:
        nobody = fresh_address()
        others = [word for name in ("router", "ratelimit", "analytics") for word in (f"--{name}", nobody)]
        ended = await command("doctor", "--health", address, "--timeout", "2", *others)
    assert ended.exit_code == 1
    found = json.loads(ended.stdout)
    untested = {
        check["name"]: (check["ailment"], check["reason"])
        for check in found["checks"]
        if check["area"] == "provider"
    }
    assert untested == {"old": ("not_tested", "NO_TEST_STEPS"), "broken": ("not_tested", "DRAINING")}
    silent = [check for check in found["checks"] if check["ailment"] == "no_answer"]
    assert {check["reason"] for check in silent} == {"UNREACHABLE"}
    assert len(silent) == 3
    assert found["failed"]


async def test_options_of_paid_trials_alone_are_bad_use() -> None:
    """Nothing is called."""
    for option, value in (("--campaign", "spring"), ("--max-cost", "0.01")):
        ended = await command("test", "acme", "--health", fresh_address(), option, value)
        assert ended.exit_code == 2
        assert "--generate" in json.loads(ended.stderr)["error"]["message"]
