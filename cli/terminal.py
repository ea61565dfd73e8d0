"""Writes texts and JSON objects to a terminal, a file or a pipe: by its width, in the characters that it shows.

Characters that the other end cannot show are replaced by one of the same width, so that tables stay in line: a dash
by `-`, an arrow by `>`, a letter with an accent by the letter, anything else by `?`. JSON is never changed: it is
written with escapes there.
"""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
import unicodedata
from collections.abc import Mapping
from typing import IO, Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from cli.layout import wrap

#: The width of a file or a pipe, which has none of its own: room enough for most tables.
PIPE_WIDTH = 120
#: The width of a terminal that states none.
TERMINAL_WIDTH = 80
#: The error handler's name.
SIMILAR = "pointsman.similar"
_SIMILAR = str.maketrans("—–‒−─━│┃→←·•…“”„‘’×╭╮╰╯", '-----=||><-*."""\'\'x++++')


def configure_output(environ: Mapping[str, str]) -> None:
    """Makes standard output and error take every text. A terminal whose locale is "C" gets ASCII, though Python
    itself would write UTF-8 there."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            ascii_only = stream.isatty() and _plain_locale(environ)
            stream.reconfigure(encoding="ascii" if ascii_only else None, errors=SIMILAR)


def _plain_locale(environ: Mapping[str, str]) -> bool:
    # Where only LANG says "C", Python has set LC_CTYPE to C.UTF-8 itself by now (PEP 538).
    locale = environ.get("LC_ALL") or environ.get("LC_CTYPE") or environ.get("LANG", "")
    if locale == "C.UTF-8" and not environ.get("LC_ALL"):
        locale = environ.get("LANG", "")
    return locale in {"C", "POSIX"}


def to_ascii(text: str) -> str:
    """Returns the text in ASCII, each character by one of its own width."""
    return "".join(character if character.isascii() else _ascii_character(character) for character in text)


def _ascii_character(character: str) -> str:
    width = cell_len(character)
    plain = unicodedata.normalize("NFKD", character.translate(_SIMILAR)).encode("ascii", "ignore").decode()
    return plain if len(plain) == width else "?" * width


def _replace(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return to_ascii(error.object[error.start : error.end]), error.end


codecs.register_error(SIMILAR, _replace)


def console(stream: IO[str] | None = None) -> Console:
    """Returns a console on a stream, by default standard output."""
    stream = stream or sys.stdout
    shown = Console(file=stream, highlight=False)
    if not shown.is_terminal and "COLUMNS" not in os.environ:
        shown.size = shown.size._replace(width=PIPE_WIDTH)
    elif shown.is_dumb_terminal:  # rich takes it for 80 columns wide, whatever it says
        shown.size = shown.size._replace(width=_stated_width(stream))
    return shown


def _stated_width(stream: IO[str]) -> int:
    if (columns := os.environ.get("COLUMNS", "")).isdigit() and int(columns):
        return int(columns)
    try:
        return os.get_terminal_size(stream.fileno()).columns or TERMINAL_WIDTH
    except (OSError, ValueError):
        return TERMINAL_WIDTH


def write_sentence(to: Console, sentence: str | Text) -> None:
    """Writes one sentence: broken between words on a terminal, whole elsewhere, where a program may look for it."""
    text = Text(sentence) if isinstance(sentence, str) else sentence
    indent = len(text.plain) - len(text.plain.lstrip(" "))
    lines = [text]
    if to.is_terminal:
        lines = [Text(" " * indent) + line for line in wrap(text[indent:], to.width - indent)]
    for line in lines:
        to.print(line, soft_wrap=True)


class StreamWrap:
    """Breaks a text between words while it comes in: gives back all but its last word, which may not have ended."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._used = 0
        self._word = ""

    def feed(self, text: str) -> str:
        """Takes the next part; returns what can be shown of it."""
        shown = []
        for character in text:
            if not character.isspace():
                self._word += character
                continue
            shown.append(self.flush())
            if character == "\n":
                shown.append(character)
                self._used = 0
            elif self._used < self._width:
                shown.append(" ")
                self._used += 1
        return "".join(shown)

    def flush(self) -> str:
        """Returns the word that was held back; call it at the end too."""
        word, self._word = self._word, ""
        size = cell_len(word)
        if not size:
            return word
        if not self._used or self._used + size <= self._width:
            self._used += size
            return word
        self._used = size
        return "\n" + word


class Flow:
    """A text that is written while it comes in: broken between words on a terminal, as it is elsewhere."""

    def __init__(self, to: Console) -> None:
        self._to = to.file
        self._wrap = StreamWrap(to.width) if to.is_terminal else None

    def write(self, text: str) -> None:
        """Writes the next part. On a terminal its last word is held back, since it may not have ended."""
        self._put(text if self._wrap is None else self._wrap.feed(text))

    def end(self) -> None:
        """Writes what was held back."""
        if self._wrap is not None:
            self._put(self._wrap.flush())

    def _put(self, text: str) -> None:
        self._to.write(text)
        self._to.flush()


def write_json(fields: Any, stream: IO[str] | None = None) -> None:
    """Writes one object on a line of its own, at once."""
    stream = stream or sys.stdout
    whole = (getattr(stream, "encoding", None) or "utf-8").lower().startswith("utf")
    stream.write(json.dumps(fields, ensure_ascii=not whole) + "\n")
    stream.flush()
