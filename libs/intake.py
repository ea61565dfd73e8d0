"""Bounds on what a server takes in: bytes of requests being served, and answers to unknown callers.

Both doors of a process, gRPC and HTTP, share one `BytesInFlight` and one `UnknownCallers`, so that the bounds hold
for the process and not for each door.
"""

from __future__ import annotations

from libs.clock import Clock
from libs.errors import PointsmanError, ResourceExhausted

#: Seconds after which a caller that met a bound may try again.
RETRY_AFTER = 1.0
#: Bytes that requests being served may hold, as they came, of all callers and of one: where callers are services of
#: the fleet, whose batches become a few times as large.
MOST_BYTES = 64 * 1024 * 1024
MOST_BYTES_OF_ONE = 32 * 1024 * 1024
#: The bytes that a request counts beside its own, however small it is: its task, its spans, its connection to a
#: provider.
CALL_BYTES = 4 * 1024


class BytesInFlight:
    """Bounds the bytes of the requests that are being served, of all callers and of each one.

    A request of a size is taken in before it is decoded and given back when its answer has been sent. Nobody waits:
    a request beyond a bound is refused at once, and so costs the others nothing.
    """

    __slots__ = ("_held", "_most", "_most_of_one", "_total")

    def __init__(self, most: int = MOST_BYTES, most_of_one: int = MOST_BYTES_OF_ONE) -> None:
        """`most` is the bound in bytes of all callers; `most_of_one`: of one caller. Raises ValueError unless 0 < one
        <= all."""
        if not 0 < most_of_one <= most:
            raise ValueError("the bound of one caller must be above 0 and at most the bound of all")
        self._most = most
        self._most_of_one = most_of_one
        self._total = 0
        self._held: dict[str, int] = {}

    @property
    def total(self) -> int:
        """Returns the bytes held now, of all callers."""
        return self._total

    def take(self, caller: str, size: int) -> None:
        """Counts `size` bytes of a caller's request. Raises ResourceExhausted where they exceed a bound; nothing is
        counted then."""
        held = self._held.get(caller, 0) + size
        if held > self._most_of_one or self._total + size > self._most:
            whose = "this caller's" if held > self._most_of_one else "all callers'"
            raise ResourceExhausted(
                f"{whose.capitalize()} requests being served hold as many bytes as may be held at once",
                reason="BYTES_IN_FLIGHT",
                retry_after=RETRY_AFTER,
            )
        self._held[caller] = held
        self._total += size

    def give_back(self, caller: str, size: int) -> None:
        """Forgets `size` bytes that `take` has counted for the caller."""
        held = self._held[caller] - size
        if held:
            self._held[caller] = held
        else:
            del self._held[caller]
        self._total -= size


class UnknownCallers:
    """Bounds the rate of answers to unknown callers.

    A token bucket: `burst` at once, `rate` a second in the long run. Beyond it they get RESOURCE_EXHAUSTED, which is
    neither logged nor traced. Callers with a known key never pass here.
    """

    __slots__ = ("_burst", "_clock", "_filled", "_rate", "_tokens")

    def __init__(self, clock: Clock, rate: float = 50.0, burst: float = 100.0) -> None:
        """`rate` is in answers a second. Raises ValueError unless both are above 0."""
        if rate <= 0 or burst <= 0:
            raise ValueError("rate and burst must be above 0")
        self._clock = clock
        self._rate = rate
        self._burst = burst
        self._tokens = burst
        self._filled = clock.monotonic()

    def answer(self, refusal: PointsmanError) -> PointsmanError:
        """Returns the error to answer with: `refusal` itself, or ResourceExhausted where too many were refused."""
        now = self._clock.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._rate)
        self._filled = now
        if self._tokens >= 1:
            self._tokens -= 1
            return refusal
        return ResourceExhausted(
            "Too many calls without a known key", reason="UNKNOWN_CALLERS", retry_after=RETRY_AFTER
        )
