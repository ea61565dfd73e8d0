"""The rules of generateContent's turns: calls and their results, signatures, data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dev.simulator import signatures
from dev.simulator.strict import models
from dev.simulator.strict.rule import Found, Rule, Sent, object_of, objects, text

_ISSUES = "https://github.com/"
_GENERATE = "https://ai.google.dev/api/generate-content"
_SIGNATURES = "https://ai.google.dev/gemini-api/docs/thought-signatures"
_IMAGES = "https://ai.google.dev/gemini-api/docs/image-understanding"
_DATA = (
    "text",
    "inlineData",
    "fileData",
    "functionCall",
    "functionResponse",
    "executableCode",
    "codeExecutionResult",
)
#: Said in place of a signature by those who have none; documented on the page of signatures.
_STAND_INS = ("context_engineering_is_the_way_to_go", "skip_thought_signature_validator")
_IMAGE_TYPES = ("image/png", "image/jpeg", "image/webp", "image/heic", "image/heif")
_OTHER_TYPES = ("application/pdf", "text/", "audio/", "video/")
_INLINE_BYTES = 20 * 1024 * 1024


def contents(sent: Sent) -> list[Mapping[str, Any]]:
    """Returns the turns."""
    return objects(sent.body.get("contents"))


def parts(sent: Sent) -> Iterator[tuple[int, int, Mapping[str, Any]]]:
    """Gives every part with the places of its turn and of itself."""
    for i, content in enumerate(contents(sent)):
        for j, part in enumerate(objects(content.get("parts"))):
            yield i, j, part


def _no_content(sent: Sent) -> Found:
    return {} if sent.body.get("contents") == [] else None


def _empty_part(sent: Sent) -> Found:
    for i, j, part in parts(sent):
        if not any(name in part for name in _DATA):
            return {"i": i, "j": j}
    return None


def _empty_text(sent: Sent) -> Found:
    for content in contents(sent):
        given = objects(content.get("parts"))
        if given and all(list(part) == ["text"] and part["text"] == "" for part in given):
            return {}
    return None


def _first_role(sent: Sent) -> Found:
    """A call in the first turn follows no user's."""
    for i, _, part in parts(sent):
        if "functionCall" in part:
            before = contents(sent)[i - 1].get("role", "user") if i else "model"
            if before == "model":
                return {}
    return None


def _names(content: Mapping[str, Any], kind: str) -> list[str]:
    return [
        text(object_of(part.get(kind)).get("name")) for part in objects(content.get("parts")) if kind in part
    ]


def _answers(sent: Sent) -> Iterator[tuple[int, list[str], list[str]]]:
    """Gives the place of every turn, its calls, and the answers in the turn after it."""
    given = contents(sent)
    for i, content in enumerate(given):
        following = given[i + 1] if i + 1 < len(given) else {}
        yield i, _names(content, "functionCall"), _names(following, "functionResponse")


def _uneven(sent: Sent) -> Found:
    last = len(contents(sent)) - 1
    for i, calls, answers in _answers(sent):
        if (answers or (calls and i < last)) and len(calls) != len(answers):
            return {}
    return None


def _stray_answer(sent: Sent) -> Found:
    given = contents(sent)
    for i, content in enumerate(given):
        if _names(content, "functionResponse") and not (i and _names(given[i - 1], "functionCall")):
            return {}
    return None


def _nameless_answer(sent: Sent) -> Found:
    for i, j, part in parts(sent):
        if "functionResponse" in part and not text(object_of(part["functionResponse"]).get("name")):
            return {"i": i, "j": j}
    return None


def _response_kind(sent: Sent) -> Found:
    for i, j, part in parts(sent):
        response = object_of(part.get("functionResponse")).get("response")
        if "functionResponse" in part and not isinstance(response, dict):
            return {"i": i, "j": j}
    return None


def _current_turn(sent: Sent) -> int:
    """Returns the place after the last turn of the user's own words: only what follows it is checked."""
    given = contents(sent)
    for i in range(len(given) - 1, -1, -1):
        spoken = any("functionResponse" not in part for part in objects(given[i].get("parts")))
        if given[i].get("role", "user") == "user" and spoken:
            return i + 1
    return 0


