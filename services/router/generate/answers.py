"""Recent answers, kept for the step of the degradation ladder that serves an old answer rather than none. Pure: time
is a parameter (monotonic seconds).

Nothing is kept for tenants and content types whose policy does not name that step. An answer is never served while
a provider can give a new one.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict

import msgspec
from msgspec import Struct

from services.router.planning.candidate import Candidate
from services.router.request.generation import Generation

#: The most that all answers of a replica take together, bytes.
MAX_BYTES = 64 * 1024 * 1024
#: The greatest age of an answer, seconds.
MAX_AGE = 24 * 3600.0

_encode = msgspec.msgpack.Encoder().encode


class KeptAnswer(Struct, frozen=True):
    """A whole answer, its candidate, and when it was given, monotonic seconds."""

    text: str
    candidate: Candidate
    at: float


class RecentAnswers:
    """The latest answer to each prompt of each tenant; the least recently used go first."""

    def __init__(self, max_bytes: int = MAX_BYTES, max_age: float = MAX_AGE) -> None:
        if max_bytes < 0 or max_age <= 0:
            raise ValueError("recent answers need max_bytes >= 0 and max_age > 0 seconds")
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._answers: OrderedDict[bytes, KeptAnswer] = OrderedDict()
        self._bytes = 0

    def keep(self, generation: Generation, answer: KeptAnswer) -> None:
        """Remembers an answer, if it fits at all."""
        size = len(answer.text)
        if not size or size > self._max_bytes:
            return
        key = _key(generation)
        self._drop(key)
        self._answers[key] = answer
        self._bytes += size
        while self._bytes > self._max_bytes:
            self._drop(next(iter(self._answers)))

    def find(self, generation: Generation, now: float) -> KeptAnswer | None:
        """Returns the latest answer to the same prompt of the same tenant; None: none, or too old."""
        key = _key(generation)
        answer = self._answers.get(key)
        if answer is not None and now - answer.at > self._max_age:
            self._drop(key)
            return None
        if answer is not None:
            self._answers.move_to_end(key)
        return answer

    def _drop(self, key: bytes) -> None:
        answer = self._answers.pop(key, None)
        if answer is not None:
            self._bytes -= len(answer.text)


def _key(generation: Generation) -> bytes:
    """A digest, so that no prompt is kept."""
    named = (generation.tenant, generation.content_type, generation.models, generation.prompt)
    return hashlib.blake2b(_encode(named), digest_size=16).digest()
