"""OpenAI's JSON to what the router is asked: what is taken, what is ignored, what is refused and how it is named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from libs.conversation import Message, ReasoningEffort, Refusal, ResponseFormat, Role, Tool
from services.router.api.accept import Draft
from services.router.api.openai.chat_request import read_chat
from services.router.api.openai.errors import ApiError
from services.router.api.openai.exchange import ParsedRequest
from services.router.api.openai.responses_request import read_responses
from services.router.api.openai.routing import OnRestart, Routing, read_routing
from services.router.request.generation import Prompt

USER = [{"role": "user", "content": "hi"}]


def chat(headers: dict[str, str] | None = None, **body: Any) -> ParsedRequest:
    """A chat request read."""
    return read_chat(json.dumps({"model": "auto", "messages": USER, **body}).encode(), headers or {}, "r1")[0]


def prompt(**body: Any) -> Prompt:
    """Returns the prompt of a chat request."""
    return chat(**body).draft.prompt


PLAIN = Draft(Prompt((Message(Role.USER, "hi"),), 0), request_id="r1")


def refusal(**body: Any) -> tuple[int, str | None, str | None]:
    """Status, code and param of the error."""
    with pytest.raises(ApiError) as caught:
        chat(**body)
    return caught.value.status, caught.value.code, caught.value.param


@pytest.mark.parametrize(
    ("body", "chain", "content_type"),
    [
        ({"model": "auto"}, [], ""),
        ({"model": "gpt-4.1"}, ["gpt-4.1"], ""),
        ({"model": "openai/gpt-4.1"}, ["openai/gpt-4.1"], ""),
        ({"model": "pointsman/seo_meta"}, [], "seo_meta"),
        ({"model": "pointsman/seo_meta", "models": ["a", "b"]}, ["a", "b"], "seo_meta"),
        ({"model": "auto", "models": ["a", "b"]}, ["a", "b"], ""),
        ({"model": "c", "models": ["a", "c"], "fallbacks": ["b", "a"]}, ["c", "a", "b"], ""),
        ({"model": "c", "fallbacks": ["b"]}, ["c", "b"], ""),
        ({"model": None, "models": ["a"]}, ["a"], ""),
    ],
)
def test_the_chain_of_models(body: dict[str, Any], chain: list[str], content_type: str) -> None:
    """`model` first, then `models`, then `fallbacks`, each once; aliases choose a content type instead."""
    draft = chat(**body).draft
    assert draft.models == tuple(chain)
    assert draft.content_type == content_type


def test_the_content_type_of_a_header_and_of_the_model() -> None:
    """The model's alias is nearer to the request and wins; errors name whichever was sent."""
    header = {"x-pointsman-content-type": "email"}
    assert chat(header).draft.content_type == "email"
    assert chat(header).names["content_type"] == "x-pointsman-content-type"
    assert chat(header, model="pointsman/seo_meta").draft.content_type == "seo_meta"
    assert chat(model="pointsman/seo_meta").names["content_type"] == "model"


@pytest.mark.parametrize("body", [{"model": None}, {"model": ""}, {"models": [""]}, {"fallbacks": [""]}])
def test_a_model_must_be_named(body: dict[str, Any]) -> None:
    """Also if only by `auto`."""
    assert refusal(**body)[0] == 400


def test_the_limit_of_tokens_is_named_as_it_was_sent() -> None:
    """The newer name wins where both are sent."""
    assert chat(max_tokens=5).names["max_output_tokens"] == "max_tokens"
    both = chat(max_tokens=5, max_completion_tokens=6)
    assert both.draft.prompt.max_output_tokens == 6
    assert both.names["max_output_tokens"] == "max_completion_tokens"
    assert prompt().max_output_tokens == 0
    # An explicit zero is no limit that anybody could keep.
    assert prompt(max_tokens=0).max_output_tokens == -1


def test_null_is_unset() -> None:
    """Clients send null for what they do not set; nothing of it is passed on."""
    nulls: tuple[str, ...] = (
        "temperature",
        "top_p",
        "seed",
        "stop",
        "tools",
        "tool_choice",
        "response_format",
        "user",
        "metadata",
    )
    nulls += (
        "n",
        "logprobs",
        "reasoning_effort",
        "max_tokens",
        "stream",
        "stream_options",
        "logit_bias",
        "models",
    )
    assert chat(**dict.fromkeys(nulls)).draft == PLAIN


