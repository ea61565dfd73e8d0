"""Metrics of the queue."""

from __future__ import annotations

from libs.telemetry import Metrics
from libs.types import Priority


class QueueMeters:
    """Metrics of the queue, by class."""

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
        """Counts a request that begins to wait behind `position` of its class, for `expected` seconds."""
        self._waiting.labels(priority).inc()
        self._position.labels(priority).observe(position)
        self._expected.labels(priority).observe(expected)

    def left(self, priority: Priority, outcome: str, seconds: float) -> None:
        """Counts one that waits no more, after `seconds`."""
        self._waiting.labels(priority).dec()
        self._waited.labels(priority, outcome).observe(seconds)

    def refused(self, priority: Priority, why: str) -> None:
        """Counts one that could not wait."""
        self._refused.labels(priority, why).inc()
