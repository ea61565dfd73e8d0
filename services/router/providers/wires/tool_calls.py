"""Tells the tool calls of a stream apart: wires mark them differently, and servers repeat different parts."""

from __future__ import annotations

import re

from libs.conversation import ToolCallDelta
from services.router.providers.wires.fields import Undecodable, decode

#: Marks of JSON that open or close something, and escapes with what they escape.
_MARKS = re.compile(r'\\.|[\\"{}\[\]]', re.DOTALL)
#: Numbers and words of JSON are shorter, in characters.
_LONGEST_SCALAR = 64


class ToolCalls:
    """The tool calls of a stream, numbered from 0; each call's id and name is handed on once. Linear in the bytes.

    Wires disagree: an index that is missing or null, two calls with one index but different ids or none at all, the
    id and name repeated with every piece.
    """

    __slots__ = ("_arguments", "_ids", "_keys", "_names", "_numbers", "_with_arguments", "count")

    def __init__(self) -> None:
        self.count = 0
        self._keys: dict[int, int] = {}
        self._ids: list[str] = []
        self._numbers: dict[str, int] = {}
        self._names: list[str] = []
        self._with_arguments: set[int] = set()
        #: Only of calls without an id: nothing else shows where one ends.
        self._arguments: list[_Arguments] = []

    def piece(self, key: int | None, call_id: str, name: str, arguments: str) -> ToolCallDelta | None:
        """Returns the piece to hand on; None where it holds nothing new. `key`: the wire's index, None where
        missing."""
        index = self._find(key, call_id, name)
        if index is None:
            if not (call_id or name):
                # Pieces of a call that never began: nobody could be called with them.
                return None
            index = self.count
            self.count += 1
            self._ids.append("")
            self._names.append("")
            self._arguments.append(_Arguments())
        if key is not None:
            self._keys[key] = index
        new_id = call_id if not self._ids[index] else ""
        new_name = name if not self._names[index] else ""
        if new_id:
            self._ids[index] = new_id
            self._numbers.setdefault(new_id, index)
        if new_name:
            self._names[index] = new_name
        if not self._ids[index]:
            self._arguments[index].add(arguments)
        if arguments and not arguments.isspace():
            self._with_arguments.add(index)
        if not (new_id or new_name or arguments):
            return None
        return ToolCallDelta(index, new_id, new_name, arguments)

    def without_arguments(self) -> list[ToolCallDelta]:
        """Returns an empty object for each call that ended without arguments: callers decode them as JSON."""
        return [
            ToolCallDelta(index, "", "", "{}")
            for index in range(self.count)
            if index not in self._with_arguments
        ]

    def _find(self, key: int | None, call_id: str, name: str) -> int | None:
        if key is None:
            if call_id:
                return self._numbers.get(call_id)
            last = self.count - 1 if self.count else None
            return last if not name or self._continues(last, name) else None
        index = self._keys.get(key)
        if index is None:
            return None
        if call_id and self._ids[index]:
            return index if self._ids[index] == call_id else None
        if name and self._names[index] and not self._continues(index, name, named=True):
            return None
        return index

    def _continues(self, index: int | None, name: str, *, named: bool = False) -> bool:
        """Returns True if a piece with this name and no id belongs to that call: it repeats the name, and the
        arguments so far are not whole. `named`: by the wire's index it does."""
        if index is None or self._names[index] != name:
            return False
        if self._ids[index]:
            return named
        so_far = self._arguments[index]
        return not so_far.whole if so_far.begun else named


class _Arguments:
    """JSON that comes in pieces, and whether it is `whole`: every character is read once, and all of it is decoded
    once, when its brackets and quotes have closed."""

    __slots__ = ("_depth", "_escaped", "_nested", "_pieces", "_quoted", "_size", "begun", "whole")

    def __init__(self) -> None:
        #: Something but white space came.
        self.begun = False
        self.whole = False
        #: None: it was whole or can never be, and whatever follows makes it no JSON.
        self._pieces: list[str] | None = []
        self._size = 0
        self._nested = self._quoted = self._escaped = False
        self._depth = 0

    def add(self, text: str) -> None:
        """Adds a piece."""
        if not text.strip():
            return
        self.begun = True
        if self._pieces is None:
            self.whole = False
            return
        self._pieces.append(text)
        self._size += len(text)
        begin = int(self._escaped)
        self._escaped = False
        for mark in _MARKS.finditer(text, begin):
            self._nested = True
            self._apply_mark(mark[0])
        if self._depth > 0 or self._quoted:
            return
        # A number or a word may go on, an object may not.
        scalar = not self._nested and self._size <= _LONGEST_SCALAR
        self.whole = (self._nested or scalar) and _is_json("".join(self._pieces))
        if not scalar:
            self._pieces = None

    def _apply_mark(self, mark: str) -> None:
        if self._quoted:
            self._quoted = mark != '"'
            self._escaped = mark == "\\"
        elif mark == '"':
            self._quoted = True
        elif mark in "{[":
            self._depth += 1
        elif mark in "}]":
            self._depth -= 1


def _is_json(text: str) -> bool:
    try:
        decode(text)
    except Undecodable:
        return False
    return True