def test_zero_is_not_unset() -> None:
    """An explicit zero reaches the router."""
    asked = prompt(temperature=0, seed=0, presence_penalty=0)
    assert (asked.temperature, asked.seed, asked.presence_penalty, asked.top_p) == (0, 0, 0, None)


def test_roles_and_parts() -> None:
    """`developer` is `system`; parts of text are put together; a refusal stays apart."""
    messages = [
        {"role": "developer", "content": "a"},
        {
            "role": "user",
            "content": [{"type": "text", "text": "b"}, {"type": "text", "text": "c"}],
            "name": "x",
        },
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"role": "user", "content": "d"},
    ]
    assert prompt(messages=messages).messages == (
        Message(Role.SYSTEM, "a"),
        Message(Role.USER, "bc"),
        Message(Role.ASSISTANT, parts=(Refusal("no"),)),
        Message(Role.USER, "d"),
    )


def test_tools_keep_their_schema_as_it_was_written() -> None:
    """Not parsed and written again: the order of keys and large numbers survive."""
    schema = b'{"type": "object", "b": 1, "a": 123456789012345678901234567890}'
    body = b'{"model":"auto","messages":[{"role":"user","content":"x"}],"tools":[{"type":"function",'
    body += b'"function":{"name":"f","parameters":%b,"strict":true}},{"type":"function","function":{"name":"g"}}]}'
    ask, _ = read_chat(body % schema, {}, "r1")
    assert ask.draft.prompt.tools == (Tool("f", "", schema.decode()), Tool("g"))


def test_formats() -> None:
    """Text is the default; a schema has a name."""
    assert prompt(response_format={"type": "text"}).response_format is None
    assert prompt(response_format={"type": "json_object"}).response_format == ResponseFormat()
    shape = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"a": 1}, "strict": True}}
    assert prompt(response_format=shape).response_format == ResponseFormat('{"a": 1}', "n")


@pytest.mark.parametrize(
    ("sent", "taken"),
    [("none", ReasoningEffort.NONE), ("minimal", ReasoningEffort.LOW), ("xhigh", ReasoningEffort.HIGH)],
)
def test_reasoning_effort(sent: str, taken: ReasoningEffort) -> None:
    """The nearest of the steps that there are."""
    assert prompt(reasoning_effort=sent).reasoning_effort is taken


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"n": 2}, "unsupported_parameter", "n"),
        ({"logprobs": True}, "unsupported_parameter", "logprobs"),
        ({"top_logprobs": 3}, "unsupported_parameter", "top_logprobs"),
        ({"logit_bias": {"50256": -100}}, "unsupported_parameter", "logit_bias"),
        ({"modalities": ["text", "audio"]}, "unsupported_parameter", "modalities"),
        ({"audio": {"voice": "x"}}, "unsupported_parameter", "audio"),
        ({"functions": [{"name": "f"}]}, "unsupported_parameter", "functions"),
        ({"function_call": "auto"}, "unsupported_parameter", "function_call"),
        ({"web_search_options": {"x": 1}}, "unsupported_parameter", "web_search_options"),
        ({"tools": [{"type": "custom", "custom": {}}]}, "unsupported_parameter", "tools[0]"),
        ({"tool_choice": {"type": "allowed_tools"}}, "unsupported_parameter", "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "unsupported_parameter", "tool_choice"),
        (
            {"tool_choice": {"type": "function", "function": {"name": ""}}},
            "unsupported_parameter",
            "tool_choice",
        ),
        ({"response_format": {"type": "grammar"}}, "invalid_value", "response_format.type"),
        (
            {"response_format": {"type": "json_schema"}},
            "missing_required_parameter",
            "response_format.json_schema.schema",
        ),
        ({"reasoning_effort": "enormous"}, "invalid_value", "reasoning_effort"),
        ({"messages": [{"role": "function", "content": "x"}]}, "invalid_value", "messages[0].role"),
        ({"messages": [{"content": "x"}]}, "missing_required_parameter", "messages[0].role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "missing_required_parameter",
            "messages[0].content[0].image_url.url",
        ),
        (
            {"messages": [{"role": "assistant", "tool_calls": [{"id": "c", "type": "custom"}]}]},
            "unsupported_parameter",
            "messages[0].tool_calls[0]",
        ),
        ({"temperature": "hot"}, "invalid_type", "temperature"),
        ({"max_tokens": 1.5}, "invalid_type", "max_tokens"),
        ({"metadata": {"a": 1}}, "invalid_type", "metadata[...]"),
        ({"messages": "hi"}, "invalid_type", "messages"),
    ],
)
def test_what_is_refused(body: dict[str, Any], code: str, param: str) -> None:
    """A 400 that names the parameter: what cannot be honoured is not ignored where it would change the answer."""
    assert refusal(**body) == (400, code, param)


