"""Waits that a provider asks for: in headers and bodies, in all the notations seen in the wild.

Absolute instants are measured against the answer's own `date` header, so no clock is needed and the two machines'
clocks need not agree; without that header they say nothing. Sources: RFC 9110 section 10.2.3 (Retry-After),
google.rpc.RetryInfo, and the vendors' rate-limit pages.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime, time, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from zoneinfo import ZoneInfo

from services.router.providers.wires.fields import Undecodable, as_dict, as_list, as_number, as_str, decode

#: A day. A provider that asks for longer is not remembered for longer: the breaker and the operator take over.
MAX_WAIT_SECONDS = 86_400.0
#: Longer than any date or duration is written.
_MAX_TEXT = 64
#: Characters of an error that is text inside another; as much as is read of any.
_MAX_NESTED = 64 * 1024

_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
#: No more digits than a number of seconds can mean, so that a run of them is not tried from each of its own.
_NUMBER = r"\d{1,15}(?:\.\d{1,15})?"
_PART = re.compile(rf"({_NUMBER}) ?(ms|milli|s|m|h|d)")
_DURATION = re.compile(rf"(?:{_NUMBER}(?:ms|s|m|h|d))+", re.ASCII)
_AMOUNT = rf"{_NUMBER} ?(?:milliseconds?|ms|seconds?|secs?|minutes?|mins?|hours?|hrs?|days?|[smhd])\b"
_HINT = re.compile(
    r"(?:(?:try(?:ing)?(?: your request)? again|retry(?:ing)?|resets?|available|replenished)(?: again| your request)?"
    r"(?: in| after)|wait(?: for)?)(?: about| approximately| at least)? ~? ?"
    rf"((?:{_AMOUNT},? ?(?:and )?|{_NUMBER}[hmd](?=\d))+)",
    re.IGNORECASE | re.ASCII,
)
#: As .NET writes a span of time: days, if any, then hours, minutes and seconds.
_SPAN = re.compile(
    r"(?:again|retry|resets?|available|replenished) (?:in|after) (?:(\d{1,4})\.)?(\d{1,2}):(\d{2}):(\d{2})",
    re.ASCII,
)
_BODY_SECONDS = ("retry_after", "retry_after_seconds", "retryAfter", "retryAfterSeconds", "estimated_time")
_BODY_MILLISECONDS = ("retry_after_ms", "retryAfterMs")


def bounded(seconds: float) -> float:
    """Returns seconds bounded to 0 to MAX_WAIT_SECONDS."""
    return min(max(seconds, 0.0), MAX_WAIT_SECONDS)


def duration(text: str) -> float | None:
    """Returns the seconds of "1s", "6m0s", "120ms", "1h2m3.5s" or a bare number of seconds; None for anything
    else."""
    text = text[:_MAX_TEXT].strip().lower()
    number = as_number(text)
    if number is not None:
        return number
    if not _DURATION.fullmatch(text):
        return None
    return sum(float(amount) * _UNIT_SECONDS[unit] for amount, unit in _PART.findall(text))


def answered_at(headers: Mapping[str, str]) -> float | None:
    """Returns the instant of the answer by the provider's own clock, seconds since the epoch; None: not stated."""
    return _http_date(headers.get("date", ""))


def reset_in(text: str, now: float | None) -> float | None:
    """Returns the seconds until a reset written as a duration, epoch seconds or milliseconds, or RFC 3339."""
    seconds = duration(text)
    if seconds is None:
        try:
            moment = datetime.fromisoformat(text[:_MAX_TEXT].strip())
        except ValueError:
            return None
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    elif seconds < 1e9:
        return bounded(seconds)
    elif seconds > 1e11:
        seconds /= 1000.0
    return None if now is None else bounded(seconds - now)


def header_wait(headers: Mapping[str, str]) -> float | None:
    """Returns the seconds asked for by `retry-after-ms`, else by `retry-after` (seconds or an HTTP date)."""
    for name in ("retry-after-ms", "x-ms-retry-after-ms"):
        milliseconds = as_number(headers.get(name))
        if milliseconds is not None and milliseconds >= 0:
            return bounded(milliseconds / 1000.0)
    text = headers.get("retry-after", "")
    seconds = duration(text) if text else None
    if seconds is not None:
        return bounded(seconds) if seconds >= 0 else None
    until, now = _http_date(text), answered_at(headers)
    return None if until is None or now is None else bounded(until - now)


def body_wait(data: Any, words: str) -> float | None:
    """Returns the seconds asked for in a body: google.rpc.RetryInfo, a named field, or words ("try again in 7.66s").
    `words`: all of the body's messages in lower case."""
    places = list(_places(data))
    for place in places:
        for detail in as_list(place.get("details"))[:16]:
            delay = as_dict(detail).get("retryDelay")
            if delay is None:
                continue
            seconds = (
                duration(as_str(delay))
                if isinstance(delay, str)
                else as_number(as_dict(delay).get("seconds"))
            )
            if seconds is not None and seconds >= 0:
                return bounded(seconds)
    for place in places:
        for names, unit in ((_BODY_SECONDS, 1.0), (_BODY_MILLISECONDS, 0.001)):
            for name in names:
                number = as_number(place.get(name))
                if number is not None and number >= 0:
                    return bounded(number * unit)
    span = _SPAN.search(words)
    if span:
        days, hours, minutes, seconds = (float(part or 0) for part in span.groups())
        return bounded(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    found = _HINT.search(words)
    if not found:
        return None
    parts = _PART.findall(found.group(1).lower())
    return bounded(sum(float(n) * _UNIT_SECONDS["ms" if unit == "milli" else unit] for n, unit in parts))


def is_days_quota(data: Any) -> bool:
    """Returns True if a body of Google's says that a day's quota is spent: by the id of the quota, whatever wait it
    states, which is a minute's at most."""
    for place in _places(data):
        for detail in as_list(place.get("details"))[:16]:
            violations = as_list(as_dict(detail).get("violations"))[:16]
            ids = [as_dict(violation).get("quotaId") for violation in violations]
            ids.append(as_dict(as_dict(detail).get("metadata")).get("quota_limit"))
            if any("perday" in as_str(quota)[:200].lower() for quota in ids):
                return True
    return False


def days_end(now: float) -> float:
    """Returns the seconds until Google's day ends: at midnight in California, as its pages on rate limits say
    (https://ai.google.dev/gemini-api/docs/rate-limits). `now`: seconds since the epoch."""
    zone = ZoneInfo("America/Los_Angeles")
    tomorrow = datetime.fromtimestamp(now, zone).date() + timedelta(days=1)
    return bounded(datetime.combine(tomorrow, time(), zone).timestamp() - now)


def _places(data: Any, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """Yields every object of a body that is about the error, the outermost last: an error wrapped by another server
    (an array around it, `metadata.raw` as JSON in a string) says more than the wrapper."""
    if depth > 6:
        return
    if isinstance(data, str):
        # Only a message that is JSON itself.
        if len(data) <= _MAX_NESTED and data.lstrip().startswith(("{", "[")):
            with suppress(Undecodable):
                yield from _places(decode(data), depth + 1)
    elif isinstance(data, list):
        for item in data[:8]:
            yield from _places(item, depth + 1)
    elif isinstance(data, dict):
        for name in ("error", "errors", "metadata", "raw", "message", "innererror"):
            yield from _places(data.get(name), depth + 1)
        yield data


def _http_date(text: str) -> float | None:
    try:
        moment = parsedate_to_datetime(text[:_MAX_TEXT])
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
