"""Tells whether a message asks for what a tool does."""

from __future__ import annotations

import re
from functools import lru_cache

_WORD = re.compile(r"[a-z]{3,}")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
#: Words of tools' names and descriptions that say nothing of what a single one does.
_COMMON_WORDS = """
and any api are call can find for from get given gets has look looks make tool tells tell the their this that use used
using value will with you your returns return current fetch fetches function one out all about into list name set
"""
_COMMON = frozenset(_COMMON_WORDS.split())
#: The characters at a message's end in which its words are found.
_EXCERPT = 2000


@lru_cache(maxsize=1024)
def _words(text: str) -> frozenset[str]:
    spaced = _CAMEL.sub(" ", text).lower()
    return frozenset(word.removesuffix("s") for word in _WORD.findall(spaced) if word not in _COMMON)


def asks_for(message: str, name: str, description: str) -> bool:
    """Returns True if a message asks for a tool: it says a word of the tool's name, or two of its description."""
    said = _words(message[-_EXCERPT:])
    return bool(_words(name) & said) or len(_words(description) & said) > 1
