"""Redacts keys in text that others wrote: a provider that refuses a request may repeat its headers.

A key is found whole, without regard to case, in every form in which servers repeat it: as it is, escaped for JSON,
HTML or a URL, in hexadecimal, and in base64 wherever it begins among the bytes that were encoded (`Bearer <key>`,
`user:<key>`). Of a key that the text's end cuts off the beginning is found too.
"""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Iterable, Iterator
from urllib.parse import quote, quote_plus

#: The fewest characters of a secret that is redacted. Shorter ones are words: to redact them would show more than it
#: hides.
SHORTEST = 6
#: The fewest characters of a cut key that are redacted.
_SHORTEST_CUT = 6
HIDDEN = "[redacted]"
#: The fields of a service account's document that are secrets.
_SECRET_FIELDS = frozenset(
    {"private_key", "private_key_id", "client_secret", "refresh_token", "access_token", "token", "secret"}
)
#: ASCII alone, so that text keeps its length.
_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}


def forms_of(key: str) -> tuple[str, ...]:
    """Returns the forms of a key to look for, in lower case, the longest first."""
    found = {form.translate(_LOWER) for secret in _secrets(key) for form in _encoded(secret)}
    return tuple(sorted((form for form in found if len(form) >= SHORTEST), key=len, reverse=True))


def redact(text: str, forms: Iterable[str]) -> str:
    """Returns the text with HIDDEN in place of each of the forms. Linear in the text for each of them."""
    lower = text.translate(_LOWER)
    for form in forms:
        at = lower.find(form)
        while at >= 0:
            text = text[:at] + HIDDEN + text[at + len(form) :]
            lower = lower[:at] + HIDDEN + lower[at + len(form) :]
            at = lower.find(form, at + len(HIDDEN))
        at = _cut_off(lower, form)
        if at >= 0:
            text, lower = text[:at] + HIDDEN, lower[:at] + HIDDEN
    return text


def _cut_off(lower: str, form: str) -> int:
    """Returns the offset of a beginning of the form that the text's end cuts off; -1: there is none."""
    head = form[:_SHORTEST_CUT]
    at = lower.find(head, max(0, len(lower) - len(form) + 1))
    while at >= 0 and not form.startswith(lower[at:]):
        at = lower.find(head, at + 1)
    return at


def _secrets(key: str) -> Iterator[str]:
    """Yields the key, and the parts of it that are secrets by themselves: AWS's secret and token, a service account's
    private key."""
    yield key
    if ":" in key and not key.startswith("{"):
        yield from key.split(":")
    try:
        document = json.loads(key)
    except (ValueError, RecursionError):
        return
    if isinstance(document, dict):
        for name, value in document.items():
            if name in _SECRET_FIELDS and isinstance(value, str):
                yield value
                # A PEM is repeated line by line.
                yield from (line for line in value.splitlines() if not line.startswith("--"))


def _encoded(secret: str) -> Iterator[str]:
    # Text is searched with its spaces collapsed.
    secret = " ".join(secret.split())
    if len(secret) < SHORTEST:
        return
    yield secret
    escaped = json.dumps(secret)[1:-1]
    yield escaped
    yield escaped.replace("/", "\\/")
    yield json.dumps(escaped)[1:-1]
    yield quote(secret, safe="")
    yield quote(secret)
    yield quote_plus(secret)
    yield html.escape(secret)
    data = secret.encode()
    yield data.hex()
    for before in range(3):
        # Only characters that hold bits of the secret alone.
        start, bits = (0, 2, 3)[before], 8 * (before + len(data))
        plain = base64.b64encode(bytes(before) + data).decode()[start : bits // 6]
        yield plain
        yield plain.translate({ord("+"): "-", ord("/"): "_"})
