"""The keys and addresses of a provider that has several, and the routes that they give."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from libs.catalog.checks import check, check_amount, check_env_name, check_url
from libs.catalog.limits import LimitSpec, check_limits
from libs.limits import MAX_NAME

#: The most keys and the most endpoints of one provider.
MAX_KEYS = 32
MAX_ENDPOINTS = 16
MAX_WEIGHT = 1_000_000


@dataclass(frozen=True, slots=True)
class ProviderKey:
    """One key of several: where it is found (`env` or `file`), its share of the load by `weight` (0: only when the
    rest is gone), the models that it may call (names without the provider; empty: all) and its own limits."""

    env: str = ""
    file: str = ""
    weight: int = 1
    models: frozenset[str] = frozenset()
    limits: tuple[LimitSpec, ...] = ()

    def __post_init__(self) -> None:
        check(bool(self.env) is not bool(self.file), "a key is named by env or by file, one of them")
        if self.env:
            check_env_name(self.env)
        check_amount("weight", self.weight, high=MAX_WEIGHT)
        check_limits(self.limits)
        _check_name(self.name)

    @property
    def name(self) -> str:
        """Returns the variable's name, or the file's without its folder."""
        return self.env or self.file.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class ProviderEndpoint:
    """One address of several; its share of the load by `weight` (0: only when the rest is gone)."""

    base_url: str
    region: str = ""
    weight: int = 1

    def __post_init__(self) -> None:
        check_url(self.base_url)
        check(not self.base_url.endswith("/"), "base_url must not end with a slash")
        check_amount("weight", self.weight, high=MAX_WEIGHT)
        _check_name(self.name)

    @property
    def name(self) -> str:
        """Returns the address without its scheme."""
        return self.base_url.partition("://")[2]


@dataclass(frozen=True, slots=True)
class ProviderRoute:
    """One key at one endpoint of a provider, by their names; `key` is empty where it takes none. `weight`: its share
    of the load; `models`: the names that it serves, empty: all."""

    key: str
    endpoint: str
    weight: int
    models: frozenset[str]

    def serves(self, model: str) -> bool:
        """Returns True if its key may call the model, by its name without the provider."""
        return not self.models or model in self.models


def _check_name(name: str) -> None:
    check(
        0 < len(name) <= MAX_NAME and name.isprintable(),
        f"the name of a file or an address has 1 to {MAX_NAME} printable characters",
    )


def check_routes(keys: Sequence[ProviderKey], endpoints: Sequence[ProviderEndpoint]) -> None:
    """Checks a provider's keys and endpoints: names once, and a weight somewhere."""
    check(len(keys) <= MAX_KEYS, f"at most {MAX_KEYS} keys")
    check(len(endpoints) <= MAX_ENDPOINTS, f"at most {MAX_ENDPOINTS} endpoints")
    _check_all("key", keys)
    _check_all("endpoint", endpoints)


def _check_all(what: str, entries: Sequence[ProviderKey | ProviderEndpoint]) -> None:
    names = [entry.name for entry in entries]
    for name in names:
        check(names.count(name) == 1, f'{what} "{name}" is named twice')
    check(not entries or any(entry.weight for entry in entries), f"every {what} has weight 0")
