"""Reading an error body, whatever its shape, into words to classify and a message to show."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.router.adapters.providers.fields import Undecodable, as_dict, as_list, decode

#: Bodies beyond this are not read: an error is short, and a page of HTML says nothing more further down.
_MAX_BODY_BYTES = 64 * 1024
_MAX_MESSAGE = 300

_MESSAGE_FIELDS = (
    "message",
    "Message",
    "error_message",
    "errorMessage",
    "detail",
    "details",
    "msg",
    "description",
    "error_description",
    "faultstring",
    "title",
    "error",
)
_CODE_FIELDS = (
    "type",
    "code",
    "status",
    "__type",
    "error_type",
    "error_code",
    "errorCode",
    "reason",
    "title",
    "param",
    # Writer: "fail.model.notFound".
    "key",
)
_TITLE = re.compile(r"<title[^>]*>\s*(.*?)\s*</title>", re.IGNORECASE | re.DOTALL)
_SPACES = re.compile(r"\s+")

# Keys as the vendors write them, then whatever stands where a key is announced.
_SECRETS = re.compile(
    r"(?:\b(?:sk|pk|rk|gsk|csk|xai|pplx|hf|r8|fw|tgp|nvapi|key)[-_][A-Za-z0-9_\-*.]{6,}"
    r"|\bAIza[\w\-*]{6,}|\bya29\.[\w\-.]+|\bABSK[\w+/=]{8,}|\b(?:AKIA|ASIA)[A-Z0-9]{8,}|\beyJ[\w\-]{8,}\.[\w\-.]+)"
)
_ANNOUNCED = re.compile(
    r"(\b(?:bearer|api[ _-]?key(?: provided)?|access[ _-]?token|authorization|x-api-key|secret|password)\b"
    r"(?:\s*[:=]\s*|\s+(?=\S*[\d*])))[\"'`<]?[^\s\"'`,;]{3,}",
    re.IGNORECASE,
)

#: What an error inside a 200 would have had as its status. The longest fitting name decides.
_STATUS_OF_WORD = {
    "overloaded": 529,
    "rate_limit": 429,
    "ratelimit": 429,
    "too_many_requests": 429,
    "throttl": 429,
    "insufficient_quota": 429,
    "resource_exhausted": 429,
    "authentication": 401,
    "unauthenticated": 401,
    "invalid_api_key": 401,
    "permission": 403,
    "billing": 402,
    "credit": 402,
    "spending_limit": 402,
    "not_found": 404,
    "request_too_large": 413,
    "invalid_request": 400,
    "invalid_argument": 400,
    "invalid_prompt": 400,
    "validation": 400,
    "tool_use_failed": 400,
    "content_filter": 400,
    "context_length": 400,
    "context_window": 400,
    "too_long": 400,
    "timeout": 504,
    "deadline_exceeded": 504,
    "unavailable": 503,
    "modelstreamerror": 424,
}


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """`words`: codes and message in lower case. `message`: the provider's own, unredacted. `data`: the decoded
    body, None where it is not JSON. `status`: the HTTP status the body itself states, 0 where none."""

    words: str
    message: str
    data: Any
    status: int


def read_error(body: bytes | Any, headers: Mapping[str, str]) -> ErrorBody:
    """Reads an error body: bytes of JSON, HTML or text, or an already decoded value. Never raises."""
    if not isinstance(body, bytes):
        return _from_json(body, headers)
    body = body[:_MAX_BODY_BYTES]
    try:
        data = decode(body)
    except Undecodable:
        text = body.decode("utf-8", "replace")
        # A stream's error can arrive as one event.
        if text.startswith("data:"):
            return read_error(text[5:].encode(), headers)
        title = _TITLE.search(text)
        if title:
            text = title.group(1)
        elif "<" in text[:64] and ">" in text:
            text = re.sub(r"<[^>]*>", " ", text)
        message = _SPACES.sub(" ", text).strip()
        return ErrorBody(f"{headers.get('x-amzn-errortype', '')} {message}".lower(), message, None, 0)
    return _from_json(data, headers)


def redact(message: str) -> str:
    """At most 300 characters, without anything that looks like a key."""
    message = _ANNOUNCED.sub(r"\1[redacted]", _SECRETS.sub("[redacted]", message[:2000]))
    return message if len(message) <= _MAX_MESSAGE else message[: _MAX_MESSAGE - 1] + "…"


def status_in_words(error: ErrorBody) -> int:
    """The HTTP status that an error inside a 200 stands for: what it states, else what its name says, else 500."""
    if 400 <= error.status < 600:
        return error.status
    found = [name for name in _STATUS_OF_WORD if name in error.words.replace(" ", "_")]
    return _STATUS_OF_WORD[max(found, key=len)] if found else 500


def _from_json(data: Any, headers: Mapping[str, str]) -> ErrorBody:
    codes = [headers.get("x-amzn-errortype", "").partition(":")[0]]
    messages: list[str] = []
    statuses: list[int] = []
    _collect(data, codes, messages, statuses, depth=0)
    message = next((m for m in messages if m), "")
    # OpenRouter and others wrap the upstream's error: its words say more than "Provider returned error".
    if len(messages) > 1 and len(message) < 40:
        message = f"{message}: {messages[1]}" if message else messages[1]
    words = _SPACES.sub(" ", " ".join((*codes, *messages))).lower()
    return ErrorBody(words, _SPACES.sub(" ", message).strip(), data, statuses[0] if statuses else 0)


def _collect(data: Any, codes: list[str], messages: list[str], statuses: list[int], depth: int) -> None:
    if depth > 8:
        return
    if isinstance(data, str):
        text = data.strip()
        nested = _nested(text) if depth else None
        if nested is not None:
            _collect(nested, codes, messages, statuses, depth + 1)
        elif text:
            messages.append(text[:4000])
        return
    if isinstance(data, list):
        for item in data[:8]:
            _collect(item, codes, messages, statuses, depth + 1)
        return
    fields = as_dict(data)
    for name in ("status_code", "http_code", "http_status", "statusCode", "status", "code"):
        number = fields.get(name)
        if isinstance(number, str) and number.isascii() and number.isdigit() and len(number) == 3:
            number = int(number)
        if type(number) is int and 400 <= number < 600:
            statuses.append(number)
    codes.extend(str(value) for name in _CODE_FIELDS if isinstance(value := fields.get(name), (str, int)))
    if not isinstance(fields.get("error"), str):
        _collect(fields.get("error"), codes, messages, statuses, depth + 1)
    for name in _MESSAGE_FIELDS:
        value = fields.get(name)
        if isinstance(value, str) and (name != "error" or not messages or value not in messages):
            _collect(value, codes, messages, statuses, depth + 1)
        elif name != "error" and isinstance(value, (list, dict)):
            items = as_list(value) or [value]
            _collect([_without_input(item) for item in items], codes, messages, statuses, depth + 1)
    for name in ("errors", "metadata", "raw", "innererror", "inner_error", "error_details", "fault"):
        value = fields.get(name)
        if value is not None:
            _collect(value, codes, messages, statuses, depth + 1)
    if fields.get("flagged_input") is not None:
        codes.append("flagged")


def _nested(text: str) -> Any:
    """The JSON that a message is, or None where it is prose."""
    if not text.startswith(("{", "[")):
        return None
    try:
        return decode(text)
    except Undecodable:
        return None


def _without_input(item: Any) -> Any:
    # FastAPI repeats the offending input, which is the prompt.
    if type(item) is not dict:
        return item
    return {name: item[name] for name in ("type", "msg", "reason", "message", "detail") if name in item}
