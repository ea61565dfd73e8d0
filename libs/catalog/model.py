"""The entries of a catalog as plain values: frozen, validated, free of I/O.

Constructors raise ValueError; `libs.catalog.load` reports the same faults with their lines. Money is an int
of millionths of a US dollar, durations are float seconds. Mappings are read-only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from libs.catalog.checks import (
    MAX_TOKENS,
    check,
    check_amount,
    check_choice,
    check_env_name,
    check_key_hash,
    check_model_name,
    check_name,
    check_seconds,
    check_time_zone,
    check_url,
    frozen,
)
from libs.catalog.kinds import KINDS
from libs.catalog.limits import LimitSpec, check_limits
from libs.catalog.routes import ProviderEndpoint, ProviderKey, ProviderRoute, check_routes
from libs.selection import Strategy
from libs.types import Priority

CAPABILITIES = (
    "streaming",
    "system",
    "json",
    "json_schema",
    "tools",
    "prefill",
    "reasoning",
    "seed",
    "stop",
    "image",
    "image_url",
    "pdf",
    "pdf_url",
)
DEGRADATIONS = ("cheaper_model", "stale_cache", "queue", "refuse")
#: The content type in `quality` and `Tenant.policies` that stands for all others, and the policy used where
#: none is named. A loaded catalog always has a policy of this name.
DEFAULT = "default"
MAX_ATTEMPTS = 10


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Bounds of one attempt in seconds. `first_byte` (to the first content byte) and `idle` (between bytes)
    apply to streams; a unary call shows nothing before it is whole, so `total` alone applies to it."""

    first_byte: float = 20.0
    idle: float = 15.0
    total: float = 180.0

    def __post_init__(self) -> None:
        for name in ("first_byte", "idle", "total"):
            check_seconds(name, getattr(self, name), 3600.0)


