"""The router's answers as OpenAI's JSON and events, and errors in the client's terms."""

from __future__ import annotations

import json
from typing import Any

import grpc
import pytest
from google.rpc import status_pb2

from libs.answer import Delta, Restarted
from libs.conversation import ToolCall, ToolCallDelta
from libs.errors import (
    FieldViolation,
    InvalidArgument,
    PointsmanError,
    QuotaViolation,
    ResourceExhausted,
    Unauthenticated,
    Unavailable,
)
from libs.limits import LimitKey, Period, Scope, ScopeKind, Unit
from libs.rpc.status import DETAILS_KEY, from_rpc_error, to_status
from libs.types import ErrorClass, FinishReason, Usage, UsageAccuracy
from services.router.api.openai.account import result_headers, usd
from services.router.api.openai.chat import ChatExchange
from services.router.api.openai.errors import ApiError, from_failure
from services.router.api.openai.models import find_entry, list_entries
from services.router.api.openai.responses import ResponsesExchange
from tests.support.http_door import attempt, result, selection
from tests.support.names import limit_key
from tests.support.routing import CAPABILITIES, model

ALPHA, BETA = selection("alpha/small"), selection("beta/large")
RESULT = result(
    "r1",
    "Hi.",
    failed=[attempt("beta/large", ErrorClass.TIMEOUT)],
    usage=Usage(10, 5, cache_read_tokens=4, reasoning_tokens=2, accuracy=UsageAccuracy.ESTIMATED),
    cost_micro_usd=1_000_050,
)
CHAT = b'{"model":"auto","messages":[{"role":"user","content":"x"}]}'


def chat() -> ChatExchange:
    """A request of one message."""
    return ChatExchange(CHAT, {}, "r1")


def responses() -> ResponsesExchange:
    """The same in the other dialect."""
    return ResponsesExchange(b'{"model":"auto","input":"x"}', {}, "r1")


def events(data: bytes) -> list[tuple[str, Any]]:
    """(event name, data) of each event."""
    found = []
    for block in data.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in block.split("\n"))
        text = fields["data"]
        found.append((fields.get("event", ""), text if text == "[DONE]" else json.loads(text)))
    return found


@pytest.mark.parametrize(
    ("micro_usd", "text"),
    [(0, "0.000000"), (1, "0.000001"), (999_999, "0.999999"), (12_000_050, "12.000050")],
)
def test_money_is_exact(micro_usd: int, text: str) -> None:
    """Six decimals, no rounding."""
    assert usd(micro_usd) == text


def test_the_account_of_a_whole_answer() -> None:
    """Usage with its parts, and what OpenAI has no field for in `pointsman` and the headers."""
    body = json.loads(chat().whole(RESULT, 7))
    assert body["created"] == 7
    assert body["usage"]["prompt_tokens_details"]["cached_tokens"] == 4
    assert body["usage"]["completion_tokens_details"]["reasoning_tokens"] == 2
    assert body["pointsman"] == {
        "request_id": "r1",
        "provider": "alpha",
        "model": "small",
        "finish_reason": "stop",
        "attempts": 2,
        "failed": ["beta/large: timeout"],
        "cached": False,
        "degradation": None,
        "budgets": [],
        "cost_usd": "1.000050",
        "usage_accuracy": "estimated",
    }
    assert result_headers(RESULT)["x-pointsman-attempts"] == "2"


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        (FinishReason.LENGTH, "length"),
        (FinishReason.TOOL_CALLS, "tool_calls"),
        (FinishReason.CONTENT_FILTER, "content_filter"),
        (FinishReason.OTHER, "length"),
    ],
)
def test_finish_reasons(reason: FinishReason, word: str) -> None:
    """One of the words that clients know."""
    answer = result("r1", "x", finish_reason=reason)
    assert json.loads(chat().whole(answer, 7))["choices"][0]["finish_reason"] == word


def test_what_is_not_known_to_be_an_end_is_no_success() -> None:
    """A pause, or a reason that nobody knows: `length` and `incomplete`, whole and streamed, and `other` in the
    account, which no length limit has."""
    answer = result("r1", "x", finish_reason=FinishReason.OTHER)
    in_chat, in_responses = chat(), responses()
    stream = in_chat.stream("r1", 7)
    *_, last, _ = events(stream.begin(ALPHA) + stream.delta(Delta("x")) + stream.finish(answer))
    assert last[1]["choices"][0]["finish_reason"] == "length"
    encoder = in_responses.stream("r1", 7)
    end = events(encoder.begin(ALPHA) + encoder.delta(Delta("x")) + encoder.finish(answer))[-1]
    assert end[0] == "response.incomplete"
    for body in (json.loads(in_responses.whole(answer, 7)), end[1]["response"]):
        assert (body["status"], body["incomplete_details"]) == ("incomplete", None)
        assert body["output"][0]["status"] == "incomplete"
        assert body["pointsman"]["finish_reason"] == "other"
    assert json.loads(in_chat.whole(answer, 7))["pointsman"]["finish_reason"] == "other"


