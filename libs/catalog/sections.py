"""Reads each kind of catalog entry from its YAML mapping. Each function returns None for a wrong one, whose faults
are noted."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from libs.catalog.checks import (
    check_campaign_name,
    check_choice,
    check_env_name,
    check_key_hash,
    check_model_name,
    check_time_zone,
    check_url,
)
from libs.catalog.document import Node
from libs.catalog.kinds import KINDS
from libs.catalog.limits import (
    ACTIONS,
    DEFAULT_THRESHOLDS,
    LimitSpec,
    Threshold,
    check_limits,
)
from libs.catalog.model import (
    CAPABILITIES,
    DEFAULT,
    DEGRADATIONS,
    ContentType,
    Model,
    Policy,
    Price,
    Provider,
    Tenant,
    Timeouts,
    Weighted,
)
from libs.catalog.reader import Section, substitute
from libs.catalog.routes import ProviderEndpoint, ProviderKey
from libs.limits import PERIODS, Period, Unit
from libs.selection import Strategy
from libs.types import Priority

T = TypeVar("T")

_STRATEGY = partial(check_choice, "strategy", Strategy)
_SECRET_OPTION = re.compile(
    r"(?i)(.*[_-])?(api[_-]?key|secret|password|authorization|(access|auth|bearer|session)[_-]?token|token)"
)
_NO_KEYS = (
    "a key does not belong in the catalog: name the environment variable that holds it in api_key_env, "
    "or the file in api_key_file"
)
_NO_KEY_HERE = (
    "a key does not belong in the catalog: name the variable that holds it in env, or the file in file"
)
#: The fields that name one key, and one address.
_ONE_KEY = ("api_key_env", "api_key_file")
_ONE_ADDRESS = ("base_url", "region")
_NO_THRESHOLDS = "only budgets of tenants, campaigns and content types have thresholds"
_NO_TENANT_KEYS = "write the key's SHA-256 into key_sha256; `python -m libs.catalog hash` computes it"


def limit(section: Section) -> LimitSpec | None:
    """Reads one limit. The unit `usd` counts micro-USD, written in dollars."""
    section.refuse("thresholds", _NO_THRESHOLDS)
    return _limit(section, lambda spec: spec)


def budget(section: Section) -> LimitSpec | None:
    """Reads a limit of those who spend: where it bounds money in a calendar window, it has thresholds."""
    written = section.has("thresholds")
    found = thresholds(section.section("thresholds"))

    def complete(spec: LimitSpec) -> LimitSpec:
        if written or spec.budget:
            return replace(spec, thresholds=found if written else DEFAULT_THRESHOLDS)
        return spec

    return _limit(section, complete)


def thresholds(section: Section) -> tuple[Threshold, ...]:
    """Reads percent → action, ascending; 100 is always among them."""
    found = {100: Threshold(100, "refuse")}
    for name in section.names():
        action = section.text(name, rule=partial(check_choice, "action", ACTIONS))
        if not name.isdecimal() or not name.isascii() or len(name) > 3:
            section.fault("a threshold is a percentage from 1 to 100, such as 80", name)
        elif action:
            try:
                found[int(name)] = Threshold(int(name), action)
            except ValueError as error:
                section.fault(str(error), name)
    return tuple(found[percent] for percent in sorted(found))


def _limit(section: Section, complete: Callable[[LimitSpec], LimitSpec]) -> LimitSpec | None:
    section.require("unit", "limit")
    unit = section.text("unit", rule=partial(check_choice, "unit", (*Unit, "usd")))
    period = section.text("period", rule=partial(check_choice, "period", PERIODS))
    read = section.usd if unit == "usd" else section.whole
    amount, burst = read("limit"), read("burst")
    shadow, pace = section.flag("shadow"), section.flag("pace")

    def build() -> LimitSpec:
        counted = Unit.MICRO_USD if unit == "usd" else Unit(unit)
        return complete(LimitSpec(counted, Period(period), amount or 0, burst, shadow, pace=pace))

    return section.make(build)


def provider(name: str, section: Section, environ: Mapping[str, str], folder: Path) -> Provider | None:
    """Reads a provider; its kind is its name where that is one. Relative key files are looked for in `folder`."""
    kind = section.text(
        "kind", name if name in KINDS else "", rule=partial(check_choice, "kind", tuple(KINDS))
    )
    if not kind and not section.has("kind"):
        section.require("kind")
    known = KINDS.get(kind)
    region = section.text("region")
    base_url = section.converted("base_url", lambda text: _base_url(substitute(text, environ)))
    if known is not None and not section.has("base_url") and not section.has("endpoints"):
        base_url = _default_url(section, kind, region)
    section.refuse("api_key", _NO_KEYS)
    env = section.text("api_key_env", rule=_env_name_or_empty)
    file = section.converted("api_key_file", lambda text: str(folder / text))
    if known is not None and not section.has("api_key_env") and not section.has("api_key_file"):
        env = known.api_key_env
    keys = _several(section, "keys", lambda entry: _provider_key(entry, folder), _ONE_KEY)
    endpoints = _several(section, "endpoints", lambda entry: _endpoint(entry, kind, environ), _ONE_ADDRESS)
    if keys:
        env, file = keys[0].env, keys[0].file
    options = _options(section.section("options"), environ)
    if region:
        options.setdefault("region", region)
    if endpoints:
        base_url, region = endpoints[0].base_url, endpoints[0].region
    limits = section.list_of("limits", limit)
    timeouts = _timeouts(section.section("timeouts")) or Timeouts()
    return section.make(
        lambda: Provider(name, kind, base_url, env, file, options, limits, timeouts, region, keys, endpoints)
    )


def _several(
    section: Section, field: str, read: Callable[[Section], T | None], instead: tuple[str, ...]
) -> tuple[T, ...]:
    """Reads a list of keys or endpoints, which stands instead of the fields that name one; empty where it is not
    written."""
    nodes = section.nodes(field)
    if section.has(field):
        for one in instead:
            if section.has(one):
                section.fault(f"name {field} or {one}, not both", one)
        if not nodes:
            section.fault("must have an entry", field)
    found = [read(section.section_of(node, field, i)) for i, node in nodes]
    return tuple([entry for entry in found if entry is not None])


def _provider_key(section: Section, folder: Path) -> ProviderKey | None:
    for field in ("key", "api_key", "value"):
        section.refuse(field, _NO_KEY_HERE)
    env = section.text("env", rule=check_env_name)
    file = section.converted("file", lambda text: str(folder / text))
    weight = section.integer("weight", 1)
    models = frozenset(section.texts("models", check_model_name))
    limits = section.list_of("limits", limit)
    return section.make(lambda: ProviderKey(env, file, weight, models, limits))


def _endpoint(section: Section, kind: str, environ: Mapping[str, str]) -> ProviderEndpoint | None:
    region = section.text("region")
    base_url = section.converted("base_url", lambda text: _base_url(substitute(text, environ)))
    if kind in KINDS and not section.has("base_url"):
        base_url = _default_url(section, kind, region)
    weight = section.integer("weight", 1)
    return section.make(lambda: ProviderEndpoint(base_url, region, weight))


def _base_url(url: str) -> str:
    check_url(url)
    return url.rstrip("/")


def _default_url(section: Section, kind: str, region: str) -> str:
    template = KINDS[kind].base_url
    if not template:
        section.fault(f"is required for kind {kind}", "base_url")
    elif "{region}" in template and not region:
        section.fault(f"is required for kind {kind}", "region")
    return template.replace("{region}", region)


def _env_name_or_empty(value: str) -> None:
    if value:
        check_env_name(value)


def _options(section: Section, environ: Mapping[str, str]) -> dict[str, str]:
    for name in section.names():
        if _SECRET_OPTION.fullmatch(name):
            section.refuse(name, _NO_KEYS)
    return {name: section.converted(name, lambda text: substitute(text, environ)) for name in section.names()}


def _timeouts(section: Section) -> Timeouts | None:
    usual = Timeouts()
    first_byte = section.number("first_byte", usual.first_byte)
    idle = section.number("idle", usual.idle)
    total = section.number("total", usual.total)
    return section.make(lambda: Timeouts(first_byte, idle, total))


def key(section: Section) -> tuple[LimitSpec, ...] | None:
    """Reads the limits of a provider's key."""
    limits = section.list_of("limits", limit)

    def build() -> tuple[LimitSpec, ...]:
        check_limits(limits)
        return limits

    return section.make(build)


