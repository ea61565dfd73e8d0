"""Bounds of the records that the ledger keeps (those of the proto), and their checks."""

from __future__ import annotations

from collections.abc import Mapping

from libs.bounds import MAX_ID

MAX_TRACE_ID = 32
MAX_PRICE_VERSION = 256
#: Seconds: 7 days. No provider call lives that long; a longer one is a unit gone wrong.
MAX_DURATION = 7 * 86_400.0
#: A million dollars for one attempt. Nine million such attempts still fit a signed 64-bit sum.
MAX_COST_MICRO_USD = 10**12
MAX_LABELS = 32
MAX_LABEL_VALUE = 512
#: 2020-01-01T00:00:00Z. Earlier than any attempt, later than the zero of a clock never set.
MIN_STARTED = 1_577_836_800.0
#: Seconds that a reporter's clock may be ahead of ours: losing usage is worse than dating it badly.
MAX_AHEAD = 86_400.0


class UnusableRecord(ValueError):
    """A record that can never be kept; the message gives the reason."""


def check_required(name: str, value: str) -> None:
    """Raises UnusableRecord where a name is empty or too long."""
    if not value:
        raise UnusableRecord(f"{name} must not be empty")
    check_text(name, value, MAX_ID)


def check_text(name: str, value: str, most: int) -> None:
    """Raises UnusableRecord where a text is too long or holds what PostgreSQL cannot keep."""
    if len(value) > most:
        raise UnusableRecord(f"{name} must have at most {most} characters")
    if "\0" in value:
        raise UnusableRecord(f"{name} must not hold a NUL character")


def check_entries(name: str, count: int, most: int) -> None:
    """Raises UnusableRecord where there are too many of something; to be called before anything is made of them."""
    if count > most:
        raise UnusableRecord(f"{name} must have at most {most} entries")


def check_labels(labels: Mapping[str, str]) -> None:
    """Raises UnusableRecord for the first label out of its bounds."""
    check_entries("labels", len(labels), MAX_LABELS)
    for key, value in labels.items():
        check_required("labels key", key)
        check_text("labels value", value, MAX_LABEL_VALUE)


def check_between(name: str, value: float, least: float, most: float) -> None:
    """Raises UnusableRecord where a number is out of its bounds."""
    # Written so that NaN fails as well.
    if not least <= value <= most:
        raise UnusableRecord(f"{name} must be from {least:g} to {most:g}")


def check_started(started: float) -> None:
    """Raises UnusableRecord for an instant (epoch seconds) of a clock that was never set."""
    if not started >= MIN_STARTED:
        raise UnusableRecord("started must be set and not before 2020-01-01")


def check_recent(started: float, now: float, retention: float | None) -> None:
    """Raises UnusableRecord where a record began more than a day after `now` (epoch seconds), or longer before than
    `retention` (seconds, None: no time is too long): rows of that time are dropped, so nobody could tell whether it
    is a duplicate."""
    if started > now + MAX_AHEAD:
        raise UnusableRecord("started is more than a day in the future")
    if retention is not None and started < now - retention:
        raise UnusableRecord("started is longer ago than the ledger keeps records")
