"""Random attempts of random requests, around the end of daylight saving time in Berlin and of a month."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime

from libs.types import ErrorClass, Usage, UsageAccuracy
from services.analytics.ledger.attempt import Attempt, Outcome
from tests.support.ledger import MemoryLedger, an_attempt

BEGIN = datetime(2026, 10, 24, 3, tzinfo=UTC)
DAYS = 9


class History:
    """Random attempts of random requests, sent late, again, out of order and better than before."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.ledger = MemoryLedger()
        self._made: list[Attempt] = []

    def batch(self, size: int) -> list[Attempt]:
        """New records and old ones again, in any order."""
        records = [self._attempt() for _ in range(size)]
        if self._made:
            records += [self._again(self.rng.choice(self._made)) for _ in range(size // 2)]
        self.rng.shuffle(records)
        self._made += records
        return records

    def _attempt(self) -> Attempt:
        rng = self.rng
        # One in four has an id that a caller gives to all of its requests.
        request = rng.choice([rng.randrange(400), rng.randrange(400), rng.randrange(400), 0])
        of_request = random.Random(request)
        started = BEGIN.timestamp() + of_request.random() * DAYS * 86_400 + rng.random() * 900
        return an_attempt(
            f"a{rng.randrange(10**9)}",
            request_id=f"r{request}",
            attempt_number=rng.randint(1, 3),
            tenant=of_request.choice(["acme", "zoo"]),
            campaign=of_request.choice(["", "summer"]),
            content_type=of_request.choice(["", "seo"]),
            provider=rng.choice(["openai", "anthropic"]),
            model=rng.choice(["small", "large"]),
            started=round(started, 6),
            streamed=rng.random() < 0.5,
            hedge=rng.random() < 0.1,
            **self._end(),
        )

    def _end(self) -> dict[str, object]:
        rng = self.rng
        outcome = rng.choice(list(Outcome))
        return {
            "outcome": outcome,
            "error_class": rng.choice([None, *ErrorClass]) if outcome is Outcome.FAILURE else None,
            "latency": rng.choice([None, 0.0, round(rng.random() * 10, 6)]),
            "time_to_first_token": rng.choice([None, round(rng.random(), 6)]),
            "usage": Usage(*rng.choices(range(1000), k=5), rng.choice(list(UsageAccuracy))),  # type: ignore[call-arg,arg-type]
            "cost_micro_usd": rng.randrange(10**6),
            "cache_saving_micro_usd": rng.randrange(100),
        }

    def _again(self, attempt: Attempt) -> Attempt:
        return attempt if self.rng.random() < 0.4 else replace(attempt, **self._end())  # type: ignore[arg-type]
