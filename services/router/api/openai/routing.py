"""Reads a request's routing from `model`, `models`, `fallbacks` and the `x-pointsman-*` headers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from typing import TypeVar

from msgspec import Struct

from libs.selection import Strategy
from libs.types import Priority
from services.router.api.openai.errors import invalid_parameter

#: Lets the content type's and the tenant's policy choose.
AUTO = "auto"
#: `pointsman/<content type>`: as AUTO, for that content type.
ALIAS = "pointsman/"
HEADER = "x-pointsman-"
#: Seconds; and US dollars.
MAX_TIMEOUT = 86_400.0
MAX_USD = 1_000_000

_T = TypeVar("_T")
_E = TypeVar("_E", bound=StrEnum)


class OnRestart(StrEnum):
    """The ways to begin an answer anew after a part of it was sent. OpenAI's wire cannot say that: its clients only
    append."""

    #: End the stream with an error of code `stream_restarted`. The default: half of one answer followed by another
    #: is worse than none.
    ERROR = "error"
    #: Send a chunk without choices, `{"pointsman": {"restarted": true}}`, then the new answer. For clients
    #: that know it.
    REPLACE = "replace"


class Routing(Struct, frozen=True):
    """The routing of a request: all that is not its prompt. `timeout` is in seconds. None and empty mean unset."""

    content_type: str = ""
    models: tuple[str, ...] = ()
    strategy: Strategy | None = None
    priority: Priority | None = None
    campaign: str = ""
    max_attempts: int | None = None
    max_cost_micro_usd: int | None = None
    hedge: bool = False
    timeout: float | None = None
    on_restart: OnRestart = OnRestart.ERROR


def read_routing(
    model: str | None,
    models: Sequence[str] | None,
    fallbacks: Sequence[str] | None,
    headers: Mapping[str, str],
) -> Routing:
    """Returns the routing. Its models are `model`, then `models`, then `fallbacks`, in that order and each once.
    `headers` by lower-case name. Raises ApiError."""
    content_type = headers.get(HEADER + "content-type", "")
    chain: list[str] = []
    for param, names in (("model", [model or ""]), ("models", models or ()), ("fallbacks", fallbacks or ())):
        for name in names:
            if name.startswith(ALIAS):
                content_type = name.removeprefix(ALIAS)
            elif name and name != AUTO:
                chain.append(name)
            elif not name and param != "model":
                raise invalid_parameter(param, f"'{param}' must not hold empty names.")
    if not (model or chain or content_type):
        raise invalid_parameter("model", "You must provide a model parameter; 'auto' lets Pointsman choose.")
    usd = f"US dollars, at least 0.000001 and at most {MAX_USD:,}"
    return Routing(
        content_type,
        tuple(dict.fromkeys(chain)),
        _choice(headers, "strategy", Strategy),
        _choice(headers, "priority", Priority),
        headers.get(HEADER + "campaign", ""),
        _header(headers, "max-attempts", int, "a whole number"),
        _header(headers, "max-cost-usd", _micro_usd, usd),
        _header(headers, "hedge", _truth, "true or false") or False,
        _header(headers, "timeout", _seconds, "seconds above 0, at most a day"),
        _choice(headers, "on-restart", OnRestart) or OnRestart.ERROR,
    )


def _header(headers: Mapping[str, str], name: str, read: Callable[[str], _T], wanted: str) -> _T | None:
    text = headers.get(HEADER + name)
    if text is None:
        return None
    try:
        return read(text.strip())
    except (ValueError, KeyError, InvalidOperation):
        raise invalid_parameter(HEADER + name, f"The header {HEADER}{name} must be {wanted}.") from None


def _choice(headers: Mapping[str, str], name: str, kind: type[_E]) -> _E | None:
    return _header(headers, name, lambda text: kind(text.lower()), f"one of {', '.join(kind)}")


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 < seconds <= MAX_TIMEOUT:
        raise ValueError
    return seconds


def _micro_usd(text: str) -> int:
    usd = Decimal(text)
    if not Decimal("0.000001") <= usd <= MAX_USD:
        raise ValueError
    return int(usd * 1_000_000)


def _truth(text: str) -> bool:
    return {"true": True, "1": True, "false": False, "0": False}[text.lower()]
