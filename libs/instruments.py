"""Counters and histograms as Prometheus knows them, at the price of an addition.

prometheus_client's own take a lock and half a dozen calls to count one, many times in every Generate. A process here
counts in one thread, its event loop's, and so needs no lock; what a scrape gets, in its own thread, is written by
prometheus_client from the numbers as they are then.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import Generic, TypeVar

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

Child = TypeVar("Child")


class _Labelled(Collector, Generic[Child]):
    """A child for each set of label values; without labels one from the start."""

    def __init__(
        self, name: str, description: str, labels: Sequence[str], child: Callable[[], Child]
    ) -> None:
        self._name, self._description, self._labels = name, description, tuple(labels)
        self._child = child
        self._children: dict[tuple[str, ...], Child] = {}
        if not self._labels:
            self.labels()

    def labels(self, *values: object) -> Child:
        """Returns the child for these values, to be kept by code that counts often. Raises ValueError for another
        number of values."""
        if len(values) != len(self._labels):
            wanted = f"{len(self._labels)} labels are wanted ({', '.join(self._labels)})"
            raise ValueError(f"{wanted}, not {len(values)}")
        key = tuple(map(str, values))
        child = self._children.get(key)
        if child is None:
            child = self._children[key] = self._child()
        return child


class Count:
    """One number of a counter. Code for which even a call is too dear adds to `value`."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0.0

    def inc(self, amount: float = 1) -> None:
        """Adds `amount`, which is not negative."""
        self.value += amount


class Counter(_Labelled[Count]):
    """A count that only grows, for each set of label values."""

    def __init__(self, name: str, description: str, labels: Sequence[str] = ()) -> None:
        super().__init__(name, description, labels, Count)

    def inc(self, amount: float = 1) -> None:
        """Adds to a counter without labels."""
        self.labels().inc(amount)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """Yields the metric as the registry wants it."""
        family = CounterMetricFamily(self._name, self._description, labels=self._labels)
        for values, child in list(self._children.items()):
            family.add_metric(values, child.value)
        yield family


class Distribution:
    """One distribution of a histogram: how many values in each bucket, and their sum."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Takes one value in: it belongs into the first bucket whose bound is not below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class Histogram(_Labelled[Distribution]):
    """A distribution for each set of label values."""

    def __init__(self, name: str, description: str, labels: Sequence[str], buckets: Sequence[float]) -> None:
        """`buckets`: their upper bounds, ascending; the last, without a bound, comes by itself."""
        self._bounds = tuple(buckets)
        super().__init__(name, description, labels, partial(Distribution, self._bounds))

    def observe(self, value: float) -> None:
        """Takes a value into a histogram without labels."""
        self.labels().observe(value)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """Yields the metric as the registry wants it."""
        family = HistogramMetricFamily(self._name, self._description, labels=self._labels)
        bounds = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        for values, child in list(self._children.items()):
            buckets = list(zip(bounds, accumulate(child.counts), strict=True))
            family.add_metric(values, buckets, child.sum)
        yield family
