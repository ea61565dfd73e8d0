"""A whole catalog: all that a service may know about providers, models, policies and tenants."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from libs.catalog.checks import check, check_name, frozen
from libs.catalog.limits import LimitSpec, check_limits
from libs.catalog.model import DEFAULT, ContentType, Model, Policy, Provider, Tenant
from libs.catalog.references import broken_references
from libs.limits import Scope, ScopeKind


@dataclass(frozen=True, slots=True)
class Catalog:
    """A catalog with every reference resolved. `version`: first 12 hex digits of the SHA-256 of the file. `domain`
    names the rate-limit domain: catalogs of one domain share their limits."""

    version: str
    domain: str
    default_content_type: str
    providers: Mapping[str, Provider]
    models: Mapping[str, Model]
    policies: Mapping[str, Policy]
    content_types: Mapping[str, ContentType]
    tenants: Mapping[str, Tenant]
    #: Limits of providers' keys by `Provider.key_name`: of scopes `key:<name>`.
    keys: Mapping[str, tuple[LimitSpec, ...]] = field(default_factory=dict)
    _by_name: Mapping[str, tuple[Model, ...]] = field(init=False, repr=False, compare=False)
    _by_key_hash: Mapping[str, Tenant] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_name(self.domain)
        check(bool(self.models), "at least one model is needed")
        faults = [message for _, _, message in broken_references(self)]
        check(not faults, "; ".join(faults))
        by_name: dict[str, tuple[Model, ...]] = {}
        for model in self.models.values():
            by_name[model.name] = (*by_name.get(model.name, ()), model)
        by_name.update((model.id, (model,)) for model in self.models.values())
        by_hash = {h: tenant for tenant in self.tenants.values() for h in tenant.key_hashes}
        for limits in self.keys.values():
            check_limits(limits)
        for name in ("providers", "models", "policies", "content_types", "tenants", "keys"):
            object.__setattr__(self, name, frozen(getattr(self, name)))
        object.__setattr__(self, "_by_name", by_name)
        object.__setattr__(self, "_by_key_hash", by_hash)

    def resolve_model(self, name: str) -> tuple[Model, ...]:
        """Returns the models a caller means by "provider/model", or by a model's name at any provider, in the
        catalog's order. Empty: no such model."""
        return self._by_name.get(name, ())

    def tenant_by_key(self, key: str) -> Tenant | None:
        """Returns the tenant with this key; None: there is none. The key is looked up by its SHA-256, so timing tells
        nothing about valid keys."""
        return self._by_key_hash.get(hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest())

    def policy_for(self, tenant: Tenant, content_type: str) -> Policy:
        """Returns the tenant's policy for the content type, else the tenant's default, else the content type's
        own."""
        name = tenant.policies.get(content_type) or tenant.policies.get(DEFAULT)
        return self.policies[name or self.content_types[content_type].policy]

    def limits(self) -> Iterator[tuple[Scope, str, LimitSpec]]:
        """Yields every configured limit as (scope, time zone, limit)."""
        for scope, zone, limits in self._scopes():
            yield from ((scope, zone, limit) for limit in limits)

    def _scopes(self) -> Iterator[tuple[Scope, str, tuple[LimitSpec, ...]]]:
        for provider in self.providers.values():
            yield Scope(ScopeKind.PROVIDER, provider.name), "UTC", provider.limits
            for key in provider.keys:
                yield Scope(ScopeKind.KEY, key.name), "UTC", key.limits
        for name, limits in self.keys.items():
            yield Scope(ScopeKind.KEY, name), "UTC", limits
        for model in self.models.values():
            yield Scope(ScopeKind.MODEL, model.id), "UTC", model.limits
        for tenant in self.tenants.values():
            zone = tenant.time_zone
            yield Scope(ScopeKind.TENANT, tenant.name), zone, tenant.limits
            for kind, by_name in (
                (ScopeKind.TENANT_PROVIDER, tenant.provider_limits),
                (ScopeKind.TENANT_CONTENT, tenant.content_limits),
                (ScopeKind.CAMPAIGN, tenant.campaigns),
            ):
                for name, limits in by_name.items():
                    yield Scope(kind, name, tenant.name), zone, limits
