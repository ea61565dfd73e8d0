"""A failed call is attributed to the key, the endpoint, or neither."""

from __future__ import annotations

import pytest

from libs.catalog.model import Provider
from libs.catalog.routes import ProviderEndpoint, ProviderKey
from libs.types import ErrorClass, RoutePart
from services.router.routes.blame import (
    LIMITED,
    LONGEST_WAIT,
    REFUSED,
    UNREACHABLE,
    USED_UP,
    Blame,
    OutageRule,
    blame,
    rule_of,
)
from tests.support.routing import fail

KEYS = (ProviderKey("A"), ProviderKey("B"))
ENDPOINTS = (ProviderEndpoint("http://eu.test"), ProviderEndpoint("http://us.test"))


def provider(*, keys: bool = True, endpoints: bool = True) -> Provider:
    return Provider(
        "a",
        "openai_compatible",
        "http://eu.test",
        "A",
        keys=KEYS if keys else (),
        endpoints=ENDPOINTS if endpoints else (),
    )


@pytest.mark.parametrize(
    ("error_class", "status", "wait", "expected"),
    [
        (ErrorClass.AUTHENTICATION, 401, None, Blame(RoutePart.KEY, "")),
        (ErrorClass.AUTHENTICATION, 403, None, Blame(RoutePart.KEY, "m")),
        (ErrorClass.AUTHENTICATION, 400, None, Blame(RoutePart.KEY, "m")),
        (ErrorClass.QUOTA_EXHAUSTED, 402, None, Blame(RoutePart.KEY, "")),
        (ErrorClass.QUOTA_EXHAUSTED, 429, 3600.0, Blame(RoutePart.KEY, "m", 3600.0)),
        (ErrorClass.QUOTA_EXHAUSTED, 429, 1e9, Blame(RoutePart.KEY, "m", LONGEST_WAIT)),
        (ErrorClass.RATE_LIMITED, 429, 7.0, Blame(RoutePart.KEY, "m", 7.0)),
        (ErrorClass.RATE_LIMITED, 429, None, Blame(RoutePart.KEY, "m")),
        (ErrorClass.TRANSPORT, 0, None, Blame(RoutePart.ENDPOINT, "")),
        (ErrorClass.TIMEOUT, 0, None, Blame(RoutePart.ENDPOINT, "")),
        (ErrorClass.STALLED, 200, None, Blame(RoutePart.ENDPOINT, "")),
        (ErrorClass.OVERLOADED, 503, 9.0, Blame(RoutePart.ENDPOINT, "", 9.0)),
        (ErrorClass.SERVER_ERROR, 502, None, Blame(RoutePart.ENDPOINT, "")),
        (ErrorClass.SERVER_ERROR, 504, None, Blame(RoutePart.ENDPOINT, "")),
        (ErrorClass.SERVER_ERROR, 500, None, None),
        (ErrorClass.OVERLOADED, 529, None, None),
        (ErrorClass.MALFORMED, 200, None, None),
        (ErrorClass.MODEL_NOT_FOUND, 404, None, None),
        (ErrorClass.INVALID_REQUEST, 400, None, None),
        (ErrorClass.CONTENT_REFUSED, 400, None, None),
    ],
)
def test_who_is_to_blame(
    error_class: ErrorClass, status: int, wait: float | None, expected: Blame | None
) -> None:
    """By class and status; a refusal of a model alone leaves the key to the others."""
    failure = fail(error_class, status=status, retry_after=wait, retry_same=True)
    assert blame(failure, provider(), "m") == expected


def test_only_what_can_be_replaced_is_blamed() -> None:
    """With one key its refusal is the provider's as ever, with one endpoint its silence is; where the key is the only
    one, a rate is taken for its endpoint's."""
    one_key, one_endpoint = provider(keys=False), provider(endpoints=False)
    assert blame(fail(ErrorClass.AUTHENTICATION, status=401), one_key, "m") is None
    assert blame(fail(ErrorClass.QUOTA_EXHAUSTED, status=402), one_key, "m") is None
    assert blame(fail(ErrorClass.TIMEOUT), one_endpoint, "m") is None
    limited = fail(ErrorClass.RATE_LIMITED, status=429, retry_same=True)
    assert blame(limited, one_key, "m") == Blame(RoutePart.ENDPOINT, "m")


def test_what_says_nothing_of_the_route_is_not_held_against_it() -> None:
    """A request larger than the rate, words that may be the caller's, a caller in a hurry."""
    assert blame(fail(ErrorClass.RATE_LIMITED, status=429), provider(), "m") is None
    assert blame(fail(ErrorClass.AUTHENTICATION, status=403, explicit=False), provider(), "m") is None
    hurried = fail(ErrorClass.TIMEOUT)
    hurried.at_fault = False
    assert blame(hurried, provider(), "m") is None


@pytest.mark.parametrize(
    ("part", "error_class", "rule"),
    [
        (RoutePart.KEY, ErrorClass.AUTHENTICATION, REFUSED),
        (RoutePart.KEY, ErrorClass.QUOTA_EXHAUSTED, USED_UP),
        (RoutePart.KEY, ErrorClass.RATE_LIMITED, LIMITED),
        (RoutePart.ENDPOINT, ErrorClass.RATE_LIMITED, LIMITED),
        (RoutePart.ENDPOINT, ErrorClass.TRANSPORT, UNREACHABLE),
        (RoutePart.ENDPOINT, ErrorClass.OVERLOADED, UNREACHABLE),
    ],
)
def test_each_outage_has_its_rule(part: RoutePart, error_class: ErrorClass, rule: OutageRule) -> None:
    """By what failed and how; every router reads the same from what it is told."""
    assert rule_of(part, error_class) is rule
