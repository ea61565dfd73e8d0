"""A small good catalog, and how to read a changed one."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import pytest

from libs.catalog.catalog import Catalog
from libs.catalog.faults import CatalogError
from libs.catalog.load import loads

KEY_HASH = hashlib.sha256(b"acme-key").hexdigest()

GOOD = f"""\
version: 1
domain: test
providers:
  openai: {{}}
  house:
    kind: openai_compatible
    base_url: ${{HOUSE_URL:-http://127.0.0.1:9000/v1/}}
    limits: [{{unit: concurrency, limit: 8}}]
models:
  openai/gpt-4o-mini:
    context_window: 128_000
    max_output_tokens: 16_384
    capabilities: [streaming, system, tools]
    quality: {{default: 0.7, email: 0.9}}
  house/gpt-4o-mini:
    context_window: 8192
    max_output_tokens: 1024
    price: {{input: 0.02, output: 0.05, cache_read: 0.002}}
policies:
  default:
    tiers:
      - [openai/gpt-4o-mini]
      - [{{model: house/gpt-4o-mini, weight: 3}}]
    max_cost_usd: 0.25
  cheap:
    tiers: [[house/gpt-4o-mini]]
    last_resort: [openai/gpt-4o-mini]
    strategy: cost_first
    max_attempts: 3
    degradation: [queue, refuse]
    max_retry_after: 0
content_types:
  general: {{max_output_tokens: 500}}
  email: {{max_output_tokens: 900, strategy: specialized, policy: cheap, description: "E-mail"}}
tenants:
  acme:
    key_sha256: [{KEY_HASH}]
    limits:
      - {{unit: requests, period: minute, limit: 60, burst: 10}}
      - {{unit: usd, period: month, limit: 12.5, shadow: true}}
    time_zone: Europe/Zurich
    priority: bulk
    policies: {{email: default}}
    allowed_providers: [openai]
    max_cost_usd: 0.1
    default_deadline: 30
    provider_limits: {{openai: [{{unit: requests, period: day, limit: 1000}}]}}
    content_limits: {{email: [{{unit: usd, period: day, limit: 2, thresholds: {{80: queue, 9: warn}}}}]}}
    campaigns: {{summer sale: {{limits: [{{unit: usd, period: day, limit: 3}}]}}}}
  idle: {{}}
"""


def read(text: str, environ: Mapping[str, str] | None = None, *, prices: bool = True) -> Catalog:
    """The catalog of a text."""
    return loads(text.encode(), "c.yaml", environ=environ or {}, prices=prices)


def changed(old: str, new: str) -> str:
    """The good catalog with one thing changed."""
    assert GOOD.count(old) == 1, old
    return GOOD.replace(old, new)


def faults_of(text: str, *, prices: bool = True) -> list[str]:
    """The faults of a text as they are printed, without the file's name."""
    with pytest.raises(CatalogError) as caught:
        read(text, prices=prices)
    return [str(fault) for fault in caught.value.faults]


def line_of(text: str, part: str) -> int:
    """The line, from 1, that holds a part of the text."""
    return next(i for i, line in enumerate(text.splitlines(), 1) if part in line)
