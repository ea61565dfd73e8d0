"""Keys are found in what others write, in every usual encoding, whole or cut off by the end."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest

from libs.catalog.model import Provider
from libs.catalog.redaction import HIDDEN
from libs.catalog.secrets import Keys

KEY = "PROVKEY+7f/9_Q=x&\"y'\\z~01234567"


def _between(before: str, after: str, key: str) -> str:
    """The key among other bytes, in base64."""
    return base64.b64encode(f"{before}{key}{after}".encode()).decode()


def _separated(separator: str, key: str) -> str:
    return key.encode().hex(separator)


def _in_base32(before: int, key: str) -> str:
    return base64.b32encode(b"b" * before + key.encode() + b"after").decode()


def _twice(before: int, outer: int, key: str) -> str:
    return _between("b" * outer, "after", _between("b" * before, "z", key))


ENCODINGS: dict[str, Callable[[str], str]] = {
    "bare": str,
    "upper case": str.upper,
    "lower case": str.lower,
    "of a header": "Authorization: Bearer {}".format,
    "in JSON": json.dumps,
    "in JSON in JSON": lambda key: json.dumps(json.dumps({"key": key})),
    "in JSON with escaped slashes": lambda key: json.dumps(key).replace("/", "\\/"),
    "in a URL's path": quote,
    "in a URL": lambda key: quote(key, safe=""),
    "in a URL in lower case": lambda key: quote(key, safe="").lower(),
    "in a form": quote_plus,
    "in HTML": html.escape,
    "in HTML in numbers": lambda key: "".join(f"&#{ord(c)};" if not c.isalnum() else c for c in key),
    "in HTML in hexadecimal": lambda key: "".join(f"&#x{ord(c):X};" if not c.isalnum() else c for c in key),
    "in HTML in HTML": lambda key: html.escape(html.escape(key)),
    "in JSON as .NET writes it": lambda key: "".join(
        f"\\u{ord(c):04X}" if not c.isalnum() else c for c in key
    ),
    "in JSON as Go writes it": lambda key: json.dumps(key).replace("&", "\\u0026"),
    "in source": repr,
    "in a URL in a URL": lambda key: quote(quote(key, safe=""), safe=""),
    "in a URL in JSON": lambda key: json.dumps({"url": quote_plus(key)}),
    "in HTML in JSON": lambda key: json.dumps(html.escape(key)),
    "with its spaces collapsed": lambda key: " ".join(key.split()),
    "in hexadecimal": lambda key: key.encode().hex(),
    "in upper hexadecimal": lambda key: key.encode().hex().upper(),
    **{
        f"in base64 behind {before!r} before {after!r}": partial(_between, before, after)
        for before in ("", "a", "ab", "Bearer ", "user:")
        for after in ("", "x", "xy", "\n")
    },
    "reversed": lambda key: key[::-1],
    **{f"in hexadecimal with {separator!r}": partial(_separated, separator) for separator in ": -,"},
    **{f"in base32 behind {before} bytes": partial(_in_base32, before) for before in range(7)},
    **{
        f"in base64 of base64 behind {before} and {outer} bytes": partial(_twice, before, outer)
        for before in range(4)
        for outer in range(4)
    },
    "in base64 for URLs": lambda key: base64.urlsafe_b64encode(key.encode()).decode(),
}


def _provider(name: str, env: str = "", file: str | Path = "") -> Provider:
    return Provider(name, "openai", "https://x", api_key_env=env, api_key_file=str(file))


def _knowing(key: str) -> Keys:
    keys = Keys({"K": key})
    assert keys(_provider("p", "K")) == key
    return keys


def _leaks(text: str, secret: str) -> bool:
    """Returns True if eight characters in a row of the secret stand in the text."""
    low, secret = text.lower(), secret.lower()
    return any(secret[at : at + 8] in low for at in range(len(secret) - 7))


@pytest.mark.parametrize("encode", ENCODINGS.values(), ids=ENCODINGS)
@pytest.mark.parametrize(
    "key",
    [
        KEY,
        "sk-proj-abcdefghijklmnop1234",
        "0123456789abcdef0123456789abcdef",
        "PROVKEY  with   spaces at 7f",
        "PROVKEY%41%2f&amp;&#39;\\n\\u0041\"'<>`=+ +==",
    ],
)
def test_a_key_is_hidden_in_every_encoding(key: str, encode: Callable[[str], str]) -> None:
    """Nothing of its encoded form is left but edges that hold no eight characters of it."""
    shown = _knowing(key).redact(f"Bad headers: <<{encode(key)}>> were sent")
    assert HIDDEN in shown
    assert shown.startswith("Bad headers: <<")
    assert shown.endswith(">> were sent")
    assert not _leaks(shown, key)
    for form in (quote(key, safe=""), key.encode().hex(), base64.b64encode(key.encode()).decode()):
        assert not _leaks(shown, form)


def test_a_key_that_the_end_cuts_off_is_hidden() -> None:
    """Text is cut before it is shown; no beginning of a key of six characters or more is left at its end, nor of its
    escaped forms, and be an escape cut in two."""
    keys = _knowing(KEY)
    for size in range(6, len(KEY)):
        assert keys.redact(f"sent: {KEY[:size]}") == f"sent: {HIDDEN}"
    for encode in ("in a URL", "in JSON", "in HTML", "in JSON as .NET writes it", "in hexadecimal"):
        form = ENCODINGS[encode](KEY)
        for size in range(12, len(form)):
            assert not _leaks(keys.redact(f"sent: {form[:size]}"), form[:size].strip('"')), (encode, size)


def test_what_is_no_key_stays() -> None:
    """Other text is not touched, whatever its letters; a word of five letters is no secret."""
    keys = _knowing(KEY)
    _ = Keys({"K": "short"})
    for text in ("", "İstanbul ❤ PROVK", "The model gpt-4o does not exist", "abcd" * 50):
        assert keys.redact(text) == text
    assert _knowing("short").redact("a short word") == "a short word"


def test_parts_of_a_key_are_keys() -> None:
    """AWS's secret and session token, and a service account's private key line by line."""
    keys = _knowing("AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI/K7MDENG+bPxRfiCY:IQoJb3JpZ2luX2VjEXAMPLE")
    for part in ("wJalrXUtnFEMI/K7MDENG+bPxRfiCY", "IQoJb3JpZ2luX2VjEXAMPLE", "AKIAIOSFODNN7EXAMPLE"):
        assert part not in keys.redact(f"The canonical request was {part}.")
    line = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7"
    document = {"type": "service_account", "private_key": f"-----BEGIN PRIVATE KEY-----\n{line}\n-----END"}
    assert line not in _knowing(json.dumps(document)).redact(f"bad key: {line}")


def test_replaced_keys_and_other_providers_keys_are_hidden_too(tmp_path: Path) -> None:
    """Every key that was ever read: a provider may repeat what another was sent, or what was sent a minute ago."""
    file = tmp_path / "key"
    keys = Keys({"K": "PROVKEY-of-another"})
    keys(_provider("a", "K"))
    for key in ("PROVKEY-first", "PROVKEY-second-one"):
        file.write_text(key)
        assert keys.why_missing(_provider("b", file=file)) is None
    shown = keys.redact("PROVKEY-of-another PROVKEY-first PROVKEY-second-one")
    assert shown == f"{HIDDEN} {HIDDEN} {HIDDEN}"


def test_a_version_changes_with_the_key_and_says_nothing_about_it(tmp_path: Path) -> None:
    """Evidence gathered under one key is told from evidence under the next, at the next question; a key that comes
    back has its version back; none has none."""
    file = tmp_path / "key"
    keys, provider = Keys({}), _provider("p", file=file)
    assert keys.version(provider) == ""
    seen = []
    for key in ("PROVKEY-first", "PROVKEY-second", "PROVKEY-first"):
        file.write_text(key)
        seen.append(keys.version(provider))
        assert not _leaks(seen[-1], key)
    assert seen[0] == seen[2] != seen[1]
    assert {len(version) for version in seen} == {12}
    assert Keys({"K": "PROVKEY-first"}).version(_provider("q", "K")) == seen[0]
    assert keys.version(_provider("r")) == ""
