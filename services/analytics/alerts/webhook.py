"""Webhooks as Standard Webhooks has them: what is sent, how it is signed, and when it is tried again
(https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any, Final

import msgspec
from yarl import URL

from libs.http.public_addresses import is_internal_literal
from services.analytics.alerts.sentence import sentence
from services.analytics.alerts.store import Announcement, Word

#: Seconds before each next try, as the specification proposes: five seconds to a day, three days in all.
TRIES: Final = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
#: The part of the wait that is added by chance, so that not all come at once.
JITTER: Final = 0.1
#: The longest Retry-After that is kept to, seconds.
MAX_RETRY_AFTER: Final = 86_400.0
#: Bytes of a secret, by the specification.
MIN_SECRET, MAX_SECRET = 24, 64
#: Secrets of one webhook.
MAX_SECRETS: Final = 4
_PREFIX: Final = "whsec_"
MAX_DESTINATIONS: Final = 16
SUCCESS: Final = range(200, 300)
GONE: Final = 410


@dataclass(frozen=True, slots=True)
class Destination:
    """One webhook of the operator. `secrets`: the bytes that it is signed with, several while one takes the place of
    another."""

    name: str
    url: str
    secrets: tuple[bytes, ...] = field(repr=False)


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    url: str
    secret: str


def read_destinations(text: str, allowed_hosts: Collection[str]) -> tuple[Destination, ...]:
    """Returns the webhooks of a setting: JSON, `{"name": {"url": "https://…", "secret": "whsec_…"}}`, or of several
    secrets with spaces between; empty: none.
    Raises ValueError with a sentence that repeats neither address nor secret."""
    if not text.strip():
        return ()
    try:
        entries = msgspec.json.decode(text, type=dict[str, _Entry])
    except (msgspec.DecodeError, UnicodeEncodeError):
        raise ValueError(
            'must be JSON like {"ops": {"url": "https://hooks.example.com/…", "secret": "whsec_…"}}'
        ) from None
    if len(entries) > MAX_DESTINATIONS:
        raise ValueError(f"must have at most {MAX_DESTINATIONS} webhooks")
    return tuple(
        Destination(_name(name), _url(name, entry.url, allowed_hosts), _secrets(name, entry.secret))
        for name, entry in entries.items()
    )


def _name(name: str) -> str:
    if not 0 < len(name) <= 64 or not name.isascii() or not name.isprintable():
        raise ValueError("each webhook's name must be 1 to 64 printable ASCII characters")
    return name


def _url(name: str, text: str, allowed_hosts: Collection[str]) -> str:
    try:
        url = URL(text)
        port = url.port
    except ValueError:
        raise ValueError(f"webhook {name!r}: its url is none") from None
    host = url.raw_host
    if not host or not port or url.user is not None or url.password is not None:
        raise ValueError(f"webhook {name!r}: its url must have a host, and no user")
    if host in allowed_hosts:
        if url.scheme not in ("http", "https"):
            raise ValueError(f"webhook {name!r}: its url must be https:// or http://")
        return text
    if url.scheme != "https":
        raise ValueError(f"webhook {name!r}: its url must be https://, unless its host is allowed by name")
    if is_internal_literal(host):
        raise ValueError(
            f"webhook {name!r}: its url leads to an internal address that is not allowed by name"
        )
    return text


def _secrets(name: str, text: str) -> tuple[bytes, ...]:
    found = text.split()
    if not 1 <= len(found) <= MAX_SECRETS:
        raise ValueError(f"webhook {name!r}: must have 1 to {MAX_SECRETS} secrets, with spaces between")
    return tuple(_secret(name, one) for one in found)


def _secret(name: str, text: str) -> bytes:
    fault = f"webhook {name!r}: its secret must be {_PREFIX} and base64 of {MIN_SECRET} to {MAX_SECRET} bytes"
    if not text.startswith(_PREFIX):
        raise ValueError(fault)
    try:
        secret = base64.b64decode(text.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(fault) from None
    if not MIN_SECRET <= len(secret) <= MAX_SECRET:
        raise ValueError(fault)
    return secret


def headers(secrets: Sequence[bytes], delivery_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Returns the headers of one try, with a signature by each secret. `timestamp`: epoch seconds of the try, which
    receivers compare with theirs."""
    signed = b"%s.%d.%s" % (delivery_id.encode(), timestamp, body)
    digests = [hmac.digest(secret, signed, hashlib.sha256) for secret in secrets]
    return {
        "content-type": "application/json",
        "webhook-id": delivery_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join([f"v1,{base64.b64encode(digest).decode()}" for digest in digests]),
    }


def body_of(announcement: Announcement) -> bytes:
    """Returns the JSON that is sent: type, timestamp and data, by the specification."""
    kept = announcement.kept
    alert = kept.alert
    data: dict[str, Any] = msgspec.to_builtins(alert)
    for name in ("episode", "ends"):
        del data[name]
    if announcement.word is Word.CLEARED and alert.cleared is None:
        # It was over with its window.
        data["cleared"] = alert.ends
    for name in ("as_of", "raised", "cleared"):
        data[name] = _instant(data[name])
    data |= {
        "alert_id": alert.alert_id,
        "turn": kept.turn,
        "sentence": sentence(alert),
        "subject": dict(alert.subject),
    }
    content: Mapping[str, object] = {
        "type": f"alert.{announcement.word.value}",
        "timestamp": data["as_of"],
        "data": data,
    }
    return msgspec.json.encode(content)


def _instant(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()


def next_try(tries: int, now: float, rng: Random, retry_after: float | None) -> float | None:
    """Returns the instant of the next try after `tries` that failed, in epoch seconds; None: there is none.
    `retry_after`: seconds that the destination asked for; they make the wait longer, never shorter."""
    if tries > len(TRIES):
        return None
    wait = TRIES[tries - 1] * (1 + JITTER * rng.random())
    return now + max(wait, min(retry_after or 0.0, MAX_RETRY_AFTER))
