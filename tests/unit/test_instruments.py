"""Counters and histograms without locks, read as a scrape does."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as TheirHistogram

from libs.telemetry import Metrics

BOUNDS = (0.1, 1.0, 10.0)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    """As a scrape sees it."""
    return metrics.registry.get_sample_value(f"pointsman_{name}", labels)


def test_a_counter_adds_up_by_label_values() -> None:
    """Each set of label values has a number of its own; kept or looked up again, it is the same one."""
    metrics = Metrics()
    counter = metrics.counter("calls", "Calls", ("provider", "status"))
    kept = counter.labels("a", 200)
    kept.inc()
    kept.value += 2
    counter.labels("a", "200").inc(4)
    counter.labels("b", 500).inc()
    assert value(metrics, "calls_total", provider="a", status="200") == 7
    assert value(metrics, "calls_total", provider="b", status="500") == 1
    assert value(metrics, "calls_total", provider="c", status="200") is None


def test_without_labels_there_is_a_zero_from_the_start() -> None:
    """So that a rate can be taken over the first event."""
    metrics = Metrics()
    counter = metrics.counter("lost", "Lost")
    histogram = metrics.histogram("wait_seconds", "Wait", buckets=BOUNDS)
    assert value(metrics, "lost_total") == 0
    assert value(metrics, "wait_seconds_count") == 0
    counter.inc(3)
    histogram.observe(0.5)
    assert value(metrics, "lost_total") == 3
    assert value(metrics, "wait_seconds_sum") == 0.5


def test_a_histogram_counts_as_prometheus_clients_own() -> None:
    """Buckets are cumulative, a value on a bound belongs to it, beyond the last comes +Inf."""
    metrics = Metrics()
    ours = metrics.histogram("wait_seconds", "Wait", ("kind",), BOUNDS)
    registry = CollectorRegistry()
    theirs = TheirHistogram("pointsman_wait_seconds", "Wait", ["kind"], buckets=BOUNDS, registry=registry)
    for seconds in (0.0, 0.1, 0.11, 1.0, 9.99, 10.0, 11.0, 1e9):
        ours.labels("x").observe(seconds)
        theirs.labels("x").observe(seconds)
    created = b"_created"
    lines = [line for line in generate_latest(registry).splitlines() if created not in line]
    assert generate_latest(metrics.registry).splitlines() == lines


def test_a_missing_label_value_is_an_error() -> None:
    """Rather than a number that belongs nowhere."""
    counter = Metrics().counter("calls", "Calls", ("provider", "status"))
    with pytest.raises(ValueError, match="provider, status"):
        counter.labels("a")


def test_an_instrument_asked_for_twice_is_one() -> None:
    """Two parts of a service may count the same thing."""
    metrics = Metrics()
    metrics.counter("calls", "Calls").inc()
    metrics.counter("calls", "Calls").inc()
    assert value(metrics, "calls_total") == 2
