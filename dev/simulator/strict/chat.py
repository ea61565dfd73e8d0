"""Readings of the messages and tools of chat completions, which many vendors share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dev.simulator.strict.rule import Found, Sent, object_of, objects, text

IMAGE_TYPES = ("image/jpeg", "image/png", "image/gif", "image/webp")


def messages(sent: Sent) -> list[Mapping[str, Any]]:
    """Returns the messages."""
    return objects(sent.body.get("messages"))


def calls(sent: Sent) -> Iterator[tuple[int, int, Mapping[str, Any]]]:
    """Gives every call of the history with the places of its message and of itself."""
    for i, message in enumerate(messages(sent)):
        for j, call in enumerate(objects(message.get("tool_calls"))):
            yield i, j, call


def functions(sent: Sent) -> list[Mapping[str, Any]]:
    """Returns the functions on offer, each in its tool's place."""
    return [object_of(tool.get("function")) for tool in objects(sent.body.get("tools"))]


def parts(sent: Sent) -> Iterator[tuple[int, int, Mapping[str, Any]]]:
    """Gives every part of the messages with the places of its message and of itself."""
    for i, message in enumerate(messages(sent)):
        for j, part in enumerate(objects(message.get("content"))):
            yield i, j, part


def words(sent: Sent) -> Iterator[str]:
    """Gives every text of the messages."""
    for message in messages(sent):
        yield text(message.get("content"))
        for part in objects(message.get("content")):
            yield text(part.get("text"))


def unanswered(sent: Sent) -> Found:
    """Finds calls that no message of the tool's answers before another speaks."""
    given = messages(sent)
    for i, message in enumerate(given):
        asked = [text(call.get("id")) for call in objects(message.get("tool_calls"))]
        answers = set()
        for following in given[i + 1 :]:
            if following.get("role") != "tool":
                break
            answers.add(text(following.get("tool_call_id")))
        missing = [call for call in asked if call not in answers]
        if missing:
            return {"i": i, "ids": ", ".join(missing)}
    return None


def unasked(sent: Sent) -> Found:
    """Finds an answer of a tool's to no call of the assistant's message before it."""
    asked: set[str] = set()
    for i, message in enumerate(messages(sent)):
        if message.get("role") == "assistant":
            asked = {text(call.get("id")) for call in objects(message.get("tool_calls"))}
        elif message.get("role") != "tool":
            asked = set()
        elif text(message.get("tool_call_id")) not in asked:
            return {"i": i, "id": text(message.get("tool_call_id"))}
    return None


def without_word(sent: Sent) -> Found:
    """Finds JSON wanted of any shape where no text of the messages says the word."""
    if object_of(sent.body.get("response_format")).get("type") != "json_object":
        return None
    return None if any("json" in word.lower() for word in words(sent)) else {}


def stops(sent: Sent) -> list[str]:
    """Returns the stop sequences."""
    given = sent.body.get("stop")
    many = given if isinstance(given, list) else [given]
    return [stop for stop in many if isinstance(stop, str)]


def data_url(value: Any) -> tuple[str, int] | None:
    """Returns media type and size in base64 of an image inside a data URL; None for any other URL."""
    url = text(object_of(value).get("url") if isinstance(value, dict) else value)
    if not url.startswith("data:"):
        return None
    head, _, data = url[5:].partition(",")
    return head.partition(";")[0], len(data)
