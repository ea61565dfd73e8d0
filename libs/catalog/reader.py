"""Typed reading of a YAML mapping, field by field, collecting every fault instead of stopping at the first.

The fields that a caller asks for are the fields that exist: whatever else the mapping holds is a fault.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from typing import TypeVar

from libs.catalog.checks import suggest
from libs.catalog.document import Node
from libs.catalog.faults import Fault
from libs.catalog.references import Path

T = TypeVar("T")
Rule = Callable[[str], None]

_INTEGER = re.compile(r"[-+]?[0-9](_?[0-9]){0,17}")
_DECIMAL = re.compile(r"[-+]?[0-9](_?[0-9]){0,17}(\.[0-9]{1,18})?")
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^${}]*))?\}")
MICRO = 1_000_000


class Section:
    """One mapping of the document. Getters return the default where a field is absent or null, and where it
    is wrong: then a fault is noted and `make` returns None."""

    __slots__ = ("_broken", "_entries", "_expected", "_faults", "_line", "_parent", "path")

    def __init__(self, node: Node, path: Path, faults: list[Fault], parent: Section | None = None) -> None:
        self.path = path
        self._faults = faults
        self._parent = parent
        self._line = node.line
        self._expected: list[str] = []
        self._broken = False
        self._entries: dict[str, Node] = {}
        if isinstance(node.value, dict):
            self._entries = node.value
        elif not node.is_null:
            self.fault("must be a mapping")

    def fault(self, message: str, key: str = "") -> None:
        """Notes a fault of the mapping, or of one of its fields."""
        node = self._entries.get(key)
        self._note(node.line if node is not None else self._line, message, *([key] if key else []))

    def fault_at(self, node: Node, message: str, *steps: str | int) -> None:
        """Notes a fault of a node inside the mapping."""
        self._note(node.line, message, *steps)

    def _note(self, line: int, message: str, *steps: str | int) -> None:
        broken: Section | None = self
        while broken is not None and not broken._broken:
            broken._broken = True
            broken = broken._parent
        self._faults.append(Fault(line, (*self.path, *steps), message))

    def require(self, *keys: str) -> None:
        """Notes every field of these that is not written."""
        for key in keys:
            if not self.has(key):
                self.fault("is required", key)

    def _take(self, key: str) -> Node | None:
        self._expected.append(key)
        node = self._entries.get(key)
        return None if node is None or node.is_null else node

    def has(self, key: str) -> bool:
        """Returns True if the field is written and not null."""
        node = self._entries.get(key)
        return node is not None and not node.is_null

    def refuse(self, key: str, message: str) -> None:
        """Notes a fault where a field is written that an author might expect but must not write."""
        if key in self._entries:
            self.fault(message, key)
            self._entries = {name: node for name, node in self._entries.items() if name != key}

    def text(self, key: str, default: str = "", rule: Rule | None = None) -> str:
        """Returns a text that passes the rule (which raises ValueError)."""
        node = self._take(key)
        return default if node is None else self.text_of(node, key, rule=rule) or default

    def text_of(self, node: Node, *steps: str | int, rule: Rule | None = None) -> str:
        """Returns the text of a node; empty where it is wrong."""
        if not isinstance(node.value, str):
            self.fault_at(node, "must be a text", *steps)
        elif not node.is_text:
            self.fault_at(node, "must be a text: put it in quotes", *steps)
        elif self._passes(node, rule, steps):
            return node.value
        return ""

    def _passes(self, node: Node, rule: Rule | None, steps: tuple[str | int, ...]) -> bool:
        try:
            if rule is not None:
                rule(str(node.value))
        except ValueError as error:
            self.fault_at(node, str(error), *steps)
            return False
        return True

    def converted(self, key: str, convert: Callable[[str], str]) -> str:
        """Returns a text, converted by a function that raises ValueError; empty where it is absent or wrong."""
        node = self._take(key)
        if node is None or not (text := self.text_of(node, key)):
            return ""
        try:
            return convert(text)
        except ValueError as error:
            self.fault_at(node, str(error), key)
            return ""

    def texts(self, key: str, rule: Rule | None = None) -> tuple[str, ...]:
        """Returns a list of texts."""
        return tuple(self.text_of(node, key, i, rule=rule) for i, node in self.nodes(key))

    def nodes(self, key: str) -> list[tuple[int, Node]]:
        """Yields a list's items with their indexes."""
        node = self._take(key)
        if node is None:
            return []
        return self.nodes_of(node, key)

    def nodes_of(self, node: Node, *steps: str | int) -> list[tuple[int, Node]]:
        """Yields a list node's items with their indexes."""
        if isinstance(node.value, list):
            return list(enumerate(node.value))
        self.fault_at(node, "must be a list", *steps)
        return []

    def whole(self, key: str) -> int | None:
        """Returns a whole number, `1_000_000` too; None where it is absent or wrong."""
        digits = self._digits(key, _INTEGER, "a whole number")
        return int(digits) if digits else None

    def integer(self, key: str, default: int = 0) -> int:
        """A whole number."""
        found = self.whole(key)
        return default if found is None else found

    def decimal(self, key: str) -> float | None:
        """Returns a number, with a decimal point or without; None where it is absent or wrong."""
        digits = self._digits(key, _DECIMAL, "a number")
        return float(digits) if digits else None

    def number(self, key: str, default: float = 0.0) -> float:
        """A number, with a decimal point or without."""
        found = self.decimal(key)
        return default if found is None else found

    def usd(self, key: str) -> int | None:
        """Returns US dollars, as micro-USD; None where it is absent or wrong."""
        digits = self._digits(key, _DECIMAL, "an amount in US dollars such as 0.25")
        micro = Decimal(digits or 0) * MICRO
        if micro % 1:
            self.fault("is finer than a millionth of a US dollar", key)
        return int(micro) if digits else None

    def _digits(self, key: str, pattern: re.Pattern[str], what: str) -> str:
        node = self._take(key)
        if node is None:
            return ""
        if isinstance(node.value, str) and node.plain and pattern.fullmatch(node.value):
            return node.value.replace("_", "")
        self.fault(f"must be {what}", key)
        return ""

    def flag(self, key: str) -> bool:
        """Returns true or false; absent: false."""
        node = self._take(key)
        if node is not None and not (node.plain and node.value in ("true", "false")):
            self.fault("must be true or false", key)
        return node is not None and node.value == "true"

    def section(self, key: str) -> Section:
        """Returns a mapping; an empty one where it is absent."""
        node = self._take(key)
        return Section(node or Node(self._line, {}), (*self.path, key), self._faults, self)

    def section_of(self, node: Node, *steps: str | int) -> Section:
        """Returns a node's mapping."""
        return Section(node, (*self.path, *steps), self._faults, self)

    def sections(self, key: str) -> Iterator[tuple[str, Section]]:
        """Yields the mappings of a mapping, each let go once it is read: a hundred thousand of them are not held, and
        not freed all at once under the interpreter's lock."""
        whole = self.section(key)
        entries = whole._entries
        for name in tuple(entries):
            yield name, whole.section_of(entries.pop(name), name)

    def list_of(self, key: str, read: Callable[[Section], T | None]) -> tuple[T, ...]:
        """Returns a list of mappings, each read by `read`."""
        items = (read(self.section_of(node, key, i)) for i, node in self.nodes(key))
        return tuple(item for item in items if item is not None)

    def names(self) -> tuple[str, ...]:
        """Returns the keys that are written."""
        return tuple(self._entries)

    def close(self) -> bool:
        """Notes unknown fields. Returns True if everything was right."""
        if self._entries.keys() - self._expected:
            for key in self._entries:
                if key not in self._expected:
                    self.fault(f"unknown field{suggest(key, self._expected)}", key)
        return not self._broken

    def make(self, build: Callable[[], T]) -> T | None:
        """Closes, and builds where everything was right. Returns None where it was not."""
        if not self.close():
            return None
        try:
            return build()
        except ValueError as error:
            self.fault(str(error))
            return None


def substitute(text: str, environ: Mapping[str, str]) -> str:
    """Returns the text with `${NAME}` and `${NAME:-default}` replaced from the environment, where empty counts as
    unset. Raises ValueError."""

    def value(match: re.Match[str]) -> str:
        name, default = match.group(1), match.group(2)
        found = environ.get(name) or default
        if found is None:
            raise ValueError(f"{name} is not set in the environment; ${{{name}:-default}} gives it a default")
        return found

    replaced = _VARIABLE.sub(value, text)
    if "${" in _VARIABLE.sub("", text):
        raise ValueError("write ${NAME} or ${NAME:-default}")
    return replaced
