"""Reads an error body, whatever its shape, into codes and prose to classify and a message to show.

All of it is bounded before anything is searched: 64 KiB are decoded, of a page or a text 8 KiB are searched, of
prose 2,000 characters, of codes the first sixteen of at most 80 characters each.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.router.providers.wires.error_codes import canonical, is_known
from services.router.providers.wires.error_text import nested, readable
from services.router.providers.wires.fields import Undecodable, as_list, as_str, decode

#: Bodies beyond this are not read: an error is short, and a page of HTML says nothing more further down.
_MAX_BODY_BYTES = 64 * 1024
#: Characters of a body that is not JSON.
_MAX_PAGE = 8 * 1024
#: Characters that are kept of each message, the number of messages, and the characters searched for words.
_MAX_TEXT = 2000
_MAX_MESSAGES = 8
MAX_PROSE = 2000
_MAX_CODES = 16
_MAX_CODE = 80
_MAX_MESSAGE = 300

_MESSAGE_FIELDS = (
    "message",
    "Message",
    "error_message",
    "errorMessage",
    "detail",
    "details",
    "msg",
    "status_msg",
    "error_msg",
    "description",
    "error_description",
    "faultstring",
    "title",
    "error",
)
#: Fields that hold more of the error, or the error of another server.
_PARTS = (
    "errors",
    "_errors",
    "metadata",
    "raw",
    "innererror",
    "inner_error",
    "upstream_error",
    "error_details",
    "fault",
    # MiniMax: {"base_resp": {"status_code": 1008, "status_msg": "insufficient balance"}}.
    "base_resp",
    # Tencent: {"Response": {"Error": {"Code": ..., "Message": ...}}}.
    "Response",
    "Error",
)
_CODE_FIELDS = (
    "type",
    "code",
    "status",
    "__type",
    "error_type",
    "error_code",
    "errorCode",
    "Code",
    "reason",
    "title",
    # Writer: "fail.model.notFound".
    "key",
)
_SPACES = re.compile(r"\s+")
#: Characters of names: a word with one of them is a field, a function or a code, as often the caller's as the
#: provider's.
_IN_NAMES = frozenset("_[]")
#: Punctuation around a word that makes no name of it.
_AROUND = "()[],.:;"
#: A code in the place where a text states one: "context_length_exceeded: ...", "finish_reason=...", "[...]".
_STATED = re.compile(r"(?:^|[:=(\[{,] ?)([a-z]{2,20}(?:_[a-z]{2,20}){1,5})(?=$|[\])}:,. ])")
_QUOTES = {'"': '"', "`": "`", "'": "'", "\u201c": "\u201d", "\u2018": "\u2019", "\u00ab": "\u00bb"}
_QUOTES |= {"\u201e": "\u201c", "\u201a": "\u2018", "\u300c": "\u300d", "\u300e": "\u300f"}
#: The mark in prose where something was quoted or named.
NAMED = "*"

# Keys as the vendors write them, then whatever stands where a key is announced.
#: Longer than any word, name or number; shorter than the smallest image.
_BASE64 = re.compile(r"[A-Za-z0-9+/]{64,}={0,2}")
_SECRETS = re.compile(
    r"(?:\b(?:sk|pk|rk|gsk|csk|xai|pplx|hf|r8|fw|tgp|nvapi|key)[-_][A-Za-z0-9_\-*.]{6,}"
    r"|\bAIza[\w\-*]{6,}|\bya29\.[\w\-.]+|\bABSK[\w+/=]{8,}|\b(?:AKIA|ASIA)[A-Z0-9]{8,}|\beyJ[\w\-.]{10,})"
)
_ANNOUNCED = re.compile(
    r"(\b(?:bearer|api[ _-]?key(?: provided)?|access[ _-]?token|authorization|x-api-key|secret|password)\b"
    r"(?: ?[:=] ?| (?=[^ ]*[\d*])))[\"'`<]?[^\s\"'`,;]{3,}",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """An error body as it was read. `codes`: machine-readable words, canonical. `prose`: the messages in lower case,
    without quotations and names. `words`: the same with them, for waits. `message`: the provider's own, unredacted.
    `param`: the field that is blamed. `data`: the decoded body, None where it is not JSON. `status`: the HTTP status
    the body itself states, 0 where none. `wrapped`: it is another server's error, handed on. `quoted`: codes that
    stand in text or metadata alone, where the caller's words may stand as well, with their spelling there.
    `inner_status`: the status that such a text states, 0 where none; `inner_words`: its field and number.
    `in_prose`: those of `quoted` that stand between words, without a field of their own."""

    codes: tuple[str, ...]
    prose: str
    words: str
    message: str
    param: str
    data: Any
    status: int
    wrapped: bool
    quoted: Mapping[str, str]
    inner_status: int = 0
    inner_words: str = ""
    in_prose: frozenset[str] = frozenset()


class _Found:
    """Codes, messages and statuses collected so far."""

    def __init__(self, code: str) -> None:
        self.codes = [code] if code else []
        self.own: set[str] = set()
        self.quoted: dict[str, str] = {}
        #: The number of texts around the place that is being read.
        self.quoting = 0
        self.messages: list[str] = []
        self.statuses: list[int] = []
        self.inner: tuple[int, str] = (0, "")
        self.param = ""
        self.wrapped = False

    def code(self, value: Any) -> None:
        text = str(value) if type(value) is int and abs(value) < 10**9 else as_str(value)
        if text and len(text) <= _MAX_CODE and len(self.codes) < _MAX_CODES:
            self.codes.append(text)
            if self.quoting:
                self.quoted.setdefault(canonical(text), text)
            else:
                self.own.add(canonical(text))

    def message(self, text: str) -> None:
        if len(self.messages) < _MAX_MESSAGES:
            self.messages.append(text[:_MAX_TEXT])

    def error(self, data: Any) -> ErrorBody:
        """Returns all of it as an ErrorBody. `data`: the decoded body."""
        message = next((text for text in self.messages if text), "")
        # OpenRouter and others wrap the upstream's error: its words say more than "Provider returned error".
        if len(self.messages) > 1 and len(message) < 40:
            message = f"{message}: {self.messages[1]}" if message else self.messages[1]
        # A sentence in the place of a code is prose.
        sentences = [code for code in self.codes if " " in code]
        words = _plain(" ".join((*self.messages, *sentences))[:MAX_PROSE])
        in_prose = frozenset[str]()
        if not any(map(is_known, self.own)):
            # The text's own code, where no field holds one.
            stated = [text for text in _STATED.findall(words) if is_known(canonical(text))]
            in_prose = frozenset(stated) - set(self.quoted.values())
            self.quoting += 1
            for text in stated:
                self.code(text)
        return ErrorBody(
            tuple(dict.fromkeys(canonical(code) for code in self.codes)),
            without_names(words),
            words,
            _SPACES.sub(" ", message).strip(),
            self.param,
            data,
            self.statuses[0] if self.statuses else 0,
            self.wrapped,
            {code: text for code, text in self.quoted.items() if code not in self.own},
            *self.inner,
            in_prose=in_prose,
        )


def read_error(body: bytes | Any, headers: Mapping[str, str]) -> ErrorBody:
    """Reads an error body: bytes of JSON, HTML or text, or an already decoded value. Never raises."""
    found = _Found(headers.get("x-amzn-errortype", "")[:_MAX_CODE])
    data = body
    if isinstance(body, bytes):
        body = body[:_MAX_BODY_BYTES]
        if body.startswith(b"data:"):
            # A stream's error can arrive as one event.
            body = body[5:]
        try:
            data = decode(body)
        except Undecodable:
            text = readable(body[: 4 * _MAX_PAGE].decode("utf-8", "replace")[:_MAX_PAGE])
            _collect(text, found, depth=1)
            return found.error(None)
    _collect(data, found, depth=0)
    return found.error(data)


def without_names(words: str) -> str:
    """Returns words without what they quote ('...', "...", `...`) and without names of fields and functions; NAMED
    stands in their place. Where a quotation does not end, the rest is left out. Linear."""
    kept: list[str] = []
    at = begun = 0
    while at < len(words):
        close = _QUOTES.get(words[at])
        # An apostrophe inside or behind a word or a bracket opens nothing, and one inside a word closes nothing.
        if close is None or (words[at] == "'" and at and (words[at - 1].isalnum() or words[at - 1] in ")]")):
            at += 1
            continue
        kept.append(words[begun:at])
        kept.append(NAMED)
        end = words.find(close, at + 1)
        while end >= 0 and close in "'\u2019" and words[end + 1 : end + 2].isalnum():
            end = words.find(close, end + 1)
        at = begun = len(words) if end < 0 else end + 1
    kept.append(words[begun:])
    words_left = "".join(kept).split(" ")
    return " ".join(NAMED if _IN_NAMES.intersection(word.strip(_AROUND)) else word for word in words_left)


def redact(message: str) -> str:
    """Returns at most 300 characters of a message, without anything that looks like a key or an image's bytes."""
    message = _BASE64.sub("[data]", _SPACES.sub(" ", message[:_MAX_TEXT]))
    message = _ANNOUNCED.sub(r"\1[redacted]", _SECRETS.sub("[redacted]", message))
    return message if len(message) <= _MAX_MESSAGE else message[: _MAX_MESSAGE - 1] + "…"


