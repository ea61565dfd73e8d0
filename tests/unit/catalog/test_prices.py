"""Costs are exact: equal to the price list's own calculation, in whole micro-USD, rounded half up."""

from __future__ import annotations

import gzip
import json
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import Usage as ListUsage
from hypothesis import given
from hypothesis import strategies as st

from libs.catalog.model import Model, Price, Provider
from libs.catalog.prices import UnknownPrice, cost_micro_usd, why_unpriced
from libs.types import Usage

ROOT = Path(__file__).parents[3]
ORACLE = ROOT.parent / "shared" / "data" / "wire" / "usage_cost_oracle.jsonl.gz"
NOON = datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()


def _provider(kind: str, base_url: str = "https://api.test") -> Provider:
    return Provider("p", kind, base_url)


def _model(name: str, price: Price | None = None) -> Model:
    return Model("p", name, name, 1_000_000, 1000, price=price)


def _micro(usd: Decimal) -> int:
    return int((usd * 1_000_000).quantize(Decimal(1), ROUND_HALF_UP))


#: Every kind that has a list, with the list's name.
KINDS = {
    "openai": "openai",
    "anthropic": "anthropic",
    "gemini": "google",
    "azure_openai": "azure",
    "bedrock": "aws",
    "mistral": "mistral",
    "cohere": "cohere",
    "groq": "groq",
    "deepseek": "deepseek",
    "xai": "x-ai",
    "openrouter": "openrouter",
    "together": "together",
    "cerebras": "cerebras",
    "perplexity": "perplexity",
    "fireworks": "fireworks",
}
#: Listed models by kind, where looking up the listed name leads to the listed model.
LISTED = [
    (kind, info)
    for kind, list_id in KINDS.items()
    for provider in (get_snapshot().find_provider(None, list_id, None),)
    for info in provider.models
    if provider.find_model(info.id) is info and len(info.id) < 100 and " " not in info.id
]


@st.composite
def _usages(draw: st.DrawFn) -> Usage:
    """Token counts in which parts never exceed their totals, often next to the borders of price tiers."""
    border = st.sampled_from([0, 1, 32_000, 32_001, 128_000, 128_001, 200_000, 200_001, 272_000, 272_001])
    total = draw(st.one_of(border, st.integers(0, 2_000_000)))
    read = draw(st.integers(0, total))
    write = draw(st.integers(0, total - read))
    output = draw(st.integers(0, 200_000))
    return Usage(total, output, read, write, draw(st.integers(0, output)))


@given(
    st.sampled_from(LISTED),
    _usages(),
    st.integers(0, 5 * 365 * 86_400).map(lambda s: datetime(2023, 1, 1, tzinfo=UTC) + timedelta(seconds=s)),
)
def test_equals_the_price_list(listed: tuple[str, Any], usage: Usage, at: datetime) -> None:
    """On any listed model, at any instant (dated and time-of-day prices) and length (tiers), integers give
    what the list's own decimals give."""
    kind, info = listed
    provider = get_snapshot().find_provider(None, KINDS[kind], None)
    expected = info.calc_price(
        ListUsage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            cache_read_tokens=usage.cache_read_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            output_reasoning_tokens=usage.reasoning_tokens,
        ),
        provider,
        genai_request_timestamp=at,
    ).total_price
    got = cost_micro_usd(_provider(kind), _model("none"), usage, at.timestamp(), response_model=info.id)
    assert got == _micro(expected)


def test_cached_tokens_are_not_counted_twice() -> None:
    """A named regression: input_tokens already holds the cached ones, which cost their own price only."""
    price = Price(input=1_000_000, output=0, cache_read=100_000, cache_write=1_250_000)
    cost = cost_micro_usd(_provider("openai"), _model("m", price), Usage(1000, 0, 600, 100), NOON)
    assert cost == 300 * 1 + 60 + 125


def test_cached_tokens_without_a_price_cost_as_input() -> None:
    """An override that says nothing about caches gives no discount."""
    cost = cost_micro_usd(
        _provider("openai"), _model("m", Price(2_000_000, 0)), Usage(1000, 0, 600, 100), NOON
    )
    assert cost == 2000


@pytest.mark.parametrize(("tokens", "cost"), [(0, 0), (1, 0), (4, 0), (5, 1), (14, 1), (15, 2)])
def test_rounds_half_up_per_attempt(tokens: int, cost: int) -> None:
    """At 0.1 micro-USD a token, five tokens are the half that becomes one."""
    assert cost_micro_usd(_provider("openai"), _model("m", Price(0, 100_000)), Usage(0, tokens), NOON) == cost