def test_hints_and_unknown_fields_are_ignored() -> None:
    """Fields that do not change the answer do no harm."""
    ask = chat(
        store=True,
        service_tier="flex",
        verbosity="low",
        prompt_cache_key="x",
        prediction={"type": "content", "content": "x"},
        unheard_of={"a": [1]},
        n=1,
        logprobs=False,
        modalities=["text"],
    )
    assert ask.draft == PLAIN


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("strategy", "fastest"),
        ("priority", "urgent"),
        ("max-cost-usd", "0"),
        ("max-cost-usd", "1e999999999"),
        ("max-cost-usd", "NaN"),
        ("max-attempts", "two"),
        ("hedge", "perhaps"),
        ("timeout", "0"),
        ("timeout", "inf"),
        ("timeout", "nan"),
        ("on-restart", "explode"),
    ],
)
def test_wrong_headers_are_named(name: str, value: str) -> None:
    """A misspelt wish is not ignored."""
    with pytest.raises(ApiError) as caught:
        read_routing("auto", None, None, {f"x-pointsman-{name}": value})
    assert (caught.value.status, caught.value.param) == (400, f"x-pointsman-{name}")


def test_headers_with_their_units() -> None:
    """Money becomes micro-USD exactly; the default on a restart is an error."""
    headers = {
        "x-pointsman-max-cost-usd": "0.29",
        "x-pointsman-hedge": "1",
        "x-pointsman-on-restart": "Replace",
    }
    route = read_routing("auto", None, None, headers)
    assert route == Routing(max_cost_micro_usd=290_000, hedge=True, on_restart=OnRestart.REPLACE)
    assert read_routing("auto", None, None, {}).on_restart is OnRestart.ERROR


def test_responses_share_the_rules() -> None:
    """Null is unset, hints are ignored, and what is unknown is too."""
    nulls = (
        "instructions",
        "previous_response_id",
        "tools",
        "text",
        "reasoning",
        "truncation",
        "include",
        "prompt",
    )
    body = {"model": "auto", "input": "hi", "store": True, "unheard_of": 1, **dict.fromkeys(nulls)}
    ask, echo, _ = read_responses(json.dumps(body).encode(), {}, "r1")
    assert ask.draft == PLAIN
    assert bytes(echo.instructions) == b"null"
    assert bytes(echo.temperature) == b""


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "unsupported_parameter", "tools[0]"),
        ({"tool_choice": {"type": "web_search"}}, "unsupported_parameter", "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "unsupported_parameter", "tool_choice"),
        ({"text": {"format": {"type": "grammar"}}}, "invalid_value", "text.format.type"),
        ({"text": {"format": {"type": "json_schema"}}}, "missing_required_parameter", "text.format.schema"),
        ({"reasoning": {"effort": "enormous"}}, "invalid_value", "reasoning.effort"),
        ({"input": [{"role": "tool", "content": "x"}]}, "invalid_value", "input[0].role"),
        ({"metadata": {"a": 1}}, "invalid_type", "metadata[...]"),
        ({"background": True}, "unsupported_parameter", "background"),
    ],
)
def test_responses_refuse_by_the_same_rules(body: dict[str, Any], code: str, param: str) -> None:
    """A 400 that names the parameter as the client of the responses API sent it."""
    with pytest.raises(ApiError) as caught:
        read_responses(json.dumps({"model": "auto", "input": "hi", **body}).encode(), {}, "r1")
    assert (caught.value.status, caught.value.code, caught.value.param) == (400, code, param)
