"""Metrics of provider attempts: their number by outcome, duration, tokens and cost."""

from __future__ import annotations

from libs.instruments import Count, Distribution
from libs.telemetry import Metrics
from libs.types import ErrorClass
from services.router.generate.attempt_end import AttemptEnd
from services.router.ledger.usage_record import Outcome

#: The metrics of one kind of end: ends, durations, input tokens, output tokens, cost.
_Children = tuple[Count, Distribution, Count, Count, Count]


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
        self._switches = metrics.counter(
            "route_switches",
            "Attempts by another key or endpoint of the provider at which the attempt before failed",
            ("provider", "part"),
        )
        # Looking children up by their labels costs more than counting.
        self._known: dict[tuple[str, str, Outcome, ErrorClass | None], _Children] = {}

    def attempt_ended(self, end: AttemptEnd) -> None:
        record = end.record
        key = (record.provider, record.model, record.outcome, record.error_class)
        children = self._known.get(key)
        if children is None:
            names = (record.provider, record.model)
            children = self._known[key] = (
                self._attempts.labels(*names, record.outcome, record.error_class or ""),
                self._duration.labels(*names),
                self._tokens.labels(*names, "input"),
                self._tokens.labels(*names, "output"),
                self._cost.labels(*names),
            )
        ends, duration, inputs, outputs, cost = children
        ends.value += 1
        duration.observe(record.latency)
        if record.usage is not None:
            inputs.value += record.usage.input_tokens
            outputs.value += record.usage.output_tokens
        cost.value += record.cost_micro_usd
        if record.switched is not None:
            self._switches.labels(record.provider, record.switched).inc()
