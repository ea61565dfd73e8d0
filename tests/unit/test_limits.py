"""The names of limits: one text form of each, read back whole, whatever people call their campaigns."""

from __future__ import annotations

import grpc
import pytest
from google.rpc import error_details_pb2
from hypothesis import given
from hypothesis import strategies as st
from pointsman.ratelimit.v1 import ratelimit_pb2 as pb

from libs.errors import QuotaViolation, ResourceExhausted
from libs.limits import (
    MAX_NAME,
    PERIOD_BY_NUMBER,
    PERIODS,
    UNIT_BY_NUMBER,
    Amounts,
    LimitKey,
    Period,
    QueueKey,
    Scope,
    ScopeKind,
    Unit,
    by_unit,
    scope_of,
)
from libs.rpc.status import DETAILS_KEY, from_rpc_error, to_status

names = st.text(st.characters(exclude_categories=["C", "Z"], include_characters=" "), min_size=1, max_size=90)
tenants = names.filter(lambda name: "/" not in name)
scopes = st.sampled_from(ScopeKind).flatmap(
    lambda kind: st.builds(Scope, st.just(kind), names, tenants if kind.of_tenant else st.just(""))
)
limits = st.one_of(
    st.builds(LimitKey, scopes, st.just(Unit.CONCURRENCY), st.just(Period.NONE)),
    st.builds(
        LimitKey,
        scopes,
        st.sampled_from([u for u in Unit if u is not Unit.CONCURRENCY]),
        st.sampled_from(PERIODS),
    ),
)


@given(scopes)
def test_a_scope_is_read_back_as_it_was(scope: Scope) -> None:
    """Spaces, slashes, colons and words of ours in a name change nothing."""
    assert scope_of(str(scope)) == scope


@given(limits | scopes.map(QueueKey))
def test_a_limits_name_comes_through_the_wire_as_it_was(key: LimitKey | QueueKey) -> None:
    """With every part of it: nobody has to read it out of a text."""
    status = to_status(ResourceExhausted("full", [QuotaViolation(key, "full", limit=5)]))
    trailers = grpc.aio.Metadata((DETAILS_KEY, status.SerializeToString()))
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    error = from_rpc_error(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, "full"))
    assert isinstance(error, ResourceExhausted)
    assert [(v.key, v.limit) for v in error.violations] == [(key, 5)]


def test_a_name_of_another_version_stays_a_text() -> None:
    """A server that sends no parts, or a unit of a later version, is still understood by people."""
    for parts in (
        {},
        {"scope": "tenant:acme", "unit": "seconds_of_video", "period": "day"},
        {"scope": "planet:mars"},
    ):
        status = to_status(ResourceExhausted("full", [QuotaViolation("tenant:acme something day", "full")]))
        failure, quota = status.details[1], error_details_pb2.QuotaFailure()
        assert failure.Unpack(quota)
        quota.violations[0].quota_dimensions.update(parts)
        failure.Pack(quota)
        trailers = grpc.aio.Metadata((DETAILS_KEY, status.SerializeToString()))
        code = grpc.StatusCode.RESOURCE_EXHAUSTED
        error = from_rpc_error(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, "full"))
        assert isinstance(error, ResourceExhausted)
        assert [(v.key, v.subject) for v in error.violations] == [("tenant:acme something day",) * 2]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "acme",
        ":",
        "tenant:",
        "planet:mars",
        "tenant:a\n",
        "campaign:acme",
        "campaign:/x",
        "campaign:acme/",
        f"tenant:{'x' * (MAX_NAME + 1)}",
        f"campaign:acme/{'x' * MAX_NAME}",
    ],
)
def test_what_is_no_scope_is_refused(text: str) -> None:
    """By kind, by form and by length."""
    with pytest.raises(ValueError, match=r"must be|kind"):
        scope_of(text)


def test_units_and_periods_are_those_of_the_contract() -> None:
    """Word by word and number by number; and every unit counts something of an admission."""
    assert {f"UNIT_{unit.upper()}": unit.number for unit in Unit} | {"UNIT_UNSPECIFIED": 0} == dict(
        pb.Unit.items()
    )
    told = {f"PERIOD_{(period or 'unspecified').upper()}": period.number for period in Period}
    assert told == dict(pb.Period.items())
    assert set(UNIT_BY_NUMBER.values()) == set(by_unit(Amounts(1))) == set(Unit)
    assert set(PERIOD_BY_NUMBER.values()) == set(Period)


def test_a_scope_belongs_to_a_tenant_where_its_kind_does() -> None:
    """And nowhere else."""
    for kind, tenant in ((ScopeKind.TENANT, "acme"), (ScopeKind.CAMPAIGN, ""), (ScopeKind.CAMPAIGN, "a/b")):
        with pytest.raises(ValueError, match="kind"):
            Scope(kind, "x", tenant)
