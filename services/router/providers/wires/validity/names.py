"""Names of tools, and of their parameters, that fit a vendor's pattern, and the way back."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

from services.router.providers.wires.fields import Undecodable, decode, encode

_STRANGE = re.compile(r"[^a-zA-Z0-9_-]")
#: Characters of a name, everywhere.
_LONGEST = 64
_DIGEST = 8


def name_tools(names: Iterable[str], pattern: re.Pattern[str]) -> dict[str, str]:
    """Returns caller's name → name to send, of those that do not fit the pattern."""
    given = set(names)
    strange = sorted(name for name in given if not pattern.fullmatch(name))
    taken = given.difference(strange)
    sent: dict[str, str] = {}
    for name in strange:
        plain = _STRANGE.sub("_", name)
        if not pattern.fullmatch(plain):
            plain = f"_{plain}"
        if len(plain) > _LONGEST or plain in taken:
            digest = hashlib.blake2b(name.encode("utf-8", "replace"), digest_size=_DIGEST // 2).hexdigest()
            plain = f"{plain[: _LONGEST - _DIGEST - 1]}_{digest}"
        taken.add(plain)
        sent[name] = plain
    return sent


def rename_keys(text: str, keys: Mapping[str, str]) -> str:
    """Returns a call's arguments with other names of its parameters; unchanged where they are no object."""
    try:
        value = decode(text)
    except Undecodable:
        return text
    if type(value) is not dict:
        return text
    return encode({keys.get(name, name): inner for name, inner in value.items()}).decode()