@dataclass(frozen=True, slots=True)
class Provider:
    """An account at a vendor, or a server of one's own.

    `base_url` has no trailing slash and is what the vendor's own SDK calls its base URL:
    `https://api.openai.com/v1` (the wire appends `/chat/completions`), `https://api.anthropic.com`
    (`/v1/messages`), `https://generativelanguage.googleapis.com` (`/v1beta/models/...`). `api_key_env`,
    `api_key_file`: where the key is found, at most one of them, both empty for a server without keys; the key
    itself is never in the catalog. A region is also among the options, where the wires look for it.

    `keys`, `endpoints`: several of them, instead of the one; the first of each then stands in `api_key_env`,
    `api_key_file`, `base_url` and `region` too. `routes` are then this provider by each key at each endpoint, as
    providers with one of each, whose `route` names it; empty where there is only one.
    """

    name: str
    kind: str
    base_url: str
    api_key_env: str = ""
    api_key_file: str = ""
    options: Mapping[str, str] = field(default_factory=dict, hash=False)
    limits: tuple[LimitSpec, ...] = ()
    timeouts: Timeouts = Timeouts()
    region: str = ""
    keys: tuple[ProviderKey, ...] = ()
    endpoints: tuple[ProviderEndpoint, ...] = ()
    route: ProviderRoute | None = None
    routes: tuple[Provider, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_name(self.name)
        check_choice("kind", KINDS, self.kind)
        check_routes(self.keys, self.endpoints)
        check_url(self.base_url)
        check(not self.base_url.endswith("/"), "base_url must not end with a slash")
        check(not (self.api_key_env and self.api_key_file), "name api_key_env or api_key_file, not both")
        if self.api_key_env:
            check_env_name(self.api_key_env)
        check_limits(self.limits)
        object.__setattr__(self, "options", frozen(self.options))
        object.__setattr__(self, "routes", self._make_routes())

    def _make_routes(self) -> tuple[Provider, ...]:
        if len(self.keys) <= 1 and len(self.endpoints) <= 1:
            return ()
        one = ProviderRoute(self.key_name, "", 1, frozenset())
        keys = [(k.env, k.file, ProviderRoute(k.name, "", k.weight, k.models)) for k in self.keys]
        keys = keys or [(self.api_key_env, self.api_key_file, one)]
        endpoints = self.endpoints or (ProviderEndpoint(self.base_url, self.region),)
        return tuple(
            replace(
                self,
                base_url=endpoint.base_url,
                api_key_env=env,
                api_key_file=file,
                options={**self.options, "region": endpoint.region} if endpoint.region else self.options,
                region=endpoint.region,
                keys=(),
                endpoints=(),
                route=replace(route, endpoint=endpoint.name, weight=route.weight * endpoint.weight),
            )
            for env, file, route in keys
            for endpoint in endpoints
        )

    def each_key_and_endpoint(self) -> tuple[Provider, ...]:
        """Returns as few of its routes as have each key and each endpoint; itself where it has one of each."""
        if not self.routes:
            return (self,)
        # Routes stand key by key, and each key's endpoint by endpoint.
        endpoints = max(1, len(self.endpoints))
        keys = len(self.routes) // endpoints
        return tuple(self.routes[i % keys * endpoints + i % endpoints] for i in range(max(keys, endpoints)))

    @property
    def needs_key(self) -> bool:
        """Returns True if calls carry a key, so that without one the provider cannot be used."""
        return bool(self.api_key_env or self.api_key_file)

    @property
    def key_name(self) -> str:
        """Returns the name that limits of its key go by: the variable's name, or the file's without its folder.
        Providers may share one. Empty: no key."""
        # Every attempt asks.
        return self.api_key_env or self.api_key_file.rpartition("/")[2]

    @property
    def key_names(self) -> tuple[str, ...]:
        """Returns the names of all its keys; one that is empty: no key."""
        return tuple(key.name for key in self.keys) or (self.key_name,)


@dataclass(frozen=True, slots=True)
class Price:
    """Micro-USD per million tokens. The cache prices apply to the cached part of the input; None: as
    `input`."""

    input: int
    output: int
    cache_read: int | None = None
    cache_write: int | None = None

    def __post_init__(self) -> None:
        for name in ("input", "output", "cache_read", "cache_write"):
            value = getattr(self, name)
            if value is not None:
                check_amount(f"price.{name}", value, high=10**12)


@dataclass(frozen=True, slots=True)
class Model:
    """A model at a provider. `wire_name` is its name in requests. `context_window` counts prompt and answer
    together, in tokens. `price` None: genai-prices knows it. `quality`: content type → how well it suits, 0
    to 1."""

    provider: str
    name: str
    wire_name: str
    context_window: int
    max_output_tokens: int
    capabilities: frozenset[str] = frozenset({"streaming", "system"})
    price: Price | None = None
    quality: Mapping[str, float] = field(default_factory=dict, hash=False)
    limits: tuple[LimitSpec, ...] = ()
    #: "provider/name".
    id: str = field(init=False)

    def __post_init__(self) -> None:
        check_name(self.provider)
        check_model_name(self.name)
        check(0 < len(self.wire_name) <= 256, "wire_name must be 1 to 256 characters")
        check_amount("context_window", self.context_window, 1, MAX_TOKENS)
        check_amount("max_output_tokens", self.max_output_tokens, 1, self.context_window)
        for capability in sorted(self.capabilities):
            check_choice("capability", CAPABILITIES, capability)
        check_limits(self.limits)
        for content_type, value in self.quality.items():
            check(0 <= value <= 1, f"quality.{content_type} must be 0 to 1, not {value:g}")
        object.__setattr__(self, "quality", frozen(self.quality))
        object.__setattr__(self, "id", f"{self.provider}/{self.name}")

    def quality_for(self, content_type: str) -> float:
        """Returns its rating for a content type, else its default rating, else 0.5; from 0 to 1."""
        quality = self.quality
        return quality.get(content_type, quality.get(DEFAULT, 0.5))


@dataclass(frozen=True, slots=True)
class Weighted:
    """A model in a tier. Equals of one tier share load by `weight`, 1 to 1,000,000; 0: only when the rest is
    gone."""

    model_id: str
    weight: int = 1

    def __post_init__(self) -> None:
        check_amount("weight", self.weight, high=1_000_000)


@dataclass(frozen=True, slots=True)
class Policy:
    """The models that may serve, and their order. Tiers are tried first to last, `last_resort` when every tier
    failed. `degradation`: the ladder, first step first. `max_retry_after`: the longest that a provider's
    Retry-After is waited for before the next is asked, in seconds; 0: fail over at once, and wait for nobody. None:
    not set here; then it is waited for, for a short time, only where nobody else is left."""

    name: str
    tiers: tuple[tuple[Weighted, ...], ...]
    last_resort: tuple[str, ...] = ()
    strategy: str | None = None
    max_attempts: int | None = None
    max_cost_micro_usd: int | None = None
    degradation: tuple[str, ...] = ()
    max_retry_after: float | None = None

    def __post_init__(self) -> None:
        check_name(self.name)
        check(bool(self.tiers), "a policy needs at least one tier")
        check(all(self.tiers), "a tier needs at least one model")
        everyone = [entry.model_id for tier in self.tiers for entry in tier] + list(self.last_resort)
        for model_id in everyone:
            check(everyone.count(model_id) == 1, f'model "{model_id}" is named more than once')
        if self.strategy is not None:
            check_choice("strategy", Strategy, self.strategy)
        if self.max_attempts is not None:
            check_amount("max_attempts", self.max_attempts, 1, MAX_ATTEMPTS)
        if self.max_cost_micro_usd is not None:
            check_amount("max_cost", self.max_cost_micro_usd, 1)
        for step in self.degradation:
            check_choice("degradation", DEGRADATIONS, step)
        check(len(set(self.degradation)) == len(self.degradation), "a degradation step is named twice")
        if self.max_retry_after is not None:
            check(0 <= self.max_retry_after <= 3600, "max_retry_after must be 0 to 3600 seconds")


@dataclass(frozen=True, slots=True)
class ContentType:
    """A kind of text to generate. `max_output_tokens` applies where the caller sets none. `policy` serves
    tenants without one of their own for it. `strategy` None: the policy's, else the tenant's, else
    balanced."""

    name: str
    max_output_tokens: int
    strategy: str | None = None
    policy: str = DEFAULT
    description: str = ""

    def __post_init__(self) -> None:
        check_name(self.name)
        check(self.name != DEFAULT, f'"{DEFAULT}" means every content type; choose another name')
        check_amount("max_output_tokens", self.max_output_tokens, 1, 1_000_000)
        if self.strategy is not None:
            check_choice("strategy", Strategy, self.strategy)


@dataclass(frozen=True, slots=True)
class Tenant:
    """A caller with its own keys, limits and policies. `key_hashes`: SHA-256 of each valid key. `policies`:
    content type (or "default") → policy name. `allowed_providers` None: all. `max_cost_micro_usd`: per
    request, None: no bound. `default_deadline`: seconds a call without a deadline gets. `provider_limits`,
    `content_limits` and `campaigns` are the limits of scopes `tenant_provider:<tenant>/<provider>`,
    `tenant_content:<tenant>/<content type>` and `campaign:<tenant>/<campaign>`."""

    name: str
    key_hashes: tuple[str, ...] = ()
    limits: tuple[LimitSpec, ...] = ()
    time_zone: str = "UTC"
    priority: Priority = Priority.STANDARD
    policies: Mapping[str, str] = field(default_factory=dict, hash=False)
    allowed_providers: frozenset[str] | None = None
    max_cost_micro_usd: int | None = None
    strategy: str | None = None
    default_deadline: float = 120.0
    provider_limits: Mapping[str, tuple[LimitSpec, ...]] = field(default_factory=dict, hash=False)
    content_limits: Mapping[str, tuple[LimitSpec, ...]] = field(default_factory=dict, hash=False)
    campaigns: Mapping[str, tuple[LimitSpec, ...]] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        check_name(self.name)
        for key_hash in self.key_hashes:
            check_key_hash(key_hash)
        check_time_zone(self.time_zone)
        more = (self.provider_limits, self.content_limits, self.campaigns)
        for limits in (self.limits, *(found for kind in more for found in kind.values())):
            check_limits(limits)
        if self.max_cost_micro_usd is not None:
            check_amount("max_cost", self.max_cost_micro_usd, 1)
        if self.strategy is not None:
            check_choice("strategy", Strategy, self.strategy)
        check_seconds("default_deadline", self.default_deadline, 3600.0)
        for name in ("policies", "provider_limits", "content_limits", "campaigns"):
            object.__setattr__(self, name, frozen(getattr(self, name)))
