"""The rules that catalog values obey, each raising ValueError with a sentence for a person."""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, TypeVar
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from libs.bounds import MAX_ID

#: The largest integer that Lua and JSON hold exactly.
MAX_AMOUNT = 2**53 - 1
MAX_TOKENS = 100_000_000

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}")
_MODEL_NAME = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.:@/\-]{{0,{MAX_ID - 1}}}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")

K = TypeVar("K")
V = TypeVar("V")

# Shared, as most of 100,000 tenants have nothing in most of their mappings.
_EMPTY: MappingProxyType[Any, Any] = MappingProxyType({})


def check(good: bool, message: str) -> None:
    """Raises ValueError(message) unless good."""
    if not good:
        raise ValueError(message)


def check_name(name: str) -> None:
    """Checks the name of anything but a model: it goes into scopes, metrics and URLs."""
    if _NAME.fullmatch(name) is None:
        raise ValueError(
            f"{name!r} is not a name: 1 to 64 letters, digits, '_', '.' or '-', first a letter or digit"
        )


def check_campaign_name(name: str) -> None:
    """Checks the name of a campaign, which callers give: 1 to MAX_ID printable characters."""
    if not 0 < len(name) <= MAX_ID or not name.isprintable():
        raise ValueError(f"{name[:MAX_ID]!r} is not a campaign: 1 to {MAX_ID} printable characters")


def check_model_name(name: str) -> None:
    """Checks the name of a model as vendors write it, e.g. `meta-llama/Llama-3.3-70B-Instruct:free`."""
    if _MODEL_NAME.fullmatch(name) is None:
        raise ValueError(f"{name!r} is not a model name: 1 to {MAX_ID} letters, digits or any of '_.:@/-'")


def check_amount(what: str, value: int, low: int = 0, high: int = MAX_AMOUNT) -> None:
    """Raises unless low <= value <= high."""
    if not low <= value <= high:
        raise ValueError(f"{what} must be {low} to {high}, not {value}")


def check_seconds(what: str, value: float, high: float = 86_400.0) -> None:
    """Raises unless 0 < value <= high."""
    if not (math.isfinite(value) and 0 < value <= high):
        raise ValueError(f"{what} must be above 0 and at most {high:g} seconds, not {value:g}")


def check_choice(what: str, choices: Iterable[str], value: str) -> None:
    """Raises, with a suggestion, unless value is one of the choices."""
    known = tuple(choices)
    if value not in known:
        raise ValueError(f'unknown {what} "{value}"{suggest(value, known)}')


def check_key_hash(value: str) -> None:
    """Checks a tenant key's SHA-256: 64 lower-case hex digits."""
    if _SHA256.fullmatch(value) is None:
        raise ValueError("a key hash is 64 lower-case hex digits, from `python -m libs.catalog hash`")


def check_env_name(value: str) -> None:
    """Checks the name of an environment variable, not its value."""
    if _ENV_NAME.fullmatch(value) is None:
        raise ValueError("api_key_env must be the name of an environment variable, not a key")


@lru_cache(maxsize=1024)
def check_time_zone(name: str) -> None:
    """Checks that it is an IANA time zone such as Europe/Zurich."""
    try:
        ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        raise ValueError(f'unknown time zone "{name}": write an IANA name such as Europe/Zurich') from None


def check_url(url: str) -> None:
    """Checks that it is an http(s) base URL without user, password, query or fragment."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError(f"{url!r} is not a URL: {error}") from None
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError(f"{url!r} is not a URL: it must begin with http:// or https:// and name a host")
    if parts.username is not None or parts.password is not None:
        raise ValueError("a base URL must not hold a user name or password")
    if parts.query or parts.fragment or any(c.isspace() or ord(c) < 32 for c in url):
        raise ValueError(f"{url!r} must not hold a query, a fragment or spaces")


def suggest(word: str, known: Iterable[str]) -> str:
    """Returns ` (did you mean "x"?)`, or nothing where no known word is near."""
    near = difflib.get_close_matches(word, list(known), n=1)
    return f' (did you mean "{near[0]}"?)' if near else ""


def frozen(mapping: Mapping[K, V]) -> Mapping[K, V]:
    """Returns a read-only copy; the same object where it is one already."""
    if not mapping:
        return _EMPTY
    return mapping if isinstance(mapping, MappingProxyType) else MappingProxyType(dict(mapping))
