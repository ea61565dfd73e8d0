"""Rate-limit headers of answers that were given."""

from __future__ import annotations

from libs.answer import LimitState
from libs.limits import Period, Unit
from services.router.api.openai.limit_headers import limit_headers


def test_the_tightest_limit_of_each_kind_is_told() -> None:
    """Of a minute's and a day's requests the one with the smaller share left; all units of tokens are tokens. What
    has no known end has no reset."""
    limits = (
        LimitState(Unit.REQUESTS, Period.MINUTE, 60, 59, 1.0),
        LimitState(Unit.REQUESTS, Period.DAY, 1000, 12, None),
        LimitState(Unit.INPUT_TOKENS, Period.MINUTE, 10_000, 9_000, 6.0),
        LimitState(Unit.TOTAL_TOKENS, Period.MINUTE, 40_000, 20_000, 29.9999),
    )
    assert limit_headers(limits) == {
        "x-ratelimit-limit-requests": "1000",
        "x-ratelimit-remaining-requests": "12",
        "x-ratelimit-limit-tokens": "40000",
        "x-ratelimit-remaining-tokens": "20000",
        "x-ratelimit-reset-tokens": "30000ms",
    }
    assert limit_headers(()) == {}