def model(model_id: str, section: Section) -> Model | None:
    """Reads a model; its key is "provider/model"."""
    provider_name, slash, name = model_id.partition("/")
    if not slash:
        section.fault('a model is named "provider/model"')
    section.require("context_window", "max_output_tokens")
    wire_name = section.text("wire_name", name)
    window, most = section.integer("context_window", 1), section.integer("max_output_tokens", 1)
    capabilities = frozenset(section.texts("capabilities", partial(check_choice, "capability", CAPABILITIES)))
    if not section.has("capabilities"):
        capabilities = frozenset({"streaming", "system"})
    prices = section.section("price")
    price = _price(prices) if section.has("price") else None
    ratings = section.section("quality")
    quality = {content_type: ratings.number(content_type) for content_type in ratings.names()}
    limits = section.list_of("limits", limit)

    def build() -> Model:
        check_model_name(name)
        return Model(provider_name, name, wire_name, window, most, capabilities, price, quality, limits)

    return section.make(build)


def _price(section: Section) -> Price | None:
    section.require("input", "output")
    names = ("input", "output", "cache_read", "cache_write")
    prices = {name: section.usd(name) for name in names}
    return section.make(lambda: Price(**prices))  # type: ignore[arg-type]


def policy(name: str, section: Section) -> Policy | None:
    """Reads a policy; a tier is a list of model ids or of {model, weight}."""
    section.require("tiers")
    tiers = tuple(_tier(section, i, node) for i, node in section.nodes("tiers"))
    last_resort = section.texts("last_resort")
    strategy = section.text("strategy", rule=_STRATEGY) or None
    attempts, cost = section.whole("max_attempts"), section.usd("max_cost_usd")
    ladder = section.texts("degradation", partial(check_choice, "degradation", DEGRADATIONS))
    wait = section.decimal("max_retry_after")
    return section.make(lambda: Policy(name, tiers, last_resort, strategy, attempts, cost, ladder, wait))


