"""Catalogs of the end-to-end tests: two virtual providers, and tenants for what a test needs."""

from __future__ import annotations

import hashlib

from dev.catalog import PUBLISHED_KEY

BUDGETED_KEY = "budgeted-key"
QUOTA_KEY = "quota-key"
#: Calls a day of the tenant `quota`.
QUOTA = 400


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


_PROVIDERS = """\
version: 1
domain: e2e
providers:
  openai:
    base_url: ${POINTSMAN_SIMULATOR_URL:-http://127.0.0.1:7790}/openai/v1
    api_key_env: ""
    timeouts: {first_byte: 3, idle: 2, total: 20}
    limits:
      - {unit: requests, period: minute, limit: 100_000}
      - {unit: total_tokens, period: minute, limit: 90_000_000}
  gemini:
    base_url: ${POINTSMAN_SIMULATOR_URL:-http://127.0.0.1:7790}/gemini
    api_key_env: ""
    timeouts: {first_byte: 3, idle: 2, total: 20}
    limits:
      - {unit: requests, period: minute, limit: 100_000}
      - {unit: concurrency, limit: 500}
models:
  openai/gpt-4.1-mini:
    context_window: 1_047_576
    max_output_tokens: 32_768
    capabilities: [streaming, system, json, json_schema, tools, seed, stop]
  gemini/gemini-2.5-flash:
    context_window: 1_048_576
    max_output_tokens: 65_536
    capabilities: [streaming, system, json, json_schema, tools, seed, stop]
policies:
  default:
    tiers:
      - [{model: openai/gpt-4.1-mini, weight: 2}, {model: gemini/gemini-2.5-flash, weight: 1}]
default_content_type: general
content_types:
  general: {max_output_tokens: 200}
  product_description: {max_output_tokens: 200}
"""

#: Three wires: one with a key from the environment, one from a file; the demo tenant has a key of its own.
OPENAI_SECRET = "sk-e2e-openai-0f3d9c1b7a"
ANTHROPIC_SECRET = "sk-ant-e2e-5a77c2e901"
TENANT_KEY = "tk-e2e-8d2f60b4c3"
#: Of a tenant with a budget for one content type, in micro-USD a day.
CAREFUL_KEY = "tk-e2e-careful-91b0"
CAREFUL_BUDGET = 20_000
PRIVATE = f"""\
version: 1
domain: private
providers:
  openai:
    base_url: ${{POINTSMAN_SIMULATOR_URL:-http://127.0.0.1:7790}}/openai/v1
    api_key_env: E2E_OPENAI_KEY
    timeouts: {{first_byte: 3, idle: 2, total: 20}}
    limits: [{{unit: requests, period: minute, limit: 100_000}}]
  anthropic:
    base_url: ${{POINTSMAN_SIMULATOR_URL:-http://127.0.0.1:7790}}/anthropic
    api_key_file: anthropic.key
    timeouts: {{first_byte: 3, idle: 2, total: 20}}
  gemini:
    base_url: ${{POINTSMAN_SIMULATOR_URL:-http://127.0.0.1:7790}}/gemini
    api_key_env: ""
    timeouts: {{first_byte: 3, idle: 2, total: 20}}
models:
  openai/gpt-4.1-mini:
    context_window: 1_047_576
    max_output_tokens: 32_768
    capabilities: [streaming, system, json, json_schema, tools, seed, stop, image, image_url, pdf]
  anthropic/claude-haiku-4-5:
    context_window: 200_000
    max_output_tokens: 64_000
    capabilities: [streaming, system, json, json_schema, tools, prefill, reasoning, stop, image, pdf, pdf_url]
  gemini/gemini-2.5-flash:
    context_window: 1_048_576
    max_output_tokens: 65_536
    capabilities: [streaming, system, json, json_schema, tools, seed, stop, image, pdf]
policies:
  default:
    tiers: [[openai/gpt-4.1-mini], [anthropic/claude-haiku-4-5], [gemini/gemini-2.5-flash]]
  dear:
    tiers: [[anthropic/claude-haiku-4-5], [openai/gpt-4.1-mini]]
default_content_type: general
content_types:
  general: {{max_output_tokens: 200}}
  product_description: {{max_output_tokens: 200}}
tenants:
  demo:
    key_sha256: [{_hash(TENANT_KEY)}]
    limits:
      - {{unit: requests, period: minute, limit: 100_000}}
      - {{unit: usd, period: day, limit: 1_000}}
  careful:
    key_sha256: [{_hash(CAREFUL_KEY)}]
    policies: {{default: dear}}
    content_limits:
      product_description:
        - unit: usd
          period: day
          limit: {CAREFUL_BUDGET / 1_000_000}
          thresholds: {{30: warn, 60: cheaper_models, 90: refuse}}
"""

#: `demo` has rates alone, so it goes on without the limiter; `budgeted` has money too and `quota` calls a day, which
#: are closed without it.
CRASHES = f"""\
{_PROVIDERS}
tenants:
  demo:
    key_sha256: [{_hash(PUBLISHED_KEY)}]
    limits:
      - {{unit: requests, period: minute, limit: 100_000}}
      - {{unit: total_tokens, period: minute, limit: 90_000_000}}
      - {{unit: concurrency, limit: 400}}
  budgeted:
    key_sha256: [{_hash(BUDGETED_KEY)}]
    limits:
      - {{unit: requests, period: minute, limit: 100_000}}
      - {{unit: usd, period: day, limit: 1_000}}
  quota:
    key_sha256: [{_hash(QUOTA_KEY)}]
    limits:
      - {{unit: requests, period: day, limit: {QUOTA}}}
"""
