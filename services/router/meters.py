"""The router's own metrics: what was attempted where, how it ended, what it used and what it cost."""

from __future__ import annotations

from libs.instruments import Count, Distribution
from libs.telemetry import Metrics
from libs.types import ErrorClass, Priority
from services.router.domain.events import Outcome, UsageRecord


class Meters:
    """Counts ended attempts. Label values come from the catalog and closed sets, so their number is bounded."""

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

    def ended(self, record: UsageRecord) -> None:
        """One attempt."""
        key = (record.provider, record.model, record.outcome, record.error_class)
        end = self._ends.get(key)
        if end is None:
            end = self._ends[key] = self._attempts.labels(
                record.provider, record.model, record.outcome, record.error_class or ""
            )
        end.value += 1
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


class QueueMeters:
    """What the queue shows of itself, by class."""

    def __init__(self, metrics: Metrics) -> None:
        labels = ("class",)
        self._waiting = metrics.gauge("queue_waiting", "Requests that wait for capacity", labels)
        self._position = metrics.histogram(
            "queue_position",
            "How many of its class were ahead of a request that joined the queue",
            labels,
            buckets=(0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000),
        )
        self._expected = metrics.histogram(
            "queue_expected_seconds", "Wait that a request was expected to have as it joined", labels
        )
        self._waited = metrics.histogram(
            "queue_wait_seconds",
            "Wait of a request by how it ended: admitted, refused, expired, left",
            (*labels, "outcome"),
        )
        self._refused = metrics.counter(
            "queue_refused", "Requests that could not wait: full, hopeless, expired", (*labels, "why")
        )

    def joined(self, priority: Priority, position: float, expected: float) -> None:
        """A request begins to wait behind `position` of its class, for `expected` seconds."""
        self._waiting.labels(priority).inc()
        self._position.labels(priority).observe(position)
        self._expected.labels(priority).observe(expected)

    def left(self, priority: Priority, outcome: str, seconds: float) -> None:
        """It waits no more."""
        self._waiting.labels(priority).dec()
        self._waited.labels(priority, outcome).observe(seconds)

    def refused(self, priority: Priority, why: str) -> None:
        """It could not wait."""
        self._refused.labels(priority, why).inc()