def test_an_override_wins_over_the_list() -> None:
    """The catalog's price holds, whatever model the provider says answered."""
    provider, model = _provider("openai"), _model("gpt-4o-mini", Price(10_000_000, 0))
    assert cost_micro_usd(provider, model, Usage(1000), NOON, "gpt-4o-mini-2024-07-18") == 10_000
    assert cost_micro_usd(provider, _model("gpt-4o-mini"), Usage(1000), NOON) == 150


def test_the_answering_model_sets_the_price() -> None:
    """A deployment's own name says nothing; the dated model in the response does. Unknown ones fall back."""
    azure, deployment = _provider("azure_openai"), _model("our-deployment")
    assert cost_micro_usd(azure, deployment, Usage(1000), NOON, "gpt-4.1-mini-2025-04-14") == 400
    with pytest.raises(UnknownPrice):
        cost_micro_usd(azure, deployment, Usage(1000), NOON)
    assert cost_micro_usd(_provider("openai"), _model("gpt-4o-mini"), Usage(1000), NOON, "tomorrow-9") == 150


def test_the_wire_name_sets_the_price_before_the_name() -> None:
    """Bedrock's regional profiles cost more than the model behind them; a catalog may give them a plain
    name."""
    wire_name = "us.anthropic.claude-haiku-4-5-20251001-v1:0"
    model = Model("p", "claude-haiku-4-5", wire_name, 200_000, 1000)
    assert cost_micro_usd(_provider("bedrock"), model, Usage(1000), NOON) == 1100


@pytest.mark.parametrize("kind", ["ollama", "vllm", "llamacpp"])
def test_local_servers_are_free_by_declaration(kind: str) -> None:
    """They cost nothing, even where a model's name is one that costs money elsewhere."""
    assert cost_micro_usd(_provider(kind), _model("gpt-4o"), Usage(10**6, 10**6), NOON) == 0
    assert why_unpriced(_provider(kind), _model("anything")) is None


def test_a_compatible_server_is_priced_by_its_address() -> None:
    """A vendor without a kind of its own is found by its URL; an unknown address has no price."""
    vendor = _provider("openai_compatible", "https://api.z.ai/api/paas/v4")
    assert cost_micro_usd(vendor, _model("glm-4.7"), Usage(1000), NOON) > 0
    reason = why_unpriced(_provider("openai_compatible", "http://127.0.0.1:8000/v1"), _model("glm-4.7"))
    assert reason is not None
    assert reason.startswith("is not in the price list: add price:")


def test_a_listing_without_a_price_is_not_taken_for_free() -> None:
    """The list knows models whose price it does not know; only those it marks as free are free."""
    assert "without a price per token" in (
        why_unpriced(_provider("cerebras"), _model("qwen-3-coder-480b")) or ""
    )
    free = _model("google/gemini-2.0-flash-exp:free")
    assert why_unpriced(_provider("openrouter"), free) is None
    assert cost_micro_usd(_provider("openrouter"), free, Usage(1000, 1000), NOON) == 0


def test_parts_that_exceed_their_totals_never_lower_the_cost() -> None:
    """A provider that reports more cached than input tokens, or more reasoning than output, is charged for
    them."""
    model = _model("m", Price(1_000_000, 1_000_000))
    assert cost_micro_usd(_provider("openai"), model, Usage(10, 10, 50, 0, 70), NOON) == 50 + 70


@pytest.mark.real_data
def test_equals_the_oracle_on_recorded_usage() -> None:
    """Every recorded exchange that the oracle prices costs what it says, but for those with audio in the prompt:
    Usage has no audio tokens, which some lists charge at another price than text."""
    if not ORACLE.exists():
        pytest.skip(f"the recorded usage is not there: {ORACLE.relative_to(ROOT.parent)}")
    with gzip.open(ORACLE, "rt") as file:
        rows = [json.loads(line) for line in file]
    covered = [
        row for row in rows if row["cost_usd"] is not None and "input_audio_tokens" not in row["usage"]
    ]
    wrong = [row for row in covered if _cost_of(row) != _micro(Decimal(row["cost_usd"]))]
    assert wrong == []
    assert len(covered) > 0.9 * len(rows)


def _cost_of(row: dict[str, Any]) -> int | None:
    """Our cost of a recorded row; None where we know none."""
    vendor = row["provider"] == "zai"
    provider = (
        _provider("openai_compatible", "https://api.z.ai/api/paas/v4")
        if vendor
        else _provider(row["provider"])
    )
    name, counts = unquote(row["model"]), row["usage"]
    usage = Usage(
        counts.get("input_tokens", 0),
        counts.get("output_tokens", 0),
        counts.get("cache_read_tokens", 0),
        counts.get("cache_write_tokens", 0),
        counts.get("output_reasoning_tokens", 0),
    )
    try:
        return cost_micro_usd(provider, _model(name), usage, NOON, row["response_model"] or "")
    except UnknownPrice:
        return None
