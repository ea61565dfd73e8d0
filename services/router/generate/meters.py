"""Metrics of provider attempts: their number by outcome, duration, tokens and cost."""

from __future__ import annotations

from libs.instruments import Count, Distribution
from libs.telemetry import Metrics
from libs.types import ErrorClass
from services.router.generate.attempt_end import AttemptEnd
from services.router.ledger.usage_record import Outcome


class Meters:
    """Counts ended attempts. Satisfies `AttemptObserver`. Label values come from the catalog and closed sets, so
    their number is bounded."""

    def __init__(self, metrics: Metrics) -> None:
        self._attempts = metrics.counter(
            "attempts", "Provider attempts that ended", ("provider", "model", "outcome", "error_class")
        )
        self._duration = metrics.histogram(
            "attempt_duration_seconds", "Duration of provider attempts", ("provider", "model")
        )
        self._tokens = metrics.counter("tokens", "Tokens used", ("provider", "model", "direction"))
        self._cost = metrics.counter(
            "cost_micro_usd", "Cost in millionths of a US dollar", ("provider", "model")
        )
        # Looking children up by their labels costs more than counting.
        self._ends: dict[tuple[str, str, Outcome, ErrorClass | None], Count] = {}
        self._targets: dict[tuple[str, str], tuple[Distribution, Count, Count, Count]] = {}

    def attempt_ended(self, end: AttemptEnd) -> None:
        record = end.record
        key = (record.provider, record.model, record.outcome, record.error_class)
        ends = self._ends.get(key)
        if ends is None:
            ends = self._ends[key] = self._attempts.labels(
                record.provider, record.model, record.outcome, record.error_class or ""
            )
        ends.value += 1
        target = self._targets.get((record.provider, record.model))
        if target is None:
            names = (record.provider, record.model)
            target = self._targets[names] = (
                self._duration.labels(*names),
                self._tokens.labels(*names, "input"),
                self._tokens.labels(*names, "output"),
                self._cost.labels(*names),
            )
        duration, inputs, outputs, cost = target
        duration.observe(record.latency)
        if record.usage is not None:
            inputs.value += record.usage.input_tokens
            outputs.value += record.usage.output_tokens
        cost.value += record.cost_micro_usd
