"""The limits a virtual provider enforces: token buckets that refill continuously."""

from __future__ import annotations

from dataclasses import dataclass

from dev.simulator.behaviour import Limits
from dev.simulator.wires.base import Quota


class Bucket:
    """A token bucket of `limit` units per `window` seconds, at most `burst` of them at once. Times are monotonic
    seconds."""

    __slots__ = ("capacity", "level", "rate", "updated")

    def __init__(self, limit: int, window: float, burst: float, now: float) -> None:
        self.capacity = max(1.0, limit * burst)
        self.rate = limit / window
        self.level = self.capacity
        self.updated = now

    def wait(self, amount: float, now: float) -> float:
        """Returns the seconds until `amount` fits; 0: now. More than the capacity never fits: the time to fill twice
        over."""
        self.level = min(self.capacity, self.level + (now - self.updated) * self.rate)
        self.updated = now
        if amount > self.capacity:
            return 2 * self.capacity / self.rate
        # A hair's breadth below is float rounding, not a lack.
        return 0.0 if amount <= self.level + 1e-9 else (amount - self.level) / self.rate

    def take(self, amount: float) -> None:
        """Takes an amount, after a `wait` of 0."""
        self.level -= amount

    @property
    def reset(self) -> float:
        """Returns the seconds until full."""
        return (self.capacity - self.level) / self.rate


@dataclass(frozen=True, slots=True)
class Refusal:
    """A limit that had no room, and for how long."""

    what: str
    limit: int
    used: int
    requested: int
    wait: float


class Limiter:
    """All limits of one virtual provider; a refusal takes from none."""

    def __init__(self, limits: Limits, now: float) -> None:
        window, burst = limits.window_seconds, limits.burst

        def bucket(limit: int | None) -> Bucket | None:
            return None if limit is None else Bucket(limit, window, burst, now)

        self._limits = limits
        self._buckets = (
            ("requests per min (RPM)", limits.rpm, bucket(limits.rpm)),
            ("tokens per min (TPM)", limits.tpm, bucket(limits.tpm)),
            ("input tokens per min (ITPM)", limits.input_tpm, bucket(limits.input_tpm)),
            ("output tokens per min (OTPM)", limits.output_tpm, bucket(limits.output_tpm)),
        )
        self.active = (
            any(bucket is not None for _, _, bucket in self._buckets) or limits.concurrency is not None
        )

    def admit(self, input_tokens: int, output_tokens: int, running: int, now: float) -> Refusal | None:
        """Takes one request of that size, or returns the refusal. `running` counts the others in flight."""
        most = self._limits.concurrency
        if most is not None and running >= most:
            return Refusal("concurrent requests", most, running, 1, 1.0)
        amounts = (1, input_tokens + output_tokens, input_tokens, output_tokens)
        worst: Refusal | None = None
        for amount, (what, limit, bucket) in zip(amounts, self._buckets, strict=True):
            if bucket is None or limit is None:
                continue
            wait = bucket.wait(amount, now)
            if wait > 0 and (worst is None or wait > worst.wait):
                used = min(limit, max(0, round(limit - bucket.level)))
                worst = Refusal(what, limit, used, amount, wait)
        if worst is None:
            for amount, (_, _, bucket) in zip(amounts, self._buckets, strict=True):
                if bucket is not None:
                    bucket.take(amount)
        return worst

    def quota(self) -> Quota:
        """Returns the limits' state for the headers; generous figures where nothing is limited."""
        spare = Quota()
        (_, rpm, requests), (_, tpm, tokens), (_, itpm, inputs), _ = self._buckets
        counted, limit = (tokens, tpm) if tokens is not None else (inputs, itpm)
        return Quota(
            rpm or spare.request_limit,
            spare.requests_left if requests is None else int(requests.level),
            spare.requests_reset if requests is None else requests.reset,
            limit or spare.token_limit,
            spare.tokens_left if counted is None else int(counted.level),
            spare.tokens_reset if counted is None else counted.reset,
        )
