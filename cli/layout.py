"""Tables and facts at the width that there is.

A terminal of 40 columns must show what one of 120 shows. Three rules make it so: figures never give way, names and
sentences wrap (between words; within one only after a separator, never between two digits), and a table that still
does not fit folds: each row becomes a block of "column  value" lines.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, auto

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

#: Spaces between columns, and before the lines of a folded row.
GAP = 2
#: The least width of a column of sentences: in a narrower one they are harder to read than a folded row.
LEAST_OF_SENTENCES = 20
#: The separators after which a name may be broken.
SEPARATORS = frozenset("/:-_.,@|=&")


@dataclass(frozen=True, slots=True)
class Value:
    """A cell that is shown to people in another form than to programs."""

    shown: str | Text
    value: str | int | float | Decimal | None


Cell = str | Text | Value


class Kind(Enum):
    """The behaviour of a column's cells where there is little room."""

    #: Stands at the right and never gives way.
    FIGURE = auto()
    #: A duration, a state or an address: never gives way either.
    WHOLE = auto()
    #: Wraps.
    NAME = auto()
    #: Wraps, at no less than `LEAST_OF_SENTENCES`.
    SENTENCE = auto()


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table. The heading may be empty."""

    name: str
    kind: Kind = Kind.WHOLE

    @property
    def gives_way(self) -> bool:
        """Returns True if its cells may wrap."""
        return self.kind in {Kind.NAME, Kind.SENTENCE}


class Table:
    """Rows under headings. A cell may hold several lines; `footer` is a last row below a rule of its own."""

    def __init__(self, *columns: Column) -> None:
        self.columns = columns
        self.rows: list[list[Text]] = []
        #: The values of the rows, for programs.
        self.values: list[list[str | int | float | Decimal | None]] = []
        self.footer: list[Text] | None = None

    def add_row(self, *cells: Cell, style: str = "") -> None:
        """Adds a row, one cell a column; `style` is of the whole row."""
        self.rows.append(self._texts(cells, style))
        self.values.append([cell.value if isinstance(cell, Value) else _text(cell).plain for cell in cells])

    def set_footer(self, *cells: Cell) -> None:
        """Sets the last row, one cell a column."""
        self.footer = self._texts(cells, "bold")

    def _texts(self, cells: Sequence[Cell], style: str) -> list[Text]:
        texts = [_text(cell) for cell in cells]
        if len(texts) != len(self.columns):
            raise ValueError(f"{len(texts)} cells for {len(self.columns)} columns")
        for text in texts:
            text.stylize_before(style)
        return texts

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yields the lines: a grid where it fits, folded rows else."""
        widths = self._widths(options.max_width)
        yield from self._folded(options.max_width) if widths is None else self._grid(widths)

    def _widths(self, room: int) -> list[int] | None:
        """Returns the columns' widths; None where not even the narrowest fit into `room`."""
        wanted, least = [], []
        for position, column in enumerate(self.columns):
            cells = [row[position] for row in [*self.rows, *([self.footer] if self.footer else [])]]
            wanted.append(max(_width(column.name), *(_width(cell.plain) for cell in cells), 0))
            least.append(_least(column, cells))
        room -= GAP * (len(self.columns) - 1)
        if sum(wanted) <= room:
            return wanted
        if sum(least) > room:
            return None
        # Level the ones that give way: what is short stays whole, the longest share what is left.
        widths = list(least)
        for _ in range(room - sum(least)):
            short = [i for i, width in enumerate(widths) if width < wanted[i]]
            if not short:
                break
            widths[min(short, key=lambda i: widths[i])] += 1
        return widths

    def _grid(self, widths: Sequence[int]) -> Iterable[Text]:
        rule = Text("─" * (sum(widths) + GAP * (len(widths) - 1)), "dim", no_wrap=True)
        if any(column.name for column in self.columns):
            yield from self._lines([Text(column.name, "bold") for column in self.columns], widths)
            yield rule
        for row in self.rows:
            yield from self._lines(row, widths)
        if self.footer is not None:
            yield rule
            yield from self._lines(self.footer, widths)

    def _lines(self, row: Sequence[Text], widths: Sequence[int]) -> Iterable[Text]:
        wrapped = [wrap(cell, width) for cell, width in zip(row, widths, strict=True)]
        for parts in itertools.zip_longest(*wrapped, fillvalue=Text()):
            line = Text(no_wrap=True, overflow="ignore")
            for part, width, column in zip(parts, widths, self.columns, strict=True):
                space = " " * (width - cell_len(part.plain))
                right = column.kind is Kind.FIGURE
                line.append_text(Text.assemble(space, part) if right else Text.assemble(part, space))
                line.append(" " * GAP)
            line.rstrip()
            yield line

    def _folded(self, room: int) -> Iterable[Text]:
        for number, row in enumerate([*self.rows, *([self.footer] if self.footer else [])]):
            if number:
                yield Text()
            pairs = list(zip(self.columns, row, strict=True))
            while pairs and not pairs[0][0].name:  # what has no heading stands before the block
                yield from _unbroken(wrap(pairs.pop(0)[1], room))
            facts = [(column.name, cell) for column, cell in pairs if cell.plain.strip()]
            yield from _facts(facts, room)


