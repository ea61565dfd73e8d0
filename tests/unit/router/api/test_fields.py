"""Every field of OpenAI's two APIs, and where each goes: into the request, into a header that names it as ignored, or
into a refusal. The official client knows the fields, so a new one must be given its place here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from openai.types.chat.completion_create_params import CompletionCreateParamsBase
from openai.types.responses.response_create_params import ResponseCreateParamsBase

from libs.conversation import ReasoningSummary
from services.router.api.openai.chat_request import read_chat
from services.router.api.openai.errors import ApiError
from services.router.api.openai.exchange import ParsedRequest
from services.router.api.openai.responses_request import read_responses

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
FLAT = {"type": "function", "name": "f", "parameters": {"type": "object"}}
ASK = {"role": "user", "content": "hi"}

#: Field → a value that makes a difference to the draft.
CHAT_TAKEN: dict[str, Any] = {
    "messages": [{"role": "user", "content": "ho"}],
    "model": "p/other",
    "frequency_penalty": 1.0,
    "max_completion_tokens": 7,
    "max_tokens": 7,
    "metadata": {"a": "b"},
    "parallel_tool_calls": False,
    "presence_penalty": 1.0,
    "reasoning_effort": "low",
    "response_format": {"type": "json_object"},
    "seed": 7,
    "stop": "x",
    "temperature": 1.0,
    "tool_choice": "required",
    "tools": [TOOL],
    "top_p": 0.5,
    "user": "u",
}
#: Taken by the door itself.
CHAT_DOOR = {"stream_options"}
CHAT_IGNORED: dict[str, Any] = {
    "prediction": {"type": "content", "content": "x"},
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "safety_identifier": "s",
    "service_tier": "flex",
    "store": True,
    "verbosity": "low",
    # Of other servers.
    "top_k": 5,
    "min_p": 0.1,
    "repetition_penalty": 1.1,
}
CHAT_REFUSED: dict[str, Any] = {
    "audio": {"voice": "alloy", "format": "wav"},
    "function_call": "auto",
    "functions": [{"name": "f"}],
    "logit_bias": {"1": 1},
    "logprobs": True,
    "modalities": ["audio"],
    "n": 2,
    "top_logprobs": 1,
    "web_search_options": {"user_location": None},
}
RESPONSES_TAKEN: dict[str, Any] = {
    "input": "ho",
    "model": "p/other",
    "instructions": "Be brief.",
    "max_output_tokens": 7,
    "metadata": {"a": "b"},
    "parallel_tool_calls": False,
    "reasoning": {"effort": "low"},
    "temperature": 1.0,
    "text": {"format": {"type": "json_object"}},
    "tool_choice": "required",
    "tools": [FLAT],
    "top_p": 0.5,
    "user": "u",
}
#: `truncation` is taken as `disabled` alone; `include` for encrypted thoughts alone.
RESPONSES_DOOR = {"include", "stream_options"}
RESPONSES_IGNORED: dict[str, Any] = {
    "access_programs": {"a": 1},
    "background_options": {"completion_window": "2h"},
    "image": {"detail": "x"},
    "max_tool_calls": 3,
    "prompt_cache_key": "k",
    "prompt_cache_retention": "24h",
    "safety_identifier": "s",
    "service_tier": "flex",
    "store": True,
}
RESPONSES_REFUSED: dict[str, Any] = {
    "background": True,
    "context_management": [{"type": "compaction"}],
    "conversation": "c",
    "previous_response_id": "r",
    "prompt": {"id": "p"},
    "top_logprobs": 1,
    "truncation": "auto",
}
#: Fields that newer clients may know: they are ignored, and named.
NEW = {"moderation": {"model": "m"}, "prompt_cache_options": {"mode": "x"}}


def _chat(**fields: Any) -> ParsedRequest:
    tools = {"tools": [TOOL]} if "tool_choice" in fields else {}
    body = {"model": "auto", "messages": [ASK], **tools, **fields}
    return read_chat(json.dumps(body).encode(), {}, "r1")[0]


def _responses(**fields: Any) -> ParsedRequest:
    tools = {"tools": [FLAT]} if "tool_choice" in fields else {}
    body = {"model": "auto", "input": "hi", **tools, **fields}
    return read_responses(json.dumps(body).encode(), {}, "r1")[0]


def _known(params: type) -> set[str]:
    return set(params.__annotations__) - {"stream"} - set(NEW)


def test_every_field_of_the_official_client_has_its_place() -> None:
    """No field is left to be dropped without a word."""
    placed = {*CHAT_TAKEN, *CHAT_DOOR, *CHAT_IGNORED, *CHAT_REFUSED}
    assert _known(CompletionCreateParamsBase) - placed == set()
    placed = {*RESPONSES_TAKEN, *RESPONSES_DOOR, *RESPONSES_IGNORED, *RESPONSES_REFUSED}
    assert _known(ResponseCreateParamsBase) - placed == set()


@pytest.mark.parametrize(
    ("read", "fields"), [(_chat, CHAT_TAKEN), (_responses, RESPONSES_TAKEN)], ids=["chat", "responses"]
)
def test_what_is_taken_changes_the_request(read: Any, fields: Mapping[str, Any]) -> None:
    """Each field by itself, against a request without it; and none is called ignored."""
    plain = read().draft
    for name, value in fields.items():
        found = read(**{name: value})
        assert found.draft != plain, name
        assert found.ignored == (), name


@pytest.mark.parametrize(
    ("read", "fields"), [(_chat, CHAT_IGNORED), (_responses, RESPONSES_IGNORED)], ids=["chat", "responses"]
)
def test_what_is_ignored_is_named(read: Any, fields: Mapping[str, Any]) -> None:
    """Each by itself; where it is null, false or empty it asks for nothing."""
    plain = read().draft
    for name, value in {**fields, **NEW}.items():
        found = read(**{name: value})
        assert (found.draft, found.ignored) == (plain, (name,))
        assert read(**{name: None}).ignored == ()


@pytest.mark.parametrize(
    ("read", "fields"), [(_chat, CHAT_REFUSED), (_responses, RESPONSES_REFUSED)], ids=["chat", "responses"]
)
def test_what_cannot_be_passed_on_is_refused_by_name(read: Any, fields: Mapping[str, Any]) -> None:
    """With the code `unsupported_parameter`."""
    for name, value in fields.items():
        with pytest.raises(ApiError) as caught:
            read(**{name: value})
        assert (caught.value.param, caught.value.code) == (name, "unsupported_parameter")


def test_what_is_ignored_inside_a_field_is_named_too() -> None:
    """The name of a speaker, the length of the text, and that calls must fit their schema."""
    assert _chat(messages=[{**ASK, "name": "Ann"}]).ignored == ("messages.name",)
    assert _responses(text={"verbosity": "low"}).ignored == ("text.verbosity",)
    tool = {"name": "f", "strict": True}
    assert _responses(tools=[{"type": "function", **tool}]).ignored == ("tools.strict",)
    found = _chat(tools=[{"type": "function", "function": tool}])
    assert found.ignored == ("tools.function.strict",)


def test_fields_that_nobody_knows_are_named() -> None:
    """As far as they look like fields, so that nothing else gets into a header, and as far as there are not many."""
    strange = {"thinking": {"type": "enabled"}, "a b": 1, "x\r\ny": 2}
    assert _chat(**strange).ignored == ("thinking", "...")
    assert _responses(**strange).ignored == ("thinking", "...")
    many = {f"f{number:02}": number for number in range(99)}
    assert _chat(**many).ignored == (*list(many)[:16], "...")


def test_the_summary_of_thoughts_is_passed_on() -> None:
    """And a word that nobody knows is refused."""
    found = _responses(reasoning={"summary": "detailed"})
    assert found.draft.prompt.reasoning_summary is ReasoningSummary.DETAILED
    with pytest.raises(ApiError, match=r"reasoning\.summary"):
        _responses(reasoning={"summary": "long"})
