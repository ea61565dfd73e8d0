"""OpenAI's rate-limit headers of an answer: for requests and for tokens, the tightest of the tenant's limits."""

from __future__ import annotations

import math
from collections.abc import Iterable

from libs.answer import LimitState
from libs.limits import Unit


def limit_headers(limits: Iterable[LimitState]) -> dict[str, str]:
    """Returns `x-ratelimit-limit-*`, `-remaining-*` and, where it is known, `-reset-*`; empty where there are no
    limits."""
    headers: dict[str, str] = {}
    tightest: dict[str, LimitState] = {}
    for state in limits:
        what = "requests" if state.unit is Unit.REQUESTS else "tokens"
        other = tightest.get(what)
        if other is None or state.remaining * other.limit < other.remaining * state.limit:
            tightest[what] = state
    for what, state in tightest.items():
        headers[f"x-ratelimit-limit-{what}"] = str(state.limit)
        headers[f"x-ratelimit-remaining-{what}"] = str(state.remaining)
        if state.reset is not None:
            headers[f"x-ratelimit-reset-{what}"] = f"{math.ceil(state.reset * 1000)}ms"
    return headers
