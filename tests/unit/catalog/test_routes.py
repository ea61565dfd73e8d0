"""Several keys and endpoints of one provider: read, refused, and put together as routes."""

from __future__ import annotations

from pathlib import Path

import pytest

from libs.catalog.catalog import Catalog
from libs.catalog.faults import CatalogError
from libs.catalog.load import loads
from libs.limits import Period, Scope, ScopeKind, Unit

MODELS = """\
models:
  pool/small: {context_window: 1000, max_output_tokens: 100, price: {input: 1, output: 1}}
  pool/large: {context_window: 1000, max_output_tokens: 100, price: {input: 1, output: 1}}
content_types: {general: {max_output_tokens: 50}}
"""


def read(provider: str, more: str = "", kind: str = "openai_compatible") -> Catalog:
    text = f"version: 1\nproviders:\n  pool: {{kind: {kind}, {provider}}}\n{more}{MODELS}"
    return loads(text.encode(), "/etc/pointsman/catalog.yaml", environ={"HOST": "eu.example"})


def test_every_key_is_a_route_at_every_endpoint() -> None:
    """Each route is the provider with one key and one address, named by both, weighted by both."""
    found = read(
        "keys: [{env: KEY_A, weight: 3}, {file: keys/b, models: [small]}],"
        "endpoints: [{base_url: 'https://${HOST}/v1/', region: eu}, {base_url: 'https://us.example/v1', weight: 2}],"
        "options: {project: p}"
    ).providers["pool"]
    assert [(r.route.key, r.route.endpoint, r.route.weight) for r in found.routes if r.route] == [
        ("KEY_A", "eu.example/v1", 3),
        ("KEY_A", "us.example/v1", 6),
        ("b", "eu.example/v1", 1),
        ("b", "us.example/v1", 2),
    ]
    first, *_, last = found.routes
    assert (first.base_url, first.region, first.api_key_env) == ("https://eu.example/v1", "eu", "KEY_A")
    assert first.options == {"project": "p", "region": "eu"}
    assert (last.base_url, last.region, last.options) == ("https://us.example/v1", "", {"project": "p"})
    assert (last.api_key_env, last.api_key_file) == ("", str(Path("/etc/pointsman/keys/b")))
    assert last.route is not None
    assert last.route.serves("small")
    assert not last.route.serves("large")
    assert (found.base_url, found.api_key_env, found.key_names) == (
        first.base_url,
        "KEY_A",
        ("KEY_A", "b"),
    )


def test_one_key_and_one_endpoint_make_no_route() -> None:
    """Written as lists or not, they are the provider's own, and nothing is to be chosen."""
    listed = read("keys: [{env: KEY_A}], endpoints: [{base_url: 'https://x'}]").providers["pool"]
    plain = read("api_key_env: KEY_A, base_url: 'https://x'").providers["pool"]
    for found in (listed, plain):
        assert found.routes == ()
        assert (found.api_key_env, found.base_url) == ("KEY_A", "https://x")


def test_servers_without_keys_may_have_several_endpoints() -> None:
    """Their routes have no key, and a key shared by all endpoints is each one's."""
    found = read("endpoints: [{base_url: 'http://a:1'}, {base_url: 'http://b:1'}]").providers["pool"]
    assert [r.needs_key for r in found.routes] == [False, False]
    found = read("api_key_env: K, endpoints: [{base_url: 'http://a:1'}, {base_url: 'http://b:1'}]").providers[
        "pool"
    ]
    assert [r.api_key_env for r in found.routes] == ["K", "K"]


def test_a_region_alone_is_an_endpoint_of_a_kind_that_has_an_address_for_it() -> None:
    """Bedrock's address is made from the region, for each endpoint."""
    found = read("endpoints: [{region: eu-west-1}, {region: us-east-1}]", kind="bedrock").providers["pool"]
    assert [route.base_url for route in found.routes] == [
        "https://bedrock-runtime.eu-west-1.amazonaws.com",
        "https://bedrock-runtime.us-east-1.amazonaws.com",
    ]
    assert [route.api_key_env for route in found.routes] == ["AWS_BEARER_TOKEN_BEDROCK"] * 2


