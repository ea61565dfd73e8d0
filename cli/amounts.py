"""Amounts as spreadsheets and consoles write them: 1234.5, 1,234.50, 1.234,50, 1 234, $0.25, (3.10), −4.

"1,234" is a thousand and more, or a little more than one: the column does not say, so the file is looked through for
a number that can be read in one way alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal, InvalidOperation
from typing import Final, Literal

from cli.failure import CliError

#: No provider bills more than this in a row; larger numbers are a column taken for another.
MAX_AMOUNT: Final = 10**15
DecimalMark = Literal[".", ","]
_POINT = re.compile(r"[+-]?(\d+|[1-9]\d{0,2}(,\d{3})+)?(\.\d*)?(e[+-]?\d{1,3})?", re.ASCII)
_COMMA = re.compile(r"[+-]?(\d+|[1-9]\d{0,2}(\.\d{3})+)?(,\d*)?(e[+-]?\d{1,3})?", re.ASCII)
_FORMS: Final[dict[DecimalMark, re.Pattern[str]]] = {".": _POINT, ",": _COMMA}
#: Spaces of all kinds, and apostrophes, which part thousands too.
_BETWEEN = re.compile(r"[\s'’]")
_MAX_LENGTH: Final = 64


def decimal_mark(
    rows: Iterable[Sequence[str]], whole: Sequence[int], money: Sequence[int], delimiter: str
) -> DecimalMark:
    """Returns the mark before decimals: by the first number of these columns that has one reading. Without any the
    comma where the file parts its cells by semicolons. `whole`: the columns of numbers without decimals."""
    for cells in rows:
        for place in (*whole, *money):
            if place >= len(cells) or cells[place].isdigit():
                continue
            readings = [mark for mark in _FORMS if _is_read(_plain(cells[place]), mark, whole=place in whole)]
            if len(readings) == 1:
                return readings[0]
    return "," if delimiter == ";" else "."


def read_amount(text: str, mark: DecimalMark, scale: int, where: str) -> int:
    """Returns an amount times `scale`, rounded to a whole number; of an empty text 0. Raises CliError."""
    if text.isascii() and text.isdigit() and len(text) < 15:
        return int(text) * scale
    plain = _plain(text)
    amount = _value(plain, mark)
    if amount is None or abs(amount) * scale > MAX_AMOUNT:
        raise CliError(f"{where}: {text.strip()[:40]!r} is not a number")
    return round(amount * scale)


def _is_read(plain: str, mark: DecimalMark, *, whole: bool) -> bool:
    value = _value(plain, mark)
    return value is not None and (not whole or value == value.to_integral_value())


def _plain(text: str) -> str:
    """Returns the amount without currency and parted thousands, with its sign before it."""
    plain = _BETWEEN.sub("", text[: _MAX_LENGTH + 1].lower()).replace("−", "-")
    negative = plain.startswith("(") and plain.endswith(")")
    plain = plain.strip("()") if negative else plain
    plain = plain.replace("usd", "", 1).replace("us$", "$", 1).replace("$", "", 1)
    if plain.endswith("-"):
        plain = f"-{plain[:-1]}"
    return f"-{plain}" if negative else plain


def _value(plain: str, mark: DecimalMark) -> Decimal | None:
    """Returns the number; None: it is none in this form."""
    if len(plain) > _MAX_LENGTH or not _FORMS[mark].fullmatch(plain):
        return None
    if not plain:
        return Decimal(0)
    parts = "," if mark == "." else "."
    try:
        return Decimal(plain.replace(parts, "").replace(mark, "."))
    except InvalidOperation:
        return None
