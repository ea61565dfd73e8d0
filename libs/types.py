"""The vocabulary every service speaks: the domain side of `protos/pointsman/types/v1/types.proto`.

Money is an `int` of millionths of a US dollar (`micro_usd`) everywhere; tokens are `int`; durations are
`float` seconds; instants on the wire clock are `float` seconds since the Unix epoch.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class ErrorClass(StrEnum):
    """The closed set of ways in which a provider attempt can fail. The class alone decides what may happen next."""

    INVALID_REQUEST = "invalid_request"
    CONTENT_REFUSED = "content_refused"
    CONTEXT_TOO_LONG = "context_too_long"
    AUTHENTICATION = "authentication"
    QUOTA_EXHAUSTED = "quota_exhausted"
    RATE_LIMITED = "rate_limited"
    OVERLOADED = "overloaded"
    SERVER_ERROR = "server_error"
    TRANSPORT = "transport"
    TIMEOUT = "timeout"
    STALLED = "stalled"
    MALFORMED = "malformed"
    MODEL_NOT_FOUND = "model_not_found"
    CANCELLED = "cancelled"
    UNSUPPORTED_HERE = "unsupported_here"


#: Failures that say something about the provider's health. The rest is the caller's doing, or the account's.
PROVIDER_FAULTS: frozenset[ErrorClass] = frozenset(
    {
        ErrorClass.OVERLOADED,
        ErrorClass.SERVER_ERROR,
        ErrorClass.TRANSPORT,
        ErrorClass.TIMEOUT,
        ErrorClass.STALLED,
        ErrorClass.MALFORMED,
    }
)
#: Failures of our account at the provider: its key is refused, or its quota is spent.
ACCOUNT_FAULTS: frozenset[ErrorClass] = frozenset({ErrorClass.AUTHENTICATION, ErrorClass.QUOTA_EXHAUSTED})
#: The target answered: it is the request that it cannot serve.
OF_REQUEST: frozenset[ErrorClass] = frozenset(
    {
        ErrorClass.INVALID_REQUEST,
        ErrorClass.UNSUPPORTED_HERE,
        ErrorClass.CONTENT_REFUSED,
        ErrorClass.CONTEXT_TOO_LONG,
    }
)


class RoutePart(StrEnum):
    """The parts of a provider's route that can be replaced while the provider stays."""

    KEY = "key"
    ENDPOINT = "endpoint"


class FinishReason(StrEnum):
    """The reason why the model stopped."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    CONTENT_FILTER = "content_filter"
    OTHER = "other"


class UsageAccuracy(StrEnum):
    """The trust that a usage figure deserves, best first."""

    EXACT = "exact"
    ESTIMATED = "estimated"
    UNCERTAIN = "uncertain"


class Priority(StrEnum):
    """The caller's order of importance, highest first."""

    INTERACTIVE = "interactive"
    STANDARD = "standard"
    BULK = "bulk"
    BACKGROUND = "background"


class Usage(Struct, frozen=True):
    """Tokens used. `input_tokens` includes cached ones, `output_tokens` includes reasoning ones."""

    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0
    accuracy: UsageAccuracy = UsageAccuracy.EXACT

    def __add__(self, other: Usage) -> Usage:
        """Returns the sum, as accurate as its least accurate part."""
        order = list(UsageAccuracy)
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            max(self.accuracy, other.accuracy, key=order.index),
        )
