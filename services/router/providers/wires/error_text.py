"""Reads the texts in which errors stand: pages of HTML, and texts that hold another server's error, as JSON or as
Python prints it. Linear, whatever the text."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import Any

from services.router.providers.wires.fields import Undecodable, decode

#: Characters that are read of a text that holds an error.
_MAX_TEXT = 64 * 1024
_SPACES = re.compile(r"\s+")
#: The beginning of an object.
_OBJECT = re.compile(r"\{\s*[\"']")
#: Strings and constants as Python prints them. A string that does not end is one to the end of the text, so that its
#: characters are tried once.
_PYTHON = re.compile(r"'(?:[^'\\]|\\.)*(?:'|$)|\"(?:[^\"\\]|\\.)*(?:\"|$)|\b(?:None|True|False)\b", re.DOTALL)
_CONSTANTS = {"None": "null", "True": "true", "False": "false"}
#: Escapes that Python has and JSON has not.
_ESCAPES = re.compile(r"\\(?:x([0-9a-f]{2})|(.))", re.DOTALL)


def nested(text: str) -> tuple[str, Any]:
    """Returns the prose of a text and the decoded value that it is or holds: another server's error, handed on ("The
    model returned the following errors: {...}. Received ..."). None: it is prose."""
    if len(text) <= _MAX_TEXT:
        if text.startswith("["):
            value = _decoded(text)
            if value is not None:
                return "", value
        if found := _OBJECT.search(text):
            begun, end = found.start(), text.rfind("}") + 1
            value = _decoded(text[begun:end])
            if value is not None:
                return f"{text[:begun].strip()} {text[end:].strip()}".strip(), value
    return text, None


def readable(text: str) -> str:
    """Returns the title of a page of HTML, else its text without tags; any other text as it is."""
    lower = text.lower()
    if len(lower) == len(text) and (opened := lower.find("<title")) >= 0:
        begun, end = lower.find(">", opened) + 1, lower.find("</title", opened)
        if 0 < begun <= end:
            text = text[begun:end]
    if "<" in text[:64]:
        # The text before the first tag, and behind each tag's end.
        first, *rest = text.split("<")
        text = " ".join((first, *(part.partition(">")[2] for part in rest)))
    return _SPACES.sub(" ", text).strip()


def _decoded(text: str) -> Any:
    """Returns the value that JSON or Python's notation stands for; None where it is neither."""
    for written in (text, _PYTHON.sub(_json_token, text)):
        with suppress(Undecodable):
            return decode(written)
    return None


def _json_token(match: re.Match[str]) -> str:
    token = match[0]
    if token in _CONSTANTS:
        return _CONSTANTS[token]
    inner = _ESCAPES.sub(_json_escape, token[1:].removesuffix(token[0]))
    return f'"{inner}"' if token[0] == '"' else '"' + inner.replace('"', '\\"') + '"'


def _json_escape(match: re.Match[str]) -> str:
    if match[1]:
        return f"\\u00{match[1]}"
    return match[2] if match[2] == "'" else match[0]
