"""The names of limits: one text form of each, read back whole, whatever people call their campaigns."""

from __future__ import annotations

import ast
import re
from pathlib import Path

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
    least_amounts,
    scope_of,
)
from libs.rpc.status import DETAILS_KEY, from_rpc_error, to_status
from services.ratelimit.adapters.analytics_client import _FIELDS
from services.router.generate.begin import _scopes

ROOT = Path(__file__).parents[2]

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
    # The store is sent an amount of each unit, in this order.
    assert sorted(UNIT_BY_NUMBER) == list(range(1, len(Unit) + 1))


def unit_listings(source: str) -> set[str]:
    """Returns the units that Python source lists: those it names as members, and words side by side in one display
    that are not words of a model's usage alone."""
    listed = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "Unit":
            listed.add(node.attr.lower())
        if isinstance(node, ast.Set | ast.Tuple | ast.List | ast.Dict):
            items = node.keys if isinstance(node, ast.Dict) else node.elts
            words = {str(item.value) for item in items if isinstance(item, ast.Constant)} & set(Unit)
            if words & {Unit.REQUESTS, Unit.CONCURRENCY, Unit.MICRO_USD}:
                listed |= words
    return listed & set(Unit)


#: Where units are listed beside `libs/limits.py`, and why that cannot be derived from it.
LISTED = {
    "services/router/providers/wires/limits.py": "the names that vendors give them in headers",
    "services/analytics/forecasts/answer.py": "the measures of use that the ledger has of each; not all have one",
}


def test_units_are_listed_in_one_place() -> None:
    """A new unit is a line of the proto and `libs/limits.py`: no other module tells units one by one, nor the
    store's functions."""
    files = [p for part in ("libs", "services", "cli") for p in (ROOT / part).rglob("*.py")]
    found = {
        str(path.relative_to(ROOT)) for path in files if len(unit_listings(path.read_text("utf-8"))) >= 4
    }
    assert found == {"libs/limits.py", *LISTED}
    lua = (ROOT / "services/ratelimit/adapters/limits.lua").read_text("utf-8")
    assert re.findall(r"(?:\bunit|r\[o \+ 2\]) *[=~]= *\d", lua) == []


def test_a_listing_of_units_is_noticed() -> None:
    """By members and by words; a model's usage alone is none."""
    members = "x = (Unit.REQUESTS, Unit.INPUT_TOKENS, Unit.OUTPUT_TOKENS, Unit.MICRO_USD)"
    words = "x = {'requests', 'input_tokens', 'total_tokens', 'micro_usd'}"
    assert len(unit_listings(members)) == len(unit_listings(words)) == 4
    assert unit_listings("x = {'input_tokens': 1, 'output_tokens': 2, 'total_tokens': 3}") == set()


def test_every_kind_of_scope_is_taken_from_and_counted_anew() -> None:
    """An attempt takes from a scope of each kind; after a loss the ledger tells the use of each but the keys', which
    it does not know."""
    assert {scope.kind for scope in _scopes("acme", "blog", "summer", "p", "p/m", "p/k")} == set(ScopeKind)
    assert set(_FIELDS) == set(ScopeKind) - {ScopeKind.KEY}


@given(st.fixed_dictionaries({unit: st.integers(0, 10**9) for unit in Unit}))
def test_the_least_amounts_cover_every_unit(units: dict[Unit, int]) -> None:
    """The least amounts asked for are at least those that each unit lacks."""
    taken = by_unit(least_amounts(units))
    assert all(taken[unit] >= amount for unit, amount in units.items())


def test_a_scope_belongs_to_a_tenant_where_its_kind_does() -> None:
    """And nowhere else."""
    for kind, tenant in ((ScopeKind.TENANT, "acme"), (ScopeKind.CAMPAIGN, ""), (ScopeKind.CAMPAIGN, "a/b")):
        with pytest.raises(ValueError, match="kind"):
            Scope(kind, "x", tenant)
