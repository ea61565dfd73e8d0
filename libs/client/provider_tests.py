"""The client for tests of providers. `key` is the service token."""

from __future__ import annotations

import grpc
from pointsman.health.v1 import health_pb2 as pb
from pointsman.health.v1 import health_pb2_grpc

from libs.client.connection import ServiceClient
from libs.connectivity import (
    AddressesDetail,
    Cause,
    CertificateDetail,
    ConnectionDetail,
    Detail,
    EndpointTest,
    HttpDetail,
    ModelFinding,
    ModelsDetail,
    ModelState,
    Step,
    StepName,
    StepVerdict,
)
from libs.errors import FailedPrecondition
from libs.rpc.convert import duration_from_proto, timestamp_from_proto

_NAME = {pb.TestStepName.Value(f"TEST_STEP_NAME_{item.name}"): item for item in StepName}
_VERDICT = {pb.TestVerdict.Value(f"TEST_VERDICT_{item.name}"): item for item in StepVerdict}
_CAUSE = {pb.TestCause.Value(f"TEST_CAUSE_{item.name}"): item for item in Cause}
_STATE = {pb.ModelState.Value(f"MODEL_STATE_{item.name}"): item for item in ModelState}


class ProviderTestClient(ServiceClient):
    """Calls the health monitor, to test providers."""

    service = "pointsman.health.v1.ProviderHealth"
    _stub: health_pb2_grpc.ProviderHealthAsyncStub

    def _bind(self, channel: grpc.aio.Channel) -> None:
        self._stub = health_pb2_grpc.ProviderHealthStub(channel)

    async def test_provider(self, provider: str, *, timeout: float | None = None) -> tuple[EndpointTest, ...]:
        """Tests every endpoint of a provider; costs nothing. Raises NotFound, and FailedPrecondition where the server
        is of an earlier version, which does not tell steps."""
        self._open()
        request = pb.TestProviderRequest(provider=provider)
        response = await self._unary(self._stub.TestProvider, request, timeout)
        if not response.endpoints:
            raise FailedPrecondition(
                "The health monitor is of an earlier version, which does not test in steps",
                reason="NO_TEST_STEPS",
            )
        return tuple(map(endpoint_test_from_proto, response.endpoints))

    async def provider_names(self, *, timeout: float | None = None) -> tuple[str, ...]:
        """Returns the names of all providers of the health monitor's catalog."""
        self._open()
        response = await self._unary(self._stub.ListProviders, pb.ListProvidersRequest(), timeout)
        return tuple(sorted({item.provider for item in response.providers}))


def endpoint_test_from_proto(item: pb.EndpointTest) -> EndpointTest:
    """Returns a test; names, verdicts and causes of later versions are None."""
    return EndpointTest(item.base_url, item.key_name, tuple(map(_step, item.steps)))


def _step(item: pb.TestStep) -> Step:
    return Step(
        _NAME.get(item.name),
        _VERDICT.get(item.verdict),
        duration_from_proto(item.duration),
        _CAUSE.get(item.cause),
        _detail(item),
    )


def _detail(item: pb.TestStep) -> Detail | None:
    match item.WhichOneof("detail"):
        case "addresses":
            return AddressesDetail(tuple(item.addresses.addresses))
        case "connection":
            return ConnectionDetail(item.connection.address)
        case "certificate":
            shown = item.certificate
            ends = timestamp_from_proto(shown.ends) if shown.HasField("ends") else None
            return CertificateDetail(ends, shown.issuer, shown.protocol)
        case "http":
            return HttpDetail(item.http.status)
        case "models":
            found = tuple(named for each in item.models.findings if (named := _finding(each)) is not None)
            return ModelsDetail(item.models.listed, item.models.looked_for, found)
        case _:
            return None


def _finding(item: pb.ModelFinding) -> ModelFinding | None:
    state = _STATE.get(item.state)
    if state is None:
        return None
    ends = timestamp_from_proto(item.ends) if item.HasField("ends") else None
    return ModelFinding(item.model, item.wire_name, state, ends)
