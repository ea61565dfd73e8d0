"""Reports of learned limits in one Redis hash: a field for each router, replaced as a whole."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from libs.limits import scope_of
from services.ratelimit.adapters.redis_functions import Functions
from services.ratelimit.domain.limits import key_of
from services.ratelimit.learning.learned import Observation, Observed, Source


class _Entry(msgspec.Struct, array_like=True):
    scope: str
    unit: int
    period: int
    value: int
    confidence: float
    source: str
    seen: float
    observations: int


class _Report(msgspec.Struct):
    at: float
    limits: list[_Entry]
    loads: dict[str, int]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Report).decode


class RedisLearned:
    """Satisfies `learning.LearnedStore`."""

    def __init__(self, functions: Functions, domain: str) -> None:
        self._functions = functions
        self._key = f"pointsman:{{{domain}}}:learned"

    async def put(self, holder: str, observed: Observed) -> None:
        entries = [
            _Entry(
                *o.key.position,
                o.value,
                o.confidence,
                o.source,
                o.seen,
                o.observations,
            )
            for o in observed.limits
        ]
        report = _Report(observed.at, entries, {str(scope): calls for scope, calls in observed.loads.items()})
        await self._functions.hash_set(self._key, holder, _encode(report))

    async def all(self) -> dict[str, Observed]:
        return {
            holder.decode(): _read(text) for holder, text in (await self._functions.hash(self._key)).items()
        }

    async def drop(self, holders: Sequence[str]) -> None:
        await self._functions.hash_delete(self._key, holders)


def _read(text: bytes) -> Observed:
    report = _decode(text)
    return Observed(
        tuple(
            Observation(
                key_of(e.scope, e.unit, e.period),
                e.value,
                e.confidence,
                Source(e.source),
                e.seen,
                e.observations,
            )
            for e in report.limits
        ),
        {scope_of(scope): calls for scope, calls in report.loads.items()},
        report.at,
    )
