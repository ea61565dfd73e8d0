"""Checks the names that catalog entries use for each other: every one must exist."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol

from libs.catalog.checks import suggest
from libs.catalog.limits import LimitSpec
from libs.catalog.model import ContentType, Model, Policy, Provider, Tenant

#: The place of a value in the YAML: mapping keys and list indexes from the root.
Path = tuple[str | int, ...]
#: A place, the name that stands there, and what is wrong with it.
Broken = tuple[Path, str, str]


class Parts(Protocol):
    """The pieces of a catalog, whole or still being loaded."""

    @property
    def default_content_type(self) -> str: ...
    @property
    def providers(self) -> Mapping[str, Provider]: ...
    @property
    def models(self) -> Mapping[str, Model]: ...
    @property
    def policies(self) -> Mapping[str, Policy]: ...
    @property
    def content_types(self) -> Mapping[str, ContentType]: ...
    @property
    def tenants(self) -> Mapping[str, Tenant]: ...
    @property
    def keys(self) -> Mapping[str, tuple[LimitSpec, ...]]: ...


def broken_references(parts: Parts) -> Iterator[Broken]:
    """Yields every name that leads nowhere, and every key that leads to two tenants, as (place, name, sentence)."""
    keys = dict.fromkeys(name for provider in parts.providers.values() for name in provider.key_names)
    for name in parts.keys:
        yield from _missing(("keys", name), "key", name, keys)
    yield from _of_keys(parts)
    yield from _of_models(parts)
    yield from _of_policies(parts)
    yield from _of_content_types(parts)
    yield from _of_tenants(parts)


def _missing(path: Path, what: str, name: str, known: Mapping[str, object]) -> Iterator[Broken]:
    if name not in known:
        yield path, name, f'unknown {what} "{name}"{suggest(name, known)}'


def _of_keys(parts: Parts) -> Iterator[Broken]:
    limited = dict.fromkeys(parts.keys, "keys")
    of_providers: dict[str, set[str]] = {}
    for model in parts.models.values():
        of_providers.setdefault(model.provider, set()).add(model.name)
    for provider in parts.providers.values():
        models = dict.fromkeys(sorted(of_providers.get(provider.name, ())))
        for i, key in enumerate(provider.keys):
            path: Path = ("providers", provider.name, "keys", i)
            for name in sorted(key.models):
                yield from _missing((*path, "models"), f"model of {provider.name}", name, models)
            if key.limits:
                first = limited.setdefault(key.name, f"provider {provider.name}")
                if key.name in parts.keys or first != f"provider {provider.name}":
                    yield (*path, "limits"), "", f'limits of key "{key.name}" are written at {first} already'
        for name in models:
            if provider.keys and not any(not key.models or name in key.models for key in provider.keys):
                yield ("providers", provider.name, "keys"), "", f'no key may call model "{name}"'


def _of_models(parts: Parts) -> Iterator[Broken]:
    ratings = {**parts.content_types, "default": None}
    for model in parts.models.values():
        yield from _missing(("models", model.id), "provider", model.provider, parts.providers)
        for content_type in model.quality:
            path = ("models", model.id, "quality", content_type)
            yield from _missing(path, "content type", content_type, ratings)


def _of_policies(parts: Parts) -> Iterator[Broken]:
    for policy in parts.policies.values():
        here: Path = ("policies", policy.name)
        for i, tier in enumerate(policy.tiers):
            for j, entry in enumerate(tier):
                yield from _missing((*here, "tiers", i, j), "model", entry.model_id, parts.models)
        for i, model_id in enumerate(policy.last_resort):
            yield from _missing((*here, "last_resort", i), "model", model_id, parts.models)


def _of_content_types(parts: Parts) -> Iterator[Broken]:
    path: Path = ("default_content_type",)
    yield from _missing(path, "content type", parts.default_content_type, parts.content_types)
    for content_type in parts.content_types.values():
        path = ("content_types", content_type.name, "policy")
        yield from _missing(path, "policy", content_type.policy, parts.policies)


def _of_tenants(parts: Parts) -> Iterator[Broken]:
    owners: dict[str, str] = {}
    with_default = {**parts.content_types, "default": None}
    for tenant in parts.tenants.values():
        here: Path = ("tenants", tenant.name)
        for content_type, policy in tenant.policies.items():
            path = (*here, "policies", content_type)
            yield from _missing(path, "content type", content_type, with_default)
            yield from _missing(path, "policy", policy, parts.policies)
        for name in tenant.provider_limits:
            yield from _missing((*here, "provider_limits", name), "provider", name, parts.providers)
        for name in tenant.content_limits:
            yield from _missing((*here, "content_limits", name), "content type", name, parts.content_types)
        for name in sorted(tenant.allowed_providers or ()):
            yield from _missing((*here, "allowed_providers"), "provider", name, parts.providers)
        for i, key_hash in enumerate(tenant.key_hashes):
            owner = owners.setdefault(key_hash, tenant.name)
            if owner != tenant.name:
                yield (*here, "key_sha256", i), "", f'tenant "{owner}" has the same key'
