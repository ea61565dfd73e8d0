"""A test of a provider over the wire and on the screen."""

from __future__ import annotations

import pytest
from pointsman.health.v1 import health_pb2 as pb

from cli.checklist import sentence
from libs.client.provider_tests import endpoint_test_from_proto
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
from services.health.connectivity.proto_connectivity import endpoint_test_to_proto

DETAILS: tuple[Detail | None, ...] = (
    None,
    AddressesDetail(("127.0.0.1", "::1")),
    ConnectionDetail("::1"),
    CertificateDetail(1_800_000_000.0, "Test Trust", "TLSv1.3"),
    CertificateDetail(None),
    HttpDetail(200),
    ModelsDetail(
        3,
        2,
        (
            ModelFinding("large", "large-1", ModelState.MISSING),
            ModelFinding("small", "small-1", ModelState.RETIRING, 1_800_000_000.0),
        ),
    ),
)


@pytest.mark.parametrize("detail", DETAILS)
@pytest.mark.parametrize("cause", [None, *Cause])
def test_every_step_arrives_as_it_was(detail: Detail | None, cause: Cause | None) -> None:
    """Names, verdicts, causes and details, unset ones too."""
    steps = tuple(Step(name, verdict, 0.25, cause, detail) for name in StepName for verdict in StepVerdict)
    tested = EndpointTest("https://acme.test/v1", "ACME_KEY", steps)
    assert endpoint_test_from_proto(endpoint_test_to_proto(tested)) == tested


def test_what_a_later_version_says_is_left_open() -> None:
    """Numbers that are not known here are None, and a finding without a known state is left out."""
    step = pb.TestStep(name=99, verdict=99, cause=99)  # type: ignore[arg-type]  # of a later version
    step.models.findings.add(model="large", state=99)
    (found,) = endpoint_test_from_proto(pb.EndpointTest(steps=[step])).steps
    assert (found.name, found.verdict, found.cause) == (None, None, None)
    assert found.detail == ModelsDetail(0, 0)
    assert sentence(found, 0.0)


@pytest.mark.parametrize("cause", Cause)
@pytest.mark.parametrize("name", StepName)
def test_every_cause_has_a_sentence(cause: Cause, name: StepName) -> None:
    """With and without a detail; instants of no year that has a name are shown all the same."""
    for detail in (*DETAILS, CertificateDetail(1e18, "x")):
        assert sentence(Step(name, StepVerdict.FAILED, 0.0, cause, detail), 0.0)