def test_text_beside_tool_calls_is_kept() -> None:
    """Only where there is no text beside them it is null."""
    call = ToolCall("c1", "f", "{}")
    for text, content in (("Let me see.", "Let me see."), ("", None)):
        answer = result("r1", text, call)
        message = json.loads(chat().whole(answer, 7))["choices"][0]["message"]
        assert message["content"] == content
        assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}


def test_every_chunk_is_whole_json_with_the_same_head() -> None:
    """Put together from constant pieces, but as if encoded whole."""
    encoder = chat().stream("r1", 7)
    piece = ToolCallDelta(0, "c1", "f", "{")
    data = encoder.begin(ALPHA) + encoder.delta(Delta('"\n', (piece,)))
    data += encoder.restarted(Restarted("alpha", BETA, None)) + encoder.finish(RESULT)
    *chunks, done = events(data)
    assert done == ("", "[DONE]")
    for _, chunk in chunks:
        head = (chunk["id"], chunk["object"], chunk["created"], chunk["model"])
        assert head == ("chatcmpl-r1", "chat.completion.chunk", 7, "alpha/small")
    deltas = [chunk["choices"][0]["delta"] for _, chunk in chunks if chunk["choices"]]
    assert deltas[1] == {"content": '"\n'}
    assert deltas[2]["tool_calls"][0]["function"] == {"name": "f", "arguments": "{"}
    notice = next(chunk["pointsman"] for _, chunk in chunks if not chunk["choices"])
    assert notice == {"restarted": True, "from_provider": "alpha", "provider": "beta", "model": "large"}


def test_an_error_in_a_stream_is_no_end() -> None:
    """An event of its own, without [DONE]."""
    encoder = chat().stream("r1", 7)
    (event,) = events(encoder.fail(ApiError(503, "gone", code="x")))
    assert event == (
        "error",
        {"error": {"message": "gone", "type": "server_error", "param": None, "code": "x"}},
    )


def test_a_response_begun_anew() -> None:
    """The item so far ends incomplete, a notice follows, and the final response holds the new answer alone."""
    exchange = responses()
    encoder = exchange.stream("r1", 7)
    data = encoder.begin(ALPHA) + encoder.delta(Delta("half"))
    data += (
        encoder.restarted(Restarted("alpha", BETA, None))
        + encoder.delta(Delta("whole"))
        + encoder.finish(RESULT)
    )
    found = events(data)
    assert [body["sequence_number"] for _, body in found] == list(range(len(found)))
    assert "pointsman.restarted" in [name for name, _ in found]
    done = [body["item"]["status"] for name, body in found if name == "response.output_item.done"]
    assert done == ["incomplete", "completed"]
    (item,) = found[-1][1]["response"]["output"]
    assert item["content"][0]["text"] == "whole"


def test_an_empty_response_has_an_empty_message() -> None:
    """Clients read the first item."""
    for body in (
        json.loads(responses().whole(result("r1", ""), 7)),
        events(responses().stream("r1", 7).finish(RESULT))[-1][1]["response"],
    ):
        assert body["output"][0]["content"][0]["text"] == ""


@pytest.mark.parametrize(
    ("field", "param"),
    [
        ("generation.temperature", "temperature"),
        ("generation.messages", "messages"),
        ("generation.messages[3].text", "messages[3].content"),
        ("generation.messages[3].tool_call_id", "messages[3].tool_call_id"),
        ("generation.stop_sequences", "stop"),
        ("generation.tools[2].parameters_json", "tools[2].function.parameters"),
        ("generation.response_format.schema_json", "response_format.json_schema.schema"),
        ("generation.labels", "metadata"),
        ("generation.max_cost", "x-pointsman-max-cost-usd"),
        ("generation", None),
    ],
)
def test_fields_in_the_clients_terms(field: str, param: str | None) -> None:
    """The field that the router calls wrong is named as the client sent it."""
    assert (
        from_failure(InvalidArgument([FieldViolation(field, "is wrong")]), chat().request.names).param
        == param
    )


def test_every_wrong_field_is_in_the_message() -> None:
    """`param` has room for one."""
    error = InvalidArgument(
        [FieldViolation("generation.top_p", "too big"), FieldViolation("generation.seed", "too odd")]
    )
    assert from_failure(error, chat().request.names).message == "top_p: too big; seed: too odd"


def test_the_wait_is_never_zero_and_never_too_short() -> None:
    """Whole seconds are rounded up; a 503 always says when to come back; a 429 only where it is known."""
    for error, seconds, milliseconds in (
        (Unavailable("x", retry_after=0.0), "1", "1"),
        (Unavailable("x", retry_after=2.0001), "3", "2001"),
        (Unavailable("x"), "1", "1000"),
        (ResourceExhausted("x"), None, None),
    ):
        headers = from_failure(error, {}).headers
        assert (headers.get("retry-after"), headers.get("retry-after-ms")) == (seconds, milliseconds)


