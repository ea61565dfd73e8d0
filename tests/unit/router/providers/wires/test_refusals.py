"""Refusals of real providers: "this model cannot do that", which another may, apart from "the request is wrong"."""

# ruff: noqa: E501

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from libs.conversation import Message, ReasoningEffort, ResponseFormat, Role, Tool
from libs.types import ErrorClass
from services.router.generate.next_step import Failed
from services.router.request.features import Feature, Unsupported
from services.router.request.generation import Prompt
from services.router.set_aside.features import features_of, narrowed
from tests.support.routing import candidate_of, catalog, model
from tests.unit.router.providers.wires.refusals import REFUSALS, Refusal
from tests.unit.router.providers.wires.samples import WIRES
from tests.unit.router.providers.wires.test_error_families import anthropic
from tests.unit.router.providers.wires.test_errors import failure, google, openai
from tests.unit.router.providers.wires.test_streams import fails

C = ErrorClass
HERE = C.UNSUPPORTED_HERE


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: f"{refusal.wire}-{refusal.seen}")
def test_a_refusal_is_told_from_a_wrong_request(refusal: Refusal) -> None:
    """Each has the class that a person gave it, so others are asked exactly where they may serve; the same model is
    not asked again, and nothing of a wait is remembered."""
    found = WIRES[refusal.wire].failure(refusal.status, {}, json.dumps(refusal.body).encode())
    assert found.error_class is refusal.error_class
    assert (found.error_class is not C.INVALID_REQUEST) is refusal.others
    assert (found.retry_same, found.retry_after) == (False, None)


#: Nearest neighbours on either side.
NEIGHBOURS: list[tuple[str, Any, ErrorClass]] = [
    ("openai", openai("Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.", param="tool_choice"), C.INVALID_REQUEST),
    ("anthropic", anthropic("tool_choice: may only be specified while providing `tools`"), C.INVALID_REQUEST),
    ("anthropic", anthropic("messages.0: `tool_use` blocks can only be in `assistant` messages"), C.INVALID_REQUEST),
    ("openai_responses", openai("No tool call found for function call output with call_id call_1.", param="input"), C.INVALID_REQUEST),
    ("openai_compatible", {"message": "cannot identify image file <_io.BytesIO object at 0x7f>"}, C.INVALID_REQUEST),
    ("anthropic", anthropic("messages.0: too many images and documents: 25 > 20"), HERE),
    ("anthropic", anthropic("messages.1.content.0.type: Expected `thinking` or `redacted_thinking`, but found `tool_use`."), HERE),
    ("bedrock", {"message": "Operation not allowed"}, HERE),
    ("llamacpp", {"error": {"code": 400, "message": "failed to parse grammar", "type": "invalid_request_error"}}, HERE),
    ("openai_compatible", openai("The thinking_budget parameter must be a positive integer and not greater than 38912", code="invalid_parameter_error"), HERE),
    ("openai_compatible", openai("Range of input length should be [1, 98304]", code="invalid_parameter_error"), C.CONTEXT_TOO_LONG),
    ("vllm", {"object": "error", "message": "max_tokens must be at least 1, got -312.", "type": "BadRequestError", "code": 400}, C.CONTEXT_TOO_LONG),
    ("huggingface", {"error": "The requested model 'x/y' is not supported by any provider you have enabled."}, C.MODEL_NOT_FOUND),
    # A code that leaves nothing open is not overruled by words.
    ("openai", openai("You uploaded an unsupported image. Please make sure it has one of these formats: png, jpeg.", code="invalid_image_format"), C.INVALID_REQUEST),
    # Nothing said at all.
    ("openai_compatible", {}, C.INVALID_REQUEST),
    ("openai_compatible", {"error": "Bad Request"}, C.INVALID_REQUEST),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "body", "expected"), NEIGHBOURS)
def test_neighbours_of_a_refusal(kind: str, body: Any, expected: ErrorClass) -> None:
    """Refusals that only sound like it are not taken for it, and those that do not sound like it are."""
    assert failure(kind, 400, body).error_class is expected