class Facts:
    """Names with their values, one below the other; `right` where the values are figures."""

    def __init__(self, *, right: bool = False) -> None:
        self._right = right
        self._facts: list[tuple[str, Text]] = []

    def add(self, name: str, value: Cell) -> None:
        """Adds a name with its value."""
        self._facts.append((name, _text(value)))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yields the lines."""
        yield from _facts(self._facts, options.max_width, right=self._right)


def _facts(facts: Sequence[tuple[str, Text]], room: int, *, right: bool = False) -> Iterable[Text]:
    indent = max((cell_len(name) for name, _ in facts), default=0) + GAP
    values = max((_width(value.plain) for _, value in facts), default=0)
    for name, value in facts:
        beside = room - indent
        below = max(map(cell_len, pieces(value.plain)), default=0) > beside  # no room beside the name
        lines = wrap(value, room - GAP if below else beside)
        if below:
            yield Text(name, "dim", no_wrap=True, overflow="ignore")
        for number, line in enumerate(lines):
            head = "" if number or below else name
            space = values - cell_len(line.plain) if right and not below else 0
            margin = GAP if below else indent
            yield from _unbroken([Text.assemble((f"{head:<{margin}}", "dim"), " " * max(0, space), line)])


def _unbroken(lines: Iterable[Text]) -> Iterable[Text]:
    """Returns the lines, which are wrapped already."""
    for line in lines:
        line.no_wrap, line.overflow = True, "ignore"
        yield line


def _text(cell: Cell) -> Text:
    shown = cell.shown if isinstance(cell, Value) else cell
    text = shown.copy() if isinstance(shown, Text) else Text(shown)
    text.expand_tabs(4)
    return text


def _width(text: str) -> int:
    return max(map(cell_len, text.split("\n")))


def _least(column: Column, cells: Sequence[Text]) -> int:
    """Returns the narrowest width at which nothing of the column is broken where it must not be."""
    heading = max(map(cell_len, column.name.split()), default=0)
    if not column.gives_way:
        return max(heading, *(_width(cell.plain) for cell in cells), 0)
    longest = max(
        itertools.chain.from_iterable(map(cell_len, pieces(cell.plain)) for cell in cells), default=0
    )
    if column.kind is Kind.SENTENCE:
        widest = max((_width(cell.plain) for cell in cells), default=0)
        longest = max(longest, min(widest, LEAST_OF_SENTENCES))
    return max(heading, longest)


def pieces(text: str) -> list[str]:
    """Returns the parts that must stay whole: words, cut after separators that do not stand between two digits."""
    found = []
    for word in text.split():
        start = 0
        for i in range(len(word) - 1):
            if word[i] in SEPARATORS and not (i and word[i - 1].isdigit() and word[i + 1].isdigit()):
                found.append(word[start : i + 1])
                start = i + 1
        found.append(word[start:])
    return found


def wrap(text: Text, width: int) -> list[Text]:
    """Returns lines of at most `width` cells, broken between words where they fit, after a separator where a word is
    too long, and anywhere where a single piece is. At least one line."""
    lines: list[Text] = []
    for paragraph in text.split("\n", allow_blank=True):
        parts = paragraph.divide(_breaks(paragraph.plain, max(1, width)))
        for part in parts:
            part.rstrip()
        lines.extend(parts or [Text()])
    return lines or [Text()]


def _breaks(line: str, width: int) -> list[int]:
    """Returns the offsets at which a new line begins."""
    breaks: list[int] = []
    used = offset = 0
    blank = True  # nothing but an indent so far
    for token in _tokens(line):
        size = cell_len(token)
        if token.isspace():  # where it ends a line it is stripped
            used += size
            offset += len(token)
            continue
        if used + size > width and not blank:
            breaks.append(offset)
            used = 0
        parts = [token] if used + size <= width else _parts(token, width)
        for part in parts:
            if used and used + cell_len(part) > width:
                breaks.append(offset)
                used = 0
            used += cell_len(part)
            offset += len(part)
        blank = False
    return breaks


def _parts(word: str, width: int) -> Iterable[str]:
    """Returns the pieces of a word, cut where one is longer than a line."""
    for piece in pieces(word):
        yield from _cut(piece, width)


def _tokens(line: str) -> list[str]:
    """Returns the words and the spaces between them."""
    return ["".join(group) for _, group in itertools.groupby(line, str.isspace)]


def _cut(piece: str, width: int) -> Iterable[str]:
    """Returns parts of at most `width` cells."""
    part, used = "", 0
    for character in piece:
        size = cell_len(character)
        if part and used + size > width:
            yield part
            part, used = "", 0
        part += character
        used += size
    yield part