def test_the_rate_limit_set_of_a_denial() -> None:
    """Limits of requests and of tokens; what is left is known for requests alone; other units have no header."""
    violations = [
        QuotaViolation(limit_key("tenant:acme requests minute"), "full", limit=60),
        QuotaViolation(limit_key("provider:openai total_tokens minute"), "full", limit=9000),
        QuotaViolation(limit_key("tenant:acme concurrency"), "full", limit=4),
    ]
    error = from_failure(ResourceExhausted("full", violations, retry_after=1.5), {})
    assert (error.status, error.code, error.kind) == (429, "rate_limit_exceeded", "tokens")
    found = {name: value for name, value in error.headers.items() if name.startswith("x-ratelimit")}
    assert found == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "0",
        "x-ratelimit-reset-requests": "1500ms",
        "x-ratelimit-limit-tokens": "9000",
        "x-ratelimit-reset-tokens": "1500ms",
    }


@pytest.mark.parametrize("name", ["spring", "spring sale", "requests day sale", "a micro_usd minute", "/ :"])
@pytest.mark.parametrize(
    ("unit", "period", "code", "again"),
    [
        (Unit.MICRO_USD, Period.DAY, "insufficient_quota", "false"),
        (Unit.MICRO_USD, Period.MONTH, "insufficient_quota", "false"),
        (Unit.MICRO_USD, Period.MINUTE, "rate_limit_exceeded", None),
        (Unit.REQUESTS, Period.DAY, "rate_limit_exceeded", None),
        (Unit.CONCURRENCY, Period.NONE, "rate_limit_exceeded", None),
    ],
)
def test_regression_what_a_campaign_is_called_does_not_decide_what_its_limit_is(
    name: str, unit: Unit, period: Period, code: str, again: str | None
) -> None:
    """A spent budget is a spent budget whatever words are in its name, also over the wire: that of `spring sale` was
    shown as a rate limit and retried."""
    key = LimitKey(Scope(ScopeKind.CAMPAIGN, name, "acme"), unit, period)
    sent = to_status(ResourceExhausted("full", [QuotaViolation(key, "full", limit=9)], retry_after=3.0))
    error = from_failure(received(sent), {})
    assert (error.status, error.code) == (429, code)
    assert error.headers.get("x-should-retry") == again


def test_a_request_that_is_larger_than_its_whole_limit_is_not_retried() -> None:
    """OpenAI's clients repeat a 429 unless they are told not to."""
    violation = QuotaViolation(limit_key("tenant:acme total_tokens minute"), "100 of 50", limit=50)
    error = from_failure(ResourceExhausted("no", [violation], reason="REQUEST_ABOVE_LIMIT"), {})
    assert (error.status, error.code, error.kind) == (429, "request_above_limit", "tokens")
    assert error.headers["x-should-retry"] == "false"
    assert "retry-after" not in error.headers


def test_a_limiter_that_is_gone_is_no_spent_budget() -> None:
    """503, to be tried again soon."""
    error = from_failure(Unavailable("gone", reason="LIMITER_UNAVAILABLE", retry_after=2.0), {})
    assert (error.status, error.code) == (503, "limiter_unavailable")
    assert error.headers["retry-after"] == "2"
    assert "x-should-retry" not in error.headers


def received(status: status_pb2.Status) -> PointsmanError:
    """Returns the error that a client reads from it."""
    trailers = grpc.aio.Metadata((DETAILS_KEY, status.SerializeToString()))
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    return from_rpc_error(grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailers, status.message))


def test_attempts_of_a_failure_are_counted() -> None:
    """From what the router says it tried."""
    error = Unavailable("x", metadata={"attempts": "a/b=timeout,c/d=transport"})
    assert from_failure(error, {}).headers["x-pointsman-attempts"] == "2"
    assert "x-pointsman-attempts" not in from_failure(Unavailable("x"), {}).headers


def test_a_message_of_the_router_about_keys_is_not_repeated() -> None:
    """One sentence for all unknown keys."""
    assert from_failure(Unauthenticated("tenant x", reason="KEY_UNKNOWN"), {}).status == 401
    assert "tenant" not in from_failure(Unauthenticated("tenant x", reason="KEY_UNKNOWN"), {}).message


def test_models_by_their_names() -> None:
    """The full name before the short one; a model's own name may hold slashes; aliases are not models."""
    models = [model("router/meta/llama"), model("alpha/small"), model("beta/small")]
    listed = list_entries(models, ["email"])
    assert [entry["id"] for entry in listed[:2]] == ["auto", "pointsman/email"]
    found = find_entry("small", listed)
    assert found is not None
    assert (found["id"], found["owned_by"], found["capabilities"]) == ("small", "alpha", sorted(CAPABILITIES))
    assert (find_entry("meta/llama", listed) or {})["owned_by"] == "router"
    assert find_entry("email", listed) is None