@pytest.mark.parametrize(
    ("status", "expected"),
    [(405, HERE), (415, HERE), (501, HERE), (500, C.SERVER_ERROR), (418, C.INVALID_REQUEST)],
)
def test_statuses_that_say_not_supported_by_themselves(status: int, expected: ErrorClass) -> None:
    """Method, media type, not implemented."""
    assert failure("openai_compatible", status, "").error_class is expected


def test_the_table_is_wide() -> None:
    """Different messages of many providers stand in it, of both kinds, each once."""
    bodies = [json.dumps(refusal.body) + refusal.wire for refusal in REFUSALS]
    assert len(set(bodies)) == len(bodies) >= 150
    assert len({refusal.wire for refusal in REFUSALS}) >= 15
    assert sum(not refusal.others for refusal in REFUSALS) >= 50


def test_a_refusal_costs_no_retry_and_opens_no_circuit() -> None:
    """The target answered; it is the request that it cannot serve."""
    a = model("a/m")
    assert Failed(candidate_of(catalog([a]), a, 10), HERE, "", 0.0).of_request


def test_a_prompt_that_says_the_same_does_not_hide_it() -> None:
    """A long prompt may well say "not supported": the provider's words count none the less, since nothing is
    concluded from them about a key or a circuit."""
    body = openai("Reasoning traces are not supported with this model.")
    assert failure("openai", 400, body).deciding_words == ""


MEANT: list[tuple[str, dict[str, Any], Unsupported | None]] = [
    ("openai", openai("Unsupported parameter: 'temperature' is not supported with this model.", param="temperature", code="unsupported_parameter"), Unsupported(Feature.SAMPLING)),
    ("xai", {"code": "Client specified an invalid argument", "error": "Argument not supported on this model: presencePenalty"}, Unsupported(Feature.PENALTIES)),
    ("anthropic", anthropic("`temperature` and `top_p` cannot both be specified for this model."), Unsupported(Feature.SAMPLING)),
    ("openai", openai("Unsupported value: 'minimal' is not supported with the 'x' model.", param="reasoning.effort", code="unsupported_value"), Unsupported(Feature.REASONING)),
    ("gemini", google(400, "INVALID_ARGUMENT", "The model does not support setting thinking_budget to 0."), Unsupported(Feature.REASONING)),
    ("mistral", {"object": "error", "message": "json_schema: property 'maxItems' is not supported"}, Unsupported(Feature.JSON_SCHEMA, "maxItems")),
    ("cerebras", {"message": "Unsupported JSON schema fields: {'minItems', 'items'}", "param": "response_format"}, Unsupported(Feature.JSON_SCHEMA, "minItems")),
    ("anthropic", anthropic("tools.9.custom.input_schema: input_schema does not support oneOf, allOf, or anyOf at the top level"), Unsupported(Feature.TOOLS, "oneOf")),
    ("bedrock", {"message": "This model doesn't support tool use."}, Unsupported(Feature.TOOLS)),
    ("bedrock", {"message": "This model doesn't support the toolConfig.toolChoice.any field."}, Unsupported(Feature.TOOLS)),
    ("openai", openai("Unsupported value: 'messages[0].role' does not support 'system' with this model.", param="messages[0].role", code="unsupported_value"), Unsupported(Feature.SYSTEM)),
    ("huggingface", {"error": "Input validation error: `stop` supports up to 4 stop sequences. Given: 6"}, Unsupported(Feature.STOP)),
    ("openai", openai("Your organization must be verified to stream this model.", param="stream", code="unsupported_value"), Unsupported(Feature.STREAM)),
    ("bedrock", {"message": "The model is unsupported for streaming."}, Unsupported(Feature.STREAM)),
    ("openai", openai("max_tokens is too large: 10000. This model supports at most 4096 completion tokens"), None),
    ("bedrock", {"message": "This model doesn't support documents."}, Unsupported(Feature.PDF)),
    ("bedrock", {"message": "This model doesn't support the image field for user messages. Remove image and try again."}, Unsupported(Feature.IMAGE)),
    ("openai", openai("Invalid content type. image_url is only supported by certain models."), Unsupported(Feature.IMAGE)),
    ("ollama_native", {"error": "registry.ollama.ai/library/x does not support vision"}, Unsupported(Feature.IMAGE)),
    ("vllm", {"object": "error", "message": "At most 1 image(s) may be provided in one request.", "type": "BadRequestError", "code": 400}, None),
    ("ollama_native", {"error": "this model only supports one image while more than one image requested"}, None),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "body", "meant"), MEANT)
