"""YAML as a tree of texts that remember their lines.

Composed from parser events rather than by a YAML loader: one pass sees duplicate keys, refuses tags and
aliases (no expansion bombs), bounds the depth, is seven times as fast, and leaves the meaning of a text to
whoever expects it (`no` as the name of a tenant is a text, not false).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import yaml

from libs.catalog.faults import Fault

MAX_DEPTH = 16
_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
# Texts that YAML 1.1 or 1.2 readers take for a truth value or a number.
_AMBIGUOUS = re.compile(
    r"(?i:true|false|yes|no|on|off)|[-+]?\.?[0-9][0-9_.,:]*([eE][-+]?[0-9]+)?|0[xo][0-9a-fA-F]+|[-+]?\.(?i:inf|nan)"
)


@dataclass(slots=True)
class Node:
    """A text, a list or a mapping. `line` counts from 1: of a text itself, of the key before a collection."""

    line: int
    value: str | list[Node] | dict[str, Node]
    #: Written without quotes, so that it may stand for a number, a truth value or nothing.
    plain: bool = False

    @property
    def is_null(self) -> bool:
        """Returns True if nothing was written."""
        return self.plain and self.value in _NULLS

    @property
    def is_text(self) -> bool:
        """Returns True if it is a text that no YAML reader takes for something else."""
        if not isinstance(self.value, str):
            return False
        return not self.plain or not (self.value in _NULLS or _AMBIGUOUS.fullmatch(self.value))


def parse(text: str, faults: list[Fault]) -> Node | None:
    """Returns the document's root, or None where there is none. Appends what is wrong to `faults`."""
    loader = _PARSER(text)
    try:
        return _Composer(loader, faults).document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else 0
        faults.append(Fault(line, (), f"not YAML: {error.problem or error.context}"))
    except yaml.YAMLError as error:
        faults.append(Fault(0, (), f"not YAML: {getattr(error, 'reason', 'unreadable')}"))
    finally:
        loader.dispose()
    return None


class _Composer:
    def __init__(self, loader: Any, faults: list[Fault]) -> None:
        self._next: Callable[[], Any] = loader.get_event
        self._faults = faults

    def document(self) -> Node | None:
        self._next()
        if type(self._next()) is yaml.StreamEndEvent:
            return None
        root = self._node(self._next(), None, 0)
        self._next()
        after = self._next()
        if type(after) is not yaml.StreamEndEvent:
            self._fault(after, "a second YAML document begins here: only one is allowed")
        return root

    def _fault(self, event: Any, message: str) -> None:
        self._faults.append(Fault(event.start_mark.line + 1, (), message))

    def _node(self, event: Any, line: int | None, depth: int) -> Node:
        own_line = event.start_mark.line + 1
        if type(event) is yaml.AliasEvent:
            self._fault(event, "aliases (*name) are not supported: write the value out")
            return Node(own_line, "", plain=True)
        if event.tag is not None and not (type(event) is yaml.ScalarEvent and event.tag == "!"):
            self._fault(event, "tags (!name) are not supported")
        if type(event) is yaml.ScalarEvent:
            return Node(own_line, event.value, event.style is None or event.style == "")
        if depth >= MAX_DEPTH:
            raise yaml.MarkedYAMLError(
                problem=f"nested more than {MAX_DEPTH} levels deep", problem_mark=event.start_mark
            )
        if type(event) is yaml.SequenceStartEvent:
            return Node(line or own_line, self._items(depth + 1))
        return Node(line or own_line, self._entries(depth + 1))

    def _items(self, depth: int) -> list[Node]:
        items: list[Node] = []
        while type(event := self._next()) is not yaml.SequenceEndEvent:
            items.append(self._node(event, None, depth))
        return items

    def _entries(self, depth: int) -> dict[str, Node]:
        entries: dict[str, Node] = {}
        while type(event := self._next()) is not yaml.MappingEndEvent:
            line = event.start_mark.line + 1
            key = self._node(event, None, depth)
            value = self._node(self._next(), line, depth)
            if not isinstance(key.value, str):
                self._fault(event, "a key must be a text")
            elif key.value == "<<" and key.plain:
                self._fault(event, "merge keys (<<) are not supported: write the values out")
            elif key.value in entries:
                self._fault(
                    event, f'"{key.value}" is written twice, before on line {entries[key.value].line}'
                )
            else:
                entries[key.value] = value
        return entries
