"""Ids of tool calls: made from any text for a vendor's pattern, always the same, so that a conversation that grows
keeps its beginning, which vendors cache."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable


def call_id(text: str) -> str:
    """Returns an id that every vendor but Mistral takes."""
    return f"call_{_digest(text, 12)}"


def nine_characters(text: str) -> str:
    """Returns an id as Mistral wants it: nine letters or digits."""
    return _digest(text, 5)[:9]


def _digest(text: str, size: int) -> str:
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=size).hexdigest()


class CallIds:
    """Gives every call of a conversation an id of its own that fits the pattern: its own where that does."""

    def __init__(self, pattern: re.Pattern[str], make: Callable[[str], str], given: Iterable[str]) -> None:
        """`given`: all ids of the conversation."""
        self._make = make
        self._fitting = {identifier for identifier in given if pattern.fullmatch(identifier)}
        self._times: Counter[str] = Counter()
        #: The id sent → the caller's.
        self.sent: dict[str, str] = {}

    def take(self, identifier: str) -> str:
        """Returns the id to send for a call, each time another one."""
        if identifier in self._fitting and identifier not in self.sent:
            self.sent[identifier] = identifier
            return identifier
        while True:
            self._times[identifier] += 1
            made = self._make(f"{self._times[identifier]} {identifier}")
            if made not in self.sent and made not in self._fitting:
                self.sent[made] = identifier
                return made