def _signature_lost(sent: Sent) -> Found:
    """Of the calls made at once the first carries the signature."""
    if not models.demands_signatures(sent.model):
        return None
    begin = _current_turn(sent)
    for i, content in enumerate(contents(sent)):
        calls = [part for part in objects(content.get("parts")) if "functionCall" in part]
        signed = any(part.get("thoughtSignature") or part.get("thought_signature") for part in calls[:1])
        if i >= begin and calls and not signed:
            return {"name": text(object_of(calls[0]["functionCall"]).get("name")), "position": i + 1}
    return None


def _bad_signature(sent: Sent) -> Found:
    for _, _, part in parts(sent):
        given = text(part.get("thoughtSignature") or part.get("thought_signature"))
        if given and given not in _STAND_INS and not signatures.is_of("gemini", given):
            return {}
    return None


def _media_type(sent: Sent) -> Found:
    for _, _, part in parts(sent):
        for name in ("inlineData", "fileData"):
            kind = text(object_of(part.get(name)).get("mimeType"))
            if name in part and kind not in _IMAGE_TYPES and not kind.startswith(_OTHER_TYPES):
                return {"kind": kind}
    return None


def _media_size(sent: Sent) -> Found:
    size = sum(len(text(object_of(part.get("inlineData")).get("data"))) for _, _, part in parts(sent))
    return {} if size > _INLINE_BYTES else None


CONTENT_RULES: tuple[Rule, ...] = (
    Rule(
        "no content",
        _GENERATE,
        "* GenerateContentRequest.contents: contents is not specified",
        _no_content,
    ),
    Rule(
        "part without data",
        _GENERATE,
        "* GenerateContentRequest.contents[{i}].parts[{j}].data: required oneof field 'data' must have one"
        " initialized field",
        _empty_part,
    ),
    Rule(
        "empty text",
        "https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference",
        "Unable to submit request because it must have a text parameter. Add a text parameter and try again.",
        _empty_text,
    ),
    Rule(
        "call after no user",
        "https://discuss.ai.google.dev/t/46213",
        "Please ensure that function call turn comes immediately after a user turn or after a function response"
        " turn.",
        _first_role,
    ),
    Rule(
        "result after no call",
        _ISSUES + "google-gemini/gemini-cli/pull/26691",
        "Please ensure that function response turn comes immediately after a function call turn.",
        _stray_answer,
    ),
    Rule(
        "results and calls",
        _ISSUES + "google-gemini/gemini-cli/issues/16906",
        "Please ensure that the number of function response parts is equal to the number of function call parts of"
        " the function call turn.",
        _uneven,
    ),
    Rule(
        "result without a name",
        _ISSUES + "nextlevelbuilder/goclaw-docs/issues/54",
        "* GenerateContentRequest.contents[{i}].parts[{j}].function_response.name: Name cannot be empty.",
        _nameless_answer,
    ),
    Rule(
        "result of no object",
        _GENERATE,
        "Invalid value at 'contents[{i}].parts[{j}].function_response.response' (type.googleapis.com/google.protobuf"
        ".Struct)",
        _response_kind,
    ),
    Rule(
        "signature lost",
        _ISSUES + "nanbingxyz/5ire/issues/405",
        "Function call is missing a thought_signature in functionCall parts. This is required for tools to work"
        " correctly, and missing thought_signature may lead to degraded model performance. Additional data, function"
        f" call `default_api:{{name}}` , position {{position}}. Please refer to {_SIGNATURES} for more details.",
        _signature_lost,
    ),
    Rule(
        "signature of others",
        _ISSUES + "google-gemini/gemini-cli/issues/13467",
        "Corrupted thought signature.",
        _bad_signature,
    ),
    Rule(
        "media type",
        _IMAGES,
        "Unsupported MIME type: {kind}",
        _media_type,
    ),
    Rule(
        "size of data",
        _IMAGES,
        "Request payload size exceeds the limit: 20971520 bytes.",
        _media_size,
    ),
)