def _plain(text: str) -> str:
    return _SPACES.sub(" ", html.unescape(text)).strip().lower()


def _collect(data: Any, found: _Found, depth: int) -> None:
    if depth > 8:
        return
    if isinstance(data, str):
        text = data.strip()
        around, inner = nested(text) if depth else (text, None)
        if inner is not None:
            found.quoting += 1
            _collect(inner, found, depth + 1)
            found.quoting -= 1
        if around:
            found.message(readable(around[:_MAX_PAGE]) if around.startswith("<") else around)
        return
    if isinstance(data, list):
        for item in data[:8]:
            _collect(item, found, depth + 1)
        return
    if not isinstance(data, dict):
        return
    fields = _without_input(data)
    for name in ("status_code", "http_code", "http_status", "statusCode", "status", "code"):
        number = fields.get(name)
        if isinstance(number, str) and number.isascii() and number.isdigit() and len(number) == 3:
            number = int(number)
        if type(number) is int and 400 <= number < 600:
            found.statuses.append(number)
            if found.quoting:
                found.inner = (number, f"{name} {number}")
    for name in _CODE_FIELDS:
        found.code(fields.get(name))
    found.param = found.param or as_str(fields.get("param"))
    found.wrapped |= "provider_name" in fields and "raw" in fields
    error = fields.get("error")
    if not isinstance(error, str):
        _collect(error, found, depth + 1)
    elif "_" in error and error.isidentifier():
        # As OAuth has it: {"error": "invalid_grant", "error_description": ...}.
        found.code(error)
    for name in _MESSAGE_FIELDS:
        value = fields.get(name)
        if name != "error" or (isinstance(value, str) and value[:_MAX_TEXT] not in found.messages):
            _collect(value, found, depth + 1)
    for name in _PARTS:
        value = fields.get(name)
        if value is not None:
            found.quoting += name == "metadata"
            _collect(value, found, depth + 1)
            found.quoting -= name == "metadata"
    if fields.get("flagged_input") is not None:
        # Ours, and as good as a code of the provider's.
        found.own.add("flagged")
        found.code("flagged")


def _without_input(item: Mapping[str, Any]) -> Mapping[str, Any]:
    # Pydantic repeats the offending input, which is the prompt, and says where it stands.
    if "loc" not in item:
        return item
    place = {"param": ".".join([part for part in as_list(item["loc"])[:8] if isinstance(part, str)])}
    return place | {
        name: item[name] for name in ("type", "msg", "reason", "message", "detail", "_errors") if name in item
    }
