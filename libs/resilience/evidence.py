"""The evidence that a circuit breaker gets, and the limits it judges by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from msgspec import Struct

from libs.types import PROVIDER_FAULTS, ErrorClass


@dataclass(frozen=True, slots=True)
class BreakerSettings:
    """Times in seconds, rates 0 to 1. An outage of 60 s costs three calls and two probes, whatever the traffic."""

    window_seconds: float = 10.0
    buckets: int = 10
    #: Calls in the window below which rates mean nothing; and the most failures in a row that may be bad luck.
    minimum_calls: int = 10
    failure_rate: float = 0.5
    slow_rate: float = 0.9
    #: Failures in a row that open the circuit of a target that otherwise hardly fails.
    consecutive_failures: int = 3
    #: A success is slow above `slow_seconds + slow_seconds_per_token * output_tokens`.
    slow_seconds: float = 20.0
    slow_seconds_per_token: float = 0.25
    #: The n-th opening in a row lasts `open_seconds * open_factor ** (n - 1)`, at most `open_cap`, and up to
    #: `jitter` of that longer. Trials are due 12, 36, 60, 84 … s after the first failure.
    open_seconds: float = 12.0
    open_factor: float = 2.0
    open_cap: float = 24.0
    jitter: float = 0.1
    #: No `Retry-After` is believed beyond this.
    max_cooldown: float = 3600.0
    #: No state from elsewhere that is open longer than this is believed: its clock is wrong.
    longest_open: float = 86_400.0
    half_open_permits: int = 1
    half_open_successes: int = 1
    permit_ttl: float = 30.0
    #: After recovery the share of traffic grows from `ramp_floor` to 1 over `ramp_seconds`.
    ramp_seconds: float = 10.0
    ramp_floor: float = 0.1
    #: Closed for this long, a circuit's past openings are forgotten.
    forgive_seconds: float = 60.0

    def __post_init__(self) -> None:
        rates = (self.failure_rate, self.slow_rate, self.ramp_floor)
        counts = (
            self.minimum_calls,
            self.consecutive_failures,
            self.half_open_permits,
            self.half_open_successes,
        )
        times = (
            self.window_seconds,
            self.open_seconds,
            self.max_cooldown,
            self.permit_ttl,
            self.ramp_seconds,
            self.slow_seconds,
        )
        if not all(0 < r <= 1 for r in rates):
            raise ValueError("failure_rate, slow_rate and ramp_floor must be in (0, 1]")
        if min(counts) < 1 or self.buckets < 1:
            raise ValueError("counts must be >= 1")
        if min(times) <= 0 or self.slow_seconds_per_token < 0 or self.jitter < 0:
            raise ValueError("times must be > 0; slow_seconds_per_token and jitter >= 0")
        if self.open_cap < self.open_seconds or self.open_factor < 1:
            raise ValueError("open_cap must be >= open_seconds and open_factor >= 1")
        if self.longest_open < self.max_cooldown or self.forgive_seconds < self.ramp_seconds:
            raise ValueError("longest_open must be >= max_cooldown, forgive_seconds >= ramp_seconds")

    def is_slow(self, seconds: float, output_tokens: int) -> bool:
        """Returns True if a successful call took longer than its output explains."""
        return seconds > self.slow_seconds + self.slow_seconds_per_token * max(0, output_tokens)


class Evidence(Struct, frozen=True):
    """Calls to the target that ended. `slow` is a part of `successes`.

    `generation` is the circuit's when the calls began; None: unknown, which counts only while the circuit is closed.
    `retry_not_before` (epoch seconds) is the latest instant named by a Retry-After on a failure. `row` is the number
    of faults that came after the last success; None: not known, which is none where there are successes.
    """

    successes: int = 0
    failures: Mapping[ErrorClass, int] = {}
    slow: int = 0
    generation: int | None = None
    retry_not_before: float | None = None
    row: int | None = None

    @property
    def faults_in_row(self) -> int:
        """Returns the faults after the last success, as far as is known."""
        if not self.successes:
            return self.faults
        return 0 if self.row is None else min(self.row, self.faults)

    @property
    def faults(self) -> int:
        """Returns the failures that are the provider's doing."""
        if not self.failures:
            return 0
        return sum(n for c, n in self.failures.items() if c in PROVIDER_FAULTS)
