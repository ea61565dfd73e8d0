"""Redacts keys in text that others wrote: a provider that refuses a request may repeat its headers.

A key is found whole, without regard to case, in every form in which servers repeat it: as it is; with any of its
characters escaped for JSON, a program's source, HTML or a URL, once or several times; with other spaces; in
hexadecimal, with or without separators; reversed; and in base32, base64 and base64 of base64 wherever it begins
among the bytes that were encoded (`Bearer <key>`, `user:<key>`). Of a key that the text's end cuts off the beginning
is found too. For that text and keys are compared as `_plain` has them, without escapes.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator

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


#: The escapes of one character, and spaces.
_ESCAPED = re.compile(
    r"\\+(?:u(?P<u>[0-9a-f]{4})|x(?P<x>[0-9a-f]{2})|(?P<escaped>.))"
    r"|%(?P<url>[0-9a-f]{2})"
    r"|&(?:#(?P<decimal>[0-9]{1,4});|#x(?P<html>[0-9a-f]{1,4});|(?P<name>amp|lt|gt|quot|apos|nbsp);)"
    r"|(?P<space>[\s+]+)",
    re.DOTALL,
)
#: From base64 to that of URLs.
_FOR_URLS = {ord("+"): "-", ord("/"): "_"}
_NAMES = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'", "nbsp": " "}
#: The beginning of an escape that the end cuts off, and no such beginning is longer than so many characters.
_CUT_ESCAPE = re.compile(
    r"(?:\\+(?:u[0-9a-f]{0,3}|x[0-9a-f]?)?|%[0-9a-f]?|&(?:#x?[0-9a-f]{0,4}|[a-z]{0,4}))\Z"
)
_LONGEST_ESCAPE = 16
#: The most layers of escapes that are undone.
_LAYERS = 4


def forms_of(key: str) -> tuple[str, ...]:
    """Returns the forms of a key that `redact` looks for."""
    # Backslashes at its end belong to what follows.
    found = {_plain(form)[0].rstrip("\\") for secret in _secrets(key) for form in _encoded(secret)}
    return tuple(sorted(form for form in found if len(form) >= SHORTEST))


def redact(text: str, forms: Iterable[str]) -> str:
    """Returns the text with HIDDEN in place of each of the forms. Linear in the text for each of them."""
    plain, places = _plain(text)
    # What is escaped twice may be cut in either layer.
    whole = _plain(text[: _whole(text.translate(_LOWER))])[0]
    endings = {plain, whole[: _whole(whole)]}
    hidden: list[tuple[int, int]] = []
    for form in forms:
        at = plain.find(form)
        while at >= 0:
            hidden.append((places[at], places[at + len(form)]))
            at = plain.find(form, at + len(form))
        for ending in endings:
            at = _cut_off(ending, form)
            if at >= 0:
                hidden.append((places[at], len(text)))
    kept, end = [], 0
    for begin, beyond in sorted(hidden):
        if begin >= end:
            kept += [text[end:begin], HIDDEN]
        end = max(end, beyond)
    return "".join((*kept, text[end:]))


def _plain(text: str) -> tuple[str, list[int]]:
    """Returns text in lower case with each escape replaced by what it stands for, without backslashes and with single
    spaces; and where each character begins in the text, last where the text ends. A plus sign is a space, as in
    forms."""
    plain, places = text.translate(_LOWER), list(range(len(text) + 1))
    for _ in range(_LAYERS):
        before, (plain, inner) = plain, _unescaped(plain)
        if plain == before:
            break
        places = [places[at] for at in inner]
    return plain, places


def _unescaped(text: str) -> tuple[str, list[int]]:
    """Returns the same with one layer of escapes undone."""
    characters: list[str] = []
    places: list[int] = []
    done = 0
    for match in _ESCAPED.finditer(text):
        characters += text[done : match.start()]
        places += range(done, match.start())
        done = match.end()
        character = _character(match)
        if character == " " and characters[-1:] == [" "]:
            continue
        characters.append(character)
        places.append(match.start())
    characters += text[done:]
    places += range(done, len(text) + 1)
    return "".join(characters), places


def _character(match: re.Match[str]) -> str:
    kind, escaped = match.lastgroup, match[match.lastgroup or 0]
    if kind == "space" or escaped.isspace():
        return " "
    if kind == "escaped":
        return escaped
    if kind == "name":
        return _NAMES[escaped]
    character = chr(int(escaped, 10 if kind == "decimal" else 16))
    return " " if character == "+" or character.isspace() else character.translate(_LOWER)


def _whole(text: str) -> int:
    """Returns the length of the text before an escape that its end cuts off."""
    cut = _CUT_ESCAPE.search(text, max(0, len(text) - _LONGEST_ESCAPE))
    return len(text) if cut is None else cut.start()


def _cut_off(plain: str, form: str) -> int:
    """Returns the offset of a beginning of the form that the text's end cuts off; -1: there is none."""
    head = form[:_SHORTEST_CUT]
    at = plain.find(head, max(0, len(plain) - len(form) + 1))
    while at >= 0 and not form.startswith(plain[at:]):
        at = plain.find(head, at + 1)
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
    if len(secret) < SHORTEST:
        return
    yield secret
    yield secret[::-1]
    data = secret.encode()
    yield data.hex()
    yield from (data.hex(separator) for separator in ":- ,")
    for before in range(5):
        yield _bits_of(data, before, 5)
    for before in range(3):
        plain = _bits_of(data, before, 6)
        for once in {plain, plain.translate(_FOR_URLS)}:
            yield once
            yield from (_bits_of(once.encode(), outer, 6) for outer in range(3))


def _bits_of(data: bytes, before: int, width: int) -> str:
    """Returns the characters of base32 (`width` 5, in bits) or base64 (6) that hold bits of the data alone, where
    `before` bytes of others stand before it in its group."""
    encode = base64.b32encode if width == 5 else base64.b64encode
    start = -(-8 * before // width)
    return encode(bytes(before) + data).decode()[start : 8 * (before + len(data)) // width]