def _tier(section: Section, i: int, tier: Node) -> tuple[Weighted, ...]:
    entries = []
    for j, node in section.nodes_of(tier, "tiers", i):
        if isinstance(node.value, str):
            entries.append(Weighted(section.text_of(node, "tiers", i, j)))
        elif (entry := _weighted(section.section_of(node, "tiers", i, j))) is not None:
            entries.append(entry)
    return tuple(entries)


def _weighted(section: Section) -> Weighted | None:
    section.require("model")
    model_id, weight = section.text("model"), section.integer("weight", 1)
    return section.make(lambda: Weighted(model_id, weight))


def content_type(name: str, section: Section) -> ContentType | None:
    """Reads a content type."""
    section.require("max_output_tokens")
    most = section.integer("max_output_tokens", 1)
    strategy = section.text("strategy", rule=_STRATEGY) or None
    policy_name = section.text("policy", DEFAULT)
    description = section.text("description")
    return section.make(lambda: ContentType(name, most, strategy, policy_name, description))


def tenant(name: str, section: Section) -> Tenant | None:
    """Reads a tenant."""
    for field in ("key", "keys", "api_key"):
        section.refuse(field, _NO_TENANT_KEYS)
    hashes = section.texts("key_sha256", check_key_hash)
    limits = section.list_of("limits", budget)
    zone = section.text("time_zone", "UTC", check_time_zone)
    priority = section.text("priority", Priority.STANDARD, partial(check_choice, "priority", tuple(Priority)))
    policies = section.section("policies")
    by_type = {content_type: policies.text(content_type) for content_type in policies.names()}
    named = section.texts("allowed_providers")
    allowed = frozenset(named) if section.has("allowed_providers") else None
    cost, deadline = section.usd("max_cost_usd"), section.number("default_deadline", 120.0)
    strategy = section.text("strategy", rule=_STRATEGY) or None
    at_providers = section.section("provider_limits")
    by_provider = {key: at_providers.list_of(key, limit) for key in at_providers.names()}
    of_content = section.section("content_limits")
    by_content = {key: of_content.list_of(key, budget) for key in of_content.names()}
    campaigns = {key: _campaign(key, part) for key, part in section.sections("campaigns")}
    return section.make(
        lambda: Tenant(
            name=name,
            key_hashes=hashes,
            limits=limits,
            time_zone=zone,
            priority=Priority(priority),
            policies=by_type,
            allowed_providers=allowed,
            max_cost_micro_usd=cost,
            strategy=strategy,
            default_deadline=deadline,
            provider_limits=by_provider,
            content_limits=by_content,
            campaigns=campaigns,
        )
    )


def _campaign(name: str, section: Section) -> tuple[LimitSpec, ...]:
    limits = section.list_of("limits", budget)
    section.make(lambda: check_campaign_name(name))
    return limits