def test_limits_of_a_key_are_limits_of_its_scope() -> None:
    """They stand where the limits of keys have always stood."""
    found = read(
        "base_url: 'https://x', keys: [{env: A, limits: [{unit: requests, period: minute, limit: 7}]}, {env: B}]",
        "keys: {B: {limits: [{unit: concurrency, limit: 2}]}}\n",
    )
    keys = {scope: limit for scope, _, limit in found.limits() if scope.kind is ScopeKind.KEY}
    assert keys[Scope(ScopeKind.KEY, "A")].limit == 7
    assert keys[Scope(ScopeKind.KEY, "A")].period is Period.MINUTE
    assert keys[Scope(ScopeKind.KEY, "B")].unit is Unit.CONCURRENCY


@pytest.mark.parametrize(
    ("provider", "more", "message"),
    [
        ("keys: [{env: A}, {env: A}]", "", 'key "A" is named twice'),
        ("keys: [{file: x/k}, {file: y/k}]", "", 'key "k" is named twice'),
        ("keys: [{env: A, weight: 0}, {env: B, weight: 0}]", "", "every key has weight 0"),
        ("keys: [{env: A, weight: -1}]", "", "weight"),
        ("keys: [{env: A, weight: 1000001}]", "", "weight must be 0 to 1000000"),
        (
            "keys: [{env: A, models: [smal]}, {env: B}]",
            "",
            'unknown model of pool "smal" (did you mean "small"?)',
        ),
        ("keys: [{env: A, models: [small]}]", "", 'no key may call model "large"'),
        ("keys: [{env: A, file: k}]", "", "env or by file"),
        ("keys: [{weight: 2}]", "", "env or by file"),
        ("keys: [{env: A, api_key: s3cret}]", "", "does not belong in the catalog"),
        ("keys: [{env: sk-abc}]", "", "name of an environment variable"),
        ("keys: []", "", "must have an entry"),
        ("keys: {env: A}", "", "must be a list"),
        ("keys: [{env: A}], api_key_env: B", "", "keys or api_key_env, not both"),
        ("keys: [{env: A}], api_key_file: b", "", "keys or api_key_file, not both"),
        (
            "keys: [{env: A, limits: [{unit: concurrency, limit: 1}]}]",
            "keys: {A: {limits: [{unit: concurrency, limit: 2}]}}\n",
            'limits of key "A" are written at keys already',
        ),
        (
            "keys: [{env: A, limits: [{unit: concurrency, period: day, limit: 1}]}]",
            "",
            "concurrency has no period",
        ),
        ("endpoints: [{base_url: 'https://x'}, {base_url: 'https://x/'}]", "", "is named twice"),
        ("endpoints: [{base_url: 'https://x', weight: 0}]", "", "every endpoint has weight 0"),
        ("endpoints: [{region: eu}]", "", "is required for kind openai_compatible"),
        ("endpoints: [{base_url: 'ftp://x'}]", "", "must begin with http"),
        ("endpoints: [{base_url: 'https://x'}], region: eu", "", "endpoints or region, not both"),
    ],
)
def test_what_makes_no_sense_is_refused(provider: str, more: str, message: str) -> None:
    """Each of these is a fault with a sentence, and no secret is repeated in one."""
    if "endpoints" not in provider:
        provider += ", base_url: 'https://y'"
    with pytest.raises(CatalogError) as raised:
        read(provider, more)
    assert message in str(raised.value)
    assert "s3cret" not in str(raised.value)


def test_two_providers_do_not_both_set_limits_of_one_key() -> None:
    """The key is one, so its limits are written once."""
    limits = "limits: [{unit: concurrency, limit: 1}]"
    text = f"""\
version: 1
providers:
  pool: {{kind: openai_compatible, base_url: 'https://x', keys: [{{env: A, {limits}}}]}}
  other: {{kind: openai_compatible, base_url: 'https://y', keys: [{{env: A, {limits}}}]}}
{MODELS}"""
    with pytest.raises(CatalogError, match='limits of key "A" are written at provider pool already'):
        loads(text.encode(), "c.yaml", environ={})
