"""Tests of providers as protos."""

from __future__ import annotations

from typing import cast

from pointsman.health.v1 import health_pb2 as pb

from libs.connectivity import (
    AddressesDetail,
    Cause,
    CertificateDetail,
    ConnectionDetail,
    EndpointTest,
    HttpDetail,
    ModelsDetail,
    ModelState,
    Step,
    StepName,
    StepVerdict,
)
from libs.rpc.convert import duration_to_proto, timestamp_to_proto

_NAME = {item: pb.TestStepName.Value(f"TEST_STEP_NAME_{item.name}") for item in StepName}
_VERDICT = {item: pb.TestVerdict.Value(f"TEST_VERDICT_{item.name}") for item in StepVerdict}
_CAUSE = {item: pb.TestCause.Value(f"TEST_CAUSE_{item.name}") for item in Cause}
_STATE = {item: pb.ModelState.Value(f"MODEL_STATE_{item.name}") for item in ModelState}


def endpoint_test_to_proto(tested: EndpointTest) -> pb.EndpointTest:
    """Returns the proto of a test."""
    return pb.EndpointTest(base_url=tested.base_url, key_name=tested.key_name, steps=map(_step, tested.steps))


def _step(step: Step) -> pb.TestStep:
    assert step.name is not None
    assert step.verdict is not None
    proto = pb.TestStep(
        name=cast("pb.TestStepName", _NAME[step.name]),
        verdict=cast("pb.TestVerdict", _VERDICT[step.verdict]),
        duration=duration_to_proto(step.duration),
        cause=cast("pb.TestCause", _CAUSE[step.cause]) if step.cause is not None else None,
    )
    match step.detail:
        case AddressesDetail(addresses):
            proto.addresses.addresses.extend(addresses)
        case ConnectionDetail(address):
            proto.connection.address = address
        case CertificateDetail(ends, issuer, protocol):
            shown = pb.CertificateDetail(ends=timestamp_to_proto(ends), issuer=issuer, protocol=protocol)
            proto.certificate.CopyFrom(shown)
        case HttpDetail(status):
            proto.http.status = status
        case ModelsDetail():
            proto.models.CopyFrom(_models(step.detail))
    return proto


def _models(detail: ModelsDetail) -> pb.ModelsDetail:
    return pb.ModelsDetail(
        listed=detail.listed,
        looked_for=detail.looked_for,
        findings=[
            pb.ModelFinding(
                model=found.model,
                wire_name=found.wire_name,
                state=cast("pb.ModelState", _STATE[found.state]),
                ends=timestamp_to_proto(found.ends),
            )
            for found in detail.findings
        ],
    )
