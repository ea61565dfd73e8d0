"""Bodies as large as they may be, made to cost more than that: each is read or refused in little time and memory."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from libs.http.errors import MAX_REPEATED
from services.router.api.openai.chat_request import read_chat
from services.router.api.openai.decode import MAX_STRINGS
from services.router.api.openai.errors import ApiError, error_body
from services.router.api.openai.responses_request import read_responses

SIZE = 10_000_000
#: Seconds of this thread's own CPU, whatever else runs on the machine; and bytes at the peak, body not included.
MOST_CPU, MOST_MEMORY = 0.25, 3 * SIZE
USER = '"model":"auto","messages":[{"role":"user","content":"x"}]'
Read = Callable[[bytes, dict[str, str], str], Any]


def filled(before: str, piece: str, after: str, size: int = SIZE) -> bytes:
    """`piece` again and again, with commas where it is an element."""
    return (before + piece * ((size - len(before) - len(after)) // len(piece)) + after).encode()


def elements(before: str, element: str, after: str, size: int = SIZE) -> bytes:
    """The same as elements of a list or object."""
    return filled(before, element + ",", element + after, size)


def field(name: str, element: str, brackets: str = "[]") -> bytes:
    """A chat request with an optional field that holds as many elements as fit."""
    return elements(f'{{{USER},"{name}":{brackets[0]}', element, f"{brackets[1]}}}")


MESSAGE = '{"role":"user","content":"x"}'
TOOL = '{"type":"function","function":{"name":"f"}}'
CALL = '{"type":"function_call","call_id":"c","name":"f","arguments":"{}"}'
CHAT = {
    "empty messages": elements('{"model":"auto","messages":[', "{}", "]}"),
    "messages": elements('{"model":"auto","messages":[', MESSAGE, "]}"),
    "parts": elements(
        '{"model":"auto","messages":[{"role":"user","content":[', '{"type":"text","text":""}', "]}]}"
    ),
    "nulls for parts": elements('{"model":"auto","messages":[{"role":"user","content":[', "null", "]}]}"),
    "tool calls": elements(
        '{"model":"auto","messages":[{"role":"assistant","tool_calls":[', '{"id":""}', "]}]}"
    ),
    "empty tool calls": elements(
        '{"model":"auto","messages":[{"role":"assistant","tool_calls":[', "{}", "]}]}"
    ),
    "tools": field("tools", TOOL),
    "empty tools": field("tools", "{}"),
    "stops": field("stop", '""'),
    "models": field("models", '"a"'),
    "fallbacks": field("fallbacks", "0"),
    "metadata": field("metadata", '"":""', "{}"),
    "biases": field("logit_bias", '"1":1', "{}"),
    "modalities": field("modalities", '"text"'),
    "functions": field("functions", "[]"),
    "function call": field("function_call", "{}"),
    "audio": field("audio", "[[]]"),
    "web search": field("web_search_options", '"a":[]', "{}"),
    "unknown field": field("unheard_of", "[],{},0"),
    "deep": filled(f'{{{USER},"x":', "[", ""),
    "deep schema": filled(f'{{{USER},"tools":[{{"type":"function","function":{{"parameters":', '{"a":', ""),
    "blanks": filled("{", " ", "}"),
    "digits": filled(f'{{{USER},"max_tokens":', "9", "}"),
    "digits of a fraction": filled(f'{{{USER},"temperature":0.', "9", "}"),
    "quotes": filled("", '"', ""),
    "a type of many letters": filled(f'{{{USER},"tools":[{{"type":"', "x", '"}]}'),
}
RESPONSES = {
    "empty items": elements('{"model":"auto","input":[', "{}", "]}"),
    "items": elements('{"model":"auto","input":[', MESSAGE, "]}"),
    "calls of one turn": elements('{"model":"auto","input":[', CALL, "]}"),
    "thoughts": elements('{"model":"auto","input":[', '{"type":"reasoning"}', "]}"),
    "tools": elements('{"model":"auto","input":"x","tools":[', '{"type":"function"}', "]}"),
    "include": elements('{"model":"auto","input":"x","include":[', '"a"', "]}"),
    "prompt": elements('{"model":"auto","input":"x","prompt":[', "[]", "]}"),
    "instructions that are none": elements('{"model":"auto","input":"x","instructions":[', "[]", "]}"),
}


def cost(read: Read, body: bytes) -> tuple[ApiError | None, float, int]:
    """Returns the error that reading ended with, its CPU seconds, and the most bytes it held at once."""
    began = time.thread_time()
    error = outcome(read, body)
    seconds = time.thread_time() - began
    error = None
    tracemalloc.start()
    try:
        error = outcome(read, body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return error, seconds, peak


def outcome(read: Read, body: bytes) -> ApiError | None:
    """The refusal; None: it was read."""
    try:
        read(body, {}, "r1")
    except ApiError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("read", "body"),
    [(read_chat, body) for body in CHAT.values()] + [(read_responses, body) for body in RESPONSES.values()],
    ids=[*CHAT, *RESPONSES],
)
def test_a_body_of_ten_megabytes_costs_little(read: Read, body: bytes) -> None:
    """Refused with a 400 of a few words, or read because it holds nothing but what is ignored."""
    error, seconds, peak = cost(read, body)
    if error is not None:
        assert error.status == 400
        assert len(error_body(error)) < 2_000
    assert seconds < MOST_CPU
    assert peak < MOST_MEMORY


@pytest.mark.parametrize("piece", ["1,2,", "\\\\", '\\"', "{}[]", "\\u0022", "😀", '{\\"a\\": [1, 2]}, '])
def test_a_long_text_is_no_attack(piece: str) -> None:
    """Tables, JSON and quotes in a prompt are text, however many of them there are."""
    text = piece * (2_000_000 // len(piece.encode()))
    body = f'{{"model":"auto","messages":[{{"role":"user","content":"{text}"}}]}}'.encode()
    assert outcome(read_chat, body) is None
    body = f'{{"model":"auto","input":[{{"role":"user","content":"{text}"}}]}}'.encode()
    assert outcome(read_responses, body) is None


@pytest.mark.parametrize(
    ("read", "body", "param"),
    [
        (read_chat, elements('{"model":"auto","messages":[', MESSAGE, "]}", 40_000), "messages"),
        (read_chat, elements(f'{{{USER},"tools":[', TOOL, "]}", 20_000), "tools"),
        (read_chat, elements(f'{{{USER},"stop":[', '"a"', "]}", 100_000), "stop"),
        (
            read_responses,
            elements('{"model":"auto","input":[', '{"type":"reasoning"}', "]}", 200_000),
            "input",
        ),
        (read_responses, elements('{"model":"auto","input":[', CALL, "]}", 100_000), "input[1000]"),
        (read_chat, f'{{{USER},"seed":{2**63}}}'.encode(), "seed"),
    ],
)
def test_what_there_is_too_much_of_is_named(read: Read, body: bytes, param: str) -> None:
    """Before anybody loops over it."""
    error = outcome(read, body)
    assert error is not None
    assert (error.status, error.param) == (400, param)


def test_strings_are_counted_exactly() -> None:
    """Quotes in texts do not count, however they are escaped."""
    values = ",".join(['"\\\\\\""'] * (MAX_STRINGS - 8))
    assert outcome(read_chat, f'{{{USER},"x":[{values}]}}'.encode()) is None
    error = outcome(read_chat, f'{{{USER},"x":[{values},"",""]}}'.encode())
    assert error is not None
    assert error.code == "too_many_strings"


def test_what_an_error_repeats_is_cut() -> None:
    """A type of a megabyte is not sent back."""
    error = outcome(read_chat, f'{{{USER},"tools":[{{"type":"{"x" * 1_000_000}"}}]}}'.encode())
    assert error is not None
    assert len(error.message) <= 1000
    assert MAX_REPEATED < 1000