def test_the_feature_that_is_meant_is_known(
    kind: str, body: dict[str, Any], meant: Unsupported | None
) -> None:
    """From `param`, else from the first name in the words, with the keyword of a schema; a bound on the length of an
    answer is no feature."""
    found = failure(kind, 400, body)
    assert (found.error_class, found.unsupported) == (HERE, meant)


def test_no_more_is_learned_than_was_refused() -> None:
    """An effort of reasoning and a keyword are learned, not the feature; what the request does not use is not."""
    schema = '{"type": "object", "properties": {"a": {"type": "array", "maxItems": 3}}}'
    prompt = Prompt(
        (Message(Role.USER, "x"),),
        10,
        response_format=ResponseFormat(schema),
        reasoning_effort=ReasoningEffort.LOW,
        tools=(Tool("t", parameters_json='{"type": "object", "oneOf": []}'),),
    )
    uses = features_of(prompt, stream=False)
    for said, learned in (
        (Unsupported(Feature.REASONING), Unsupported(Feature.REASONING, effort=ReasoningEffort.LOW)),
        (Unsupported(Feature.JSON_SCHEMA, "maxItems"), Unsupported(Feature.JSON_SCHEMA, "maxItems")),
        # Whichever schema the provider named, it is the one that holds the keyword.
        (Unsupported(Feature.JSON_SCHEMA, "oneOf"), Unsupported(Feature.TOOLS, "oneOf")),
        (Unsupported(Feature.JSON_SCHEMA, "minItems"), Unsupported(Feature.JSON_SCHEMA)),
        (Unsupported(Feature.SAMPLING), None),
    ):
        assert narrowed(said, prompt, uses) == learned
    plain = Prompt((Message(Role.USER, "x"),), 10, response_format=ResponseFormat())
    assert narrowed(Unsupported(Feature.JSON_SCHEMA), plain, features_of(plain, stream=False)) == Unsupported(
        Feature.JSON
    )


SIZES: list[tuple[str, int, str, int | None]] = [
    ("openai", 400, "This model's maximum context length is 8192 tokens. However, you requested 12000 tokens (8000 in the messages, 4000 in the completion). Please reduce the length of the messages.", 12_000),
    ("openai", 400, "Input tokens exceed the configured limit of 272,000 tokens. Your messages resulted in 300,123 tokens.", 300_123),
    ("anthropic", 400, "prompt is too long: 210000 tokens > 200000 maximum", 210_000),
    ("anthropic", 400, "input length and `max_tokens` exceed context limit: 199000 + 4096 > 200000", 203_096),
    ("gemini", 400, "The input token count (1250019) exceeds the maximum number of tokens allowed (1048575).", 1_250_019),
    ("xai", 400, "This model's maximum prompt length is 131072 but the request contains 200000 tokens.", 200_000),
    ("mistral", 400, "Prompt contains 65673 tokens and 0 draft tokens, too large for model with 32768 maximum context length", 65_673),
    ("llamacpp", 400, "the request exceeds the available context size (4096 tokens), try increasing it", 4097),
    ("cohere", 400, "too many tokens: total number of tokens in the prompt cannot exceed 4081", 4081),
    ("bedrock", 400, "Input is too long for requested model.", None),
    # Bytes say nothing about tokens.
    ("anthropic", 400, "too many total text bytes: 10000002 > 9000000", 0),
    ("azure_openai", 413, "Request Entity Too Large", 0),
    ("openai_compatible", 400, "Exceeded limit on max bytes to request body : 6291456", 0),
    ("openai_compatible", 400, "String value length (20054016) exceeds the maximum allowed (20000000)", 0),
    ("gemini", 400, "Request payload size exceeds the limit: 20971520 bytes.", 0),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "status", "message", "least"), SIZES)
def test_the_sizes_that_a_provider_states_are_read(
    kind: str, status: int, message: str, least: int | None
) -> None:
    """Of a prompt that is too long: what it counts, else its limit; a body of too many bytes is one too, and says
    nothing about a window."""
    found = failure(kind, status, openai(message))
    assert (found.error_class, found.least_window) == (C.CONTEXT_TOO_LONG, least)


def days_quota(quota: str) -> dict[str, Any]:
    """A spent quota as Google writes it, with a wait that helps nobody."""
    violations = [{"quotaMetric": "generativelanguage.googleapis.com/requests", "quotaId": quota}]
    return google(
        429,
        "RESOURCE_EXHAUSTED",
        "You exceeded your current quota. Please retry in 22.4s.",
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": violations},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "22s"},
    )


@pytest.mark.parametrize(
    ("date", "hours"),
    [
        ("Tue, 01 Dec 2026 12:00:00 GMT", 20.0),
        ("Tue, 01 Dec 2026 07:59:00 GMT", 1 / 60),
        # In summer California is an hour nearer to Greenwich; on the night of the change the day has 25 hours.
        ("Wed, 01 Jul 2026 12:00:00 GMT", 19.0),
        ("Sun, 01 Nov 2026 07:00:00 GMT", 24.0),
    ],
)
def test_a_days_quota_comes_back_when_googles_day_ends(date: str, hours: float) -> None:
    """The `quotaId` says whose it is, not the wait beside it; the same model is not asked again until then."""
    body = days_quota("GenerateRequestsPerDayPerProjectPerModel-FreeTier")
    for kind in ("gemini", "vertex", "openai_compatible"):
        found = failure(kind, 429, body, {"date": date})
        assert (found.error_class, found.retry_same, found.explicit) == (C.QUOTA_EXHAUSTED, False, True)
        assert found.retry_after == pytest.approx(hours * 3600)


def test_a_minutes_quota_is_a_rate_and_a_day_without_a_date_is_dated_here() -> None:
    """The nearest neighbour waits as it says. Without a date the router's own clock counts."""
    minute = failure("gemini", 429, days_quota("GenerateRequestsPerMinutePerProjectPerModel-FreeTier"))
    assert (minute.error_class, minute.retry_after, minute.retry_same) == (C.RATE_LIMITED, 22.0, True)
    found = failure("gemini", 429, days_quota("GenerateRequestsPerDayPerProjectPerModel"))
    assert found.error_class is C.QUOTA_EXHAUSTED
    assert 0 < (found.retry_after or 0) <= 86_400
    inside = days_quota("GenerateRequestsPerDayPerProjectPerModel")
    event = b"data: " + json.dumps(inside).encode() + b"\n\n"
    assert fails("gemini", event) == ([], C.QUOTA_EXHAUSTED)


def test_midnight_is_found_on_every_day_of_a_year() -> None:
    """Held against the calendar: at the instant found the clocks of California show midnight."""
    zone = ZoneInfo("America/Los_Angeles")
    for day in range(366):
        now = 1_796_000_000.0 + day * 86_400 + 12_345
        date = datetime.fromtimestamp(now, ZoneInfo("GMT")).strftime("%a, %d %b %Y %H:%M:%S GMT")
        wait = failure("gemini", 429, days_quota("RequestsPerDay"), {"date": date}).retry_after
        assert wait is not None
        there = datetime.fromtimestamp(now + wait, zone)
        assert wait == 86_400 or (there.hour, there.minute, there.second) == (0, 0, 0)


@pytest.mark.parametrize("raw", ['{"error":{"code":"unsupported_country_region_territory","message":"Country, region, or territory not supported"}}', "Country, region, or territory not supported"])  # fmt: skip
def test_an_upstreams_region_is_no_bad_key_of_ours(raw: str) -> None:
    """OpenRouter hands on its upstream's 403: our key is in order, and others are asked."""
    body = {
        "error": {
            "code": 403,
            "message": "Provider returned error",
            "metadata": {"raw": raw, "provider_name": "X"},
        }
    }
    assert failure("openrouter", 403, body).error_class is C.MODEL_NOT_FOUND
