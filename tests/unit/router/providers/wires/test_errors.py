"""Failures: every class from words seen at providers, what may be tried again, when, and what is shown."""

# ruff: noqa: E501

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.types import ErrorClass
from services.router.providers.wires.waits import MAX_WAIT_SECONDS
from services.router.request.generation import ProviderFailure
from tests.unit.router.providers.wires.samples import WIRES

C = ErrorClass


def failure(kind: str, status: int, body: Any, headers: dict[str, str] | None = None) -> ProviderFailure:
    """The classified failure of an answer; a dict or list is sent as JSON."""
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return WIRES[kind].failure(status, headers or {}, data)


def openai(message: str, **more: Any) -> dict[str, Any]:
    """An error as OpenAI writes it."""
    return {
        "error": {"message": message, "type": "invalid_request_error", "param": None, "code": None, **more}
    }


def google(code: int, status: str, message: str, *details: dict[str, Any]) -> dict[str, Any]:
    """An error as Google writes it."""
    return {"error": {"code": code, "status": status, "message": message, "details": list(details)}}


TABLE: list[tuple[str, int, Any, ErrorClass, float | None]] = [
    # OpenAI
    ("openai", 429, openai("You exceeded your current quota, please check your plan and billing details.", type="insufficient_quota", code="insufficient_quota"), C.QUOTA_EXHAUSTED, None),
    ("openai", 429, openai("Rate limit reached for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Used 25000, Requested 8000. Please try again in 7.66s.", type="tokens", code="rate_limit_exceeded"), C.RATE_LIMITED, 7.66),
    ("openai", 429, openai("Rate limit reached for gpt-4o on requests per day (RPD): Limit 200, Used 200, Requested 1. Please try again in 7m12s.", code="rate_limit_exceeded"), C.RATE_LIMITED, 432.0),
    ("openai", 429, openai("Rate limit reached. Please try again in 120ms."), C.RATE_LIMITED, 0.12),
    ("openai", 429, openai("Your account is not active, please check your billing details on our website.", code="billing_not_active"), C.QUOTA_EXHAUSTED, None),
    ("openai", 429, openai("The engine is currently overloaded, please try again later"), C.OVERLOADED, None),
    ("openai", 400, openai("This model's maximum context length is 8192 tokens.", code="context_length_exceeded"), C.CONTEXT_TOO_LONG, None),
    ("openai", 400, openai("Invalid prompt: your prompt was flagged as potentially violating our usage policy.", code="invalid_prompt"), C.CONTENT_REFUSED, None),
    ("openai", 400, openai("Unsupported parameter: 'max_tokens' is not supported with this model.", code="unsupported_parameter"), C.UNSUPPORTED_HERE, None),
    ("openai", 400, openai("max_tokens is too large: 100000. This model supports at most 16384 completion tokens"), C.UNSUPPORTED_HERE, None),
    ("openai", 404, openai("The model `gpt-9` does not exist or you do not have access to it.", code="model_not_found"), C.MODEL_NOT_FOUND, None),
    ("openai", 403, openai("Project `proj_x` does not have access to model `o3`", code="model_not_found"), C.MODEL_NOT_FOUND, None),
    ("openai", 403, openai("Country, region, or territory not supported", code="unsupported_country_region_territory"), C.AUTHENTICATION, None),
    ("openai", 500, openai("The server had an error while processing your request.", type="server_error"), C.SERVER_ERROR, None),
    ("openai", 503, "upstream connect error or disconnect/reset before headers. reset reason: connection termination", C.OVERLOADED, None),
    ("openai", 502, "<html>\n<head><title>502 Bad Gateway</title></head><body>cloudflare</body></html>", C.SERVER_ERROR, None),
    ("openai", 524, "<html><title>api.openai.com | 524: A timeout occurred</title></html>", C.TIMEOUT, None),
    # Azure
    ("azure_openai", 429, {"error": {"code": "429", "message": "Requests to the ChatCompletions_Create Operation have exceeded call rate limit of your current OpenAI S0 pricing tier. Please retry after 20 seconds. To further increase the default rate limit go here."}}, C.RATE_LIMITED, 20.0),
    ("azure_openai", 429, {"statusCode": 429, "message": "Rate limit is exceeded. Try again in 9 seconds."}, C.RATE_LIMITED, 9.0),
    ("azure_openai", 408, "The operation was timeout.", C.TIMEOUT, None),
    ("azure_openai", 413, "Request Entity Too Large", C.CONTEXT_TOO_LONG, None),
    ("azure_openai", 400, {"error": {"message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.", "param": "prompt", "code": "content_filter", "status": 400, "innererror": {"code": "ResponsibleAIPolicyViolation"}}}, C.CONTENT_REFUSED, None),
    ("azure_openai", 404, {"error": {"code": "DeploymentNotFound", "message": "The API deployment for this resource does not exist."}}, C.MODEL_NOT_FOUND, None),
    ("azure_openai", 401, {"error": {"code": "401", "message": "Access denied due to invalid subscription key or wrong API endpoint."}}, C.AUTHENTICATION, None),
    # Anthropic
    ("anthropic", 400, {"type": "error", "error": {"type": "invalid_request_error", "message": "Your credit balance is too low to access the Anthropic API."}}, C.QUOTA_EXHAUSTED, None),
    ("anthropic", 400, {"type": "error", "error": {"type": "invalid_request_error", "message": "You have reached your specified API usage limits. You will regain access on 2026-12-01 at 00:00 UTC."}}, C.QUOTA_EXHAUSTED, None),
    ("anthropic", 400, {"type": "error", "error": {"type": "invalid_request_error", "message": "prompt is too long: 210000 tokens > 200000 maximum"}}, C.CONTEXT_TOO_LONG, None),
    ("anthropic", 400, {"type": "error", "error": {"type": "invalid_request_error", "message": "input length and `max_tokens` exceed context limit: 199000 + 4096 > 200000"}}, C.CONTEXT_TOO_LONG, None),
    ("anthropic", 400, {"type": "error", "error": {"type": "invalid_request_error", "message": "Output blocked by content filtering policy"}}, C.CONTENT_REFUSED, None),
    ("anthropic", 400, {"type": "error", "error": {"type": "invalid_request_error", "message": "This model does not support assistant message prefill."}}, C.UNSUPPORTED_HERE, None),
    ("anthropic", 403, {"type": "error", "error": {"type": "permission_error", "message": "Your API key does not have permission to use the specified resource."}}, C.AUTHENTICATION, None),
    ("anthropic", 413, {"type": "error", "error": {"type": "request_too_large", "message": "Request exceeds the maximum size"}}, C.CONTEXT_TOO_LONG, None),
    # Google
    ("gemini", 400, google(400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key.", {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}), C.AUTHENTICATION, None),
    ("gemini", 400, google(400, "FAILED_PRECONDITION", "User location is not supported for the API use."), C.AUTHENTICATION, None),
    ("gemini", 400, google(400, "INVALID_ARGUMENT", "The input token count (1250019) exceeds the maximum number of tokens allowed (1048575)."), C.CONTEXT_TOO_LONG, None),
    ("gemini", 400, google(400, "INVALID_ARGUMENT", "Invalid JSON payload received. Unknown name"), C.UNSUPPORTED_HERE, None),
    ("gemini", 429, google(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota, please check your plan and billing details. * Quota exceeded for metric: requests, limit: 15", {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.07s"}), C.RATE_LIMITED, 34.07),
    ("gemini", 429, google(429, "RESOURCE_EXHAUSTED", "You exceeded your current quota. * Quota exceeded for metric: free_tier_requests, limit: 0, model: gemini-pro\nPlease retry in 40.5s.", {"retryDelay": "40s"}), C.QUOTA_EXHAUSTED, None),
    ("gemini", 429, [google(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota). Please retry in 3.5s.")], C.RATE_LIMITED, 3.5),
    ("gemini", 500, google(500, "INTERNAL", "An internal error has occurred."), C.SERVER_ERROR, None),
    ("gemini", 504, google(504, "DEADLINE_EXCEEDED", "Deadline expired before operation could complete."), C.TIMEOUT, None),
    ("vertex", 429, google(429, "RESOURCE_EXHAUSTED", "Quota exceeded for aiplatform.googleapis.com/generate_content_requests_per_minute_per_project_per_base_model"), C.RATE_LIMITED, None),
    ("vertex", 403, google(403, "PERMISSION_DENIED", "Permission 'aiplatform.endpoints.predict' denied"), C.AUTHENTICATION, None),
    ("vertex", 403, google(403, "PERMISSION_DENIED", "This API method requires billing to be enabled.", {"reason": "BILLING_DISABLED"}), C.QUOTA_EXHAUSTED, None),
    # Bedrock
    ("bedrock", 403, {"message": "The security token included in the request is invalid."}, C.AUTHENTICATION, None),
    ("bedrock", 429, {"message": "Too many tokens, please wait before trying again."}, C.RATE_LIMITED, None),
    ("bedrock", 400, {"message": "Input is too long for requested model."}, C.CONTEXT_TOO_LONG, None),
    ("bedrock", 400, {"message": "The provided model identifier is invalid."}, C.MODEL_NOT_FOUND, None),
    ("bedrock", 400, {"message": "Invocation of model ID x with on-demand throughput isn’t supported."}, C.MODEL_NOT_FOUND, None),
    ("bedrock", 403, {"message": "You don't have access to the model with the specified model ID."}, C.MODEL_NOT_FOUND, None),
    ("bedrock", 404, {"message": "This model version has reached the end of its life."}, C.MODEL_NOT_FOUND, None),
    ("bedrock", 408, {"message": "Model has timed out in processing the request."}, C.TIMEOUT, None),
    ("bedrock", 424, {"message": "The model returned an error"}, C.SERVER_ERROR, None),
    ("bedrock", 503, {"message": "Bedrock is unable to process your request."}, C.OVERLOADED, None),
    # Mistral
    ("mistral", 500, {"object": "error", "message": "Service unavailable.", "type": "internal_server_error", "code": "1100"}, C.OVERLOADED, None),
    ("mistral", 500, {"object": "error", "message": "Internal server error", "type": "internal_server_error"}, C.SERVER_ERROR, None),
    ("mistral", 429, {"message": "Requests rate limit exceeded"}, C.RATE_LIMITED, None),
    ("mistral", 400, {"object": "error", "message": "Prompt contains 65673 tokens and 0 draft tokens, too large for model with 32768 maximum context length", "code": "3051"}, C.CONTEXT_TOO_LONG, None),
    ("mistral", 400, {"object": "error", "message": "Invalid model: mistral-huge", "type": "invalid_model", "code": "1500"}, C.MODEL_NOT_FOUND, None),
    ("mistral", 401, {"detail": "Unauthorized"}, C.AUTHENTICATION, None),
    ("mistral", 422, {"detail": [{"type": "extra_forbidden", "loc": ["body", "x"], "msg": "Extra inputs are not permitted", "input": "a secret prompt"}]}, C.UNSUPPORTED_HERE, None),
    ("mistral", 422, {"object": "error", "message": {"detail": [{"type": "missing", "loc": ["body"], "msg": "Field required", "input": "a secret prompt"}]}, "type": "invalid_request_error"}, C.INVALID_REQUEST, None),
    ("mistral", 500, {"object": "error", "message": "Internal server error", "type": "unreachable_backend", "code": "1100"}, C.OVERLOADED, None),
    # Groq
    ("groq", 429, openai("Rate limit reached on tokens per day (TPD): Limit 100000, Used 99000, Requested 2000. Please try again in 14m24.384s.", code="rate_limit_exceeded"), C.RATE_LIMITED, 864.384),
    ("groq", 400, openai("The model `x` has been decommissioned and is no longer supported.", code="model_decommissioned"), C.MODEL_NOT_FOUND, None),
    ("groq", 400, openai("Failed to generate JSON. Please adjust your prompt.", code="json_validate_failed"), C.MALFORMED, None),
    ("groq", 400, openai("Please reduce the length of the messages or completion.", code="context_length_exceeded"), C.CONTEXT_TOO_LONG, None),
    ("groq", 498, openai("Flex tier capacity exceeded"), C.OVERLOADED, None),
    ("groq", 503, openai("Service Unavailable"), C.OVERLOADED, None),
    # xAI
    ("xai", 400, {"code": "Client specified an invalid argument", "error": "Incorrect API key provided: xa***ey."}, C.AUTHENTICATION, None),
    ("xai", 403, {"code": "The caller does not have permission to execute the specified operation", "error": "Your team x has either used all available credits or reached its monthly spending limit."}, C.QUOTA_EXHAUSTED, None),
    ("xai", 403, {"code": "The caller does not have permission", "error": "Content violates usage guidelines."}, C.CONTENT_REFUSED, None),
    ("xai", 400, {"code": "Client specified an invalid argument", "error": "This model's maximum prompt length is 131072 but the request contains 200000 tokens."}, C.CONTEXT_TOO_LONG, None),
    ("xai", 429, {"code": "Some resource has been exhausted", "error": "Too many requests for team x and model grok. Your team's rate limit is 6."}, C.RATE_LIMITED, None),
    # DeepSeek, Cohere, Cerebras, Together, Fireworks, Perplexity
    ("deepseek", 402, openai("Insufficient Balance", code="invalid_request_error"), C.QUOTA_EXHAUSTED, None),
    ("deepseek", 400, openai("Model Not Exist", code="invalid_request_error"), C.MODEL_NOT_FOUND, None),
    ("deepseek", 400, openai("Content Exists Risk"), C.CONTENT_REFUSED, None),
    ("cohere", 401, {"message": "invalid api token"}, C.AUTHENTICATION, None),
    ("cohere", 429, {"message": "You are using a Trial key, which is limited to 1000 API calls / month."}, C.QUOTA_EXHAUSTED, None),
    ("cohere", 429, {"message": "You are using a Trial key, which is limited to 10 API calls / minute."}, C.RATE_LIMITED, None),
    ("cohere", 400, {"message": "too many tokens: total number of tokens in the prompt cannot exceed 4081"}, C.CONTEXT_TOO_LONG, None),
    ("cohere", 498, {"message": "blocked output"}, C.CONTENT_REFUSED, None),
    ("cerebras", 429, {"message": "Tokens per day limit exceeded", "type": "too_many_tokens_error", "code": "token_quota_exceeded"}, C.RATE_LIMITED, None),
    ("cerebras", 404, {"message": "Model x does not exist or you do not have access to it.", "code": "model_not_found"}, C.MODEL_NOT_FOUND, None),
    ("together", 422, {"error": {"message": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193."}}, C.CONTEXT_TOO_LONG, None),
    ("together", 402, {"error": {"message": "Credit limit exceeded, please add a payment method."}}, C.QUOTA_EXHAUSTED, None),
    ("fireworks", 429, {"error": "Too Many Requests", "message": "You have exceeded your usage limits. Please try again later."}, C.RATE_LIMITED, None),
    ("perplexity", 401, "<html><head><title>401 Authorization Required</title></head></html>", C.AUTHENTICATION, None),
    ("perplexity", 400, {"error": {"message": "Invalid model 'sonar-x'.", "type": "invalid_model", "code": 400}}, C.MODEL_NOT_FOUND, None),
    # OpenRouter
    ("openrouter", 402, {"error": {"message": "This request requires more credits, or fewer max_tokens.", "code": 402}}, C.QUOTA_EXHAUSTED, None),
    ("openrouter", 403, {"error": {"message": "x requires moderation on OpenInference. Your input was flagged for \"violence\".", "code": 403, "metadata": {"reasons": ["violence"], "flagged_input": "a prompt"}}}, C.CONTENT_REFUSED, None),
    ("openrouter", 404, {"error": {"message": "No endpoints found for x.", "code": 404}}, C.MODEL_NOT_FOUND, None),
    ("openrouter", 400, {"error": {"message": "x is not a valid model ID", "code": 400}}, C.MODEL_NOT_FOUND, None),
    ("openrouter", 400, {"error": {"message": "Provider returned error", "code": 400, "metadata": {"raw": json.dumps(openai("This model's maximum context length is 8192 tokens."))}}}, C.CONTEXT_TOO_LONG, None),
    ("openrouter", 429, {"error": {"message": "Provider returned error", "code": 429, "metadata": {"raw": "x:free is temporarily rate-limited upstream. Please retry shortly."}}}, C.RATE_LIMITED, None),
    ("openrouter", 502, {"error": {"message": "Your chosen model is down", "code": 502}}, C.SERVER_ERROR, None),
    # Local servers and others
    ("ollama", 404, {"error": "model 'x' not found, try pulling it first"}, C.MODEL_NOT_FOUND, None),
    ("ollama", 400, {"error": {"message": "registry.ollama.ai/library/x does not support tools"}}, C.UNSUPPORTED_HERE, None),
    ("ollama", 503, {"error": "server busy, please try again. maximum pending requests exceeded"}, C.OVERLOADED, None),
    ("vllm", 400, {"object": "error", "message": "This model's maximum context length is 4096 tokens.", "type": "BadRequestError", "code": 400}, C.CONTEXT_TOO_LONG, None),
    ("llamacpp", 400, {"error": {"code": 400, "message": "the request exceeds the available context size", "type": "exceed_context_size_error"}}, C.CONTEXT_TOO_LONG, None),
    ("llamacpp", 503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}, C.OVERLOADED, None),
    ("huggingface", 503, {"error": "Model x is currently loading", "estimated_time": 20.0}, C.OVERLOADED, 20.0),
    ("huggingface", 402, {"error": "You have exceeded your monthly included credits for Inference Providers."}, C.QUOTA_EXHAUSTED, None),
    ("openai_compatible", 429, {"detail": "Request was throttled. Your rate limit for creating predictions resets in ~30s.", "status": 429, "title": "Throttled"}, C.RATE_LIMITED, 30.0),
    ("openai_compatible", 403, {"errors": [{"code": "token_quota_reached", "message": "Token quota reached"}], "status_code": 403}, C.QUOTA_EXHAUSTED, None),
    ("openai_compatible", 404, {"errors": [{"code": "model_not_supported", "message": "Model 'x' is not supported"}]}, C.MODEL_NOT_FOUND, None),
    ("openai_compatible", 429, {"error": {"message": "Too many requests, please wait 30 seconds."}}, C.RATE_LIMITED, 30.0),
    ("openai_compatible", 401, {"error": None}, C.AUTHENTICATION, None),
    ("openai_compatible", 418, "", C.INVALID_REQUEST, None),
    ("openai_compatible", 302, "", C.SERVER_ERROR, None),
]  # fmt: skip

AGAIN = {C.RATE_LIMITED, C.OVERLOADED, C.SERVER_ERROR, C.TRANSPORT, C.TIMEOUT, C.MALFORMED}


@pytest.mark.parametrize(("kind", "status", "body", "expected", "wait"), TABLE)
def test_class_and_wait(kind: str, status: int, body: Any, expected: ErrorClass, wait: float | None) -> None:
    """Words, codes and status together give the class; the class says whether the same model may be asked again."""
    found = failure(kind, status, body)
    assert (found.error_class, found.retry_after) == (expected, wait)
    assert found.retry_same is (expected in AGAIN)
    assert found.http_status == status
    assert found.message
    assert "prompt" not in found.message or "secret" not in found.message


DATE = "Tue, 01 Dec 2026 12:00:00 GMT"
WAITS: list[tuple[dict[str, str], float | None]] = [
    ({"retry-after": "7"}, 7.0),
    ({"retry-after": "1.5"}, 1.5),
    ({"retry-after": "0"}, 0.0),
    ({"retry-after": "-5"}, None),
    ({"retry-after": "soon"}, None),
    ({"retry-after": "nan"}, None),
    ({"retry-after": "1e300"}, None),
    ({"retry-after": "99999999"}, MAX_WAIT_SECONDS),
    ({"retry-after-ms": "660"}, 0.66),
    ({"retry-after-ms": "660", "retry-after": "7"}, 0.66),
    ({"retry-after": "Tue, 01 Dec 2026 12:00:30 GMT", "date": DATE}, 30.0),
    ({"retry-after": "Tue, 01 Dec 2026 11:00:00 GMT", "date": DATE}, 0.0),
    ({"retry-after": "Tue, 01 Dec 2026 12:00:30 GMT"}, None),
    ({"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s"}, 360.0),
    ({"x-ratelimit-remaining-tokens": "5", "x-ratelimit-reset-tokens": "6m0s"}, None),
    ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1796126410", "date": DATE}, 10.0),
    ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1796126410000", "date": DATE}, 10.0),
    ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1796126410"}, None),
    ({"anthropic-ratelimit-requests-remaining": "0", "anthropic-ratelimit-requests-reset": "2026-12-01T12:00:05Z", "date": DATE}, 5.0),
    ({}, None),
]  # fmt: skip


@pytest.mark.parametrize(("headers", "expected"), WAITS)
def test_wait_from_headers(headers: dict[str, str], expected: float | None) -> None:
    """Seconds, dates, milliseconds and resets of an empty bucket, within a bound; junk says nothing."""
    assert failure("openai", 429, openai("slow down"), headers).retry_after == expected


def test_headers_win_over_words() -> None:
    """A header is what a client is meant to read."""
    found = failure("groq", 429, openai("Please try again in 2.87s."), {"retry-after": "3"})
    assert found.retry_after == 3.0


def test_openrouter_repeats_the_upstream_reset_in_the_body() -> None:
    """`metadata.headers` of the body stands for headers."""
    upstream = {"X-RateLimit-Limit": "20", "X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1796126410000"}
    body = {"error": {"message": "Rate limit exceeded", "code": 429, "metadata": {"headers": upstream}}}
    assert failure("openrouter", 429, body, {"date": DATE}).retry_after == 10.0


def test_a_wait_means_nothing_for_what_does_not_pass() -> None:
    """A bad key stays bad after Retry-After."""
    assert failure("openai", 401, openai("no"), {"retry-after": "7"}).retry_after is None


def test_the_provider_may_forbid_a_retry() -> None:
    """`x-should-retry: false` forbids what the class allows; `true` allows nothing the class forbids."""
    assert failure("anthropic", 500, {}, {"x-should-retry": "false"}).retry_same is False
    assert failure("anthropic", 401, {}, {"x-should-retry": "true"}).retry_same is False


@pytest.mark.parametrize(
    "secret",
    [
        "sk-proj-abcdefghijklmnop1234",
        "AIzaSyA1234567890abcdefghijklmnopqrstuv",
        "gsk_abcdefghijklmnop",
        "AKIAIOSFODNN7EXAMPLE",
        "dummy-op********-key",
    ],
)
def test_keys_are_never_shown(secret: str) -> None:
    """A key that a provider echoes is redacted."""
    for text in (
        f"Incorrect API key provided: {secret}. See",
        f"key `api_key={secret}`",
        f"Bearer {secret} is bad",
    ):
        shown = failure("openai", 401, openai(text)).message
        assert secret not in shown
        assert "[redacted]" in shown


def test_messages_are_short() -> None:
    """At most 300 characters of a provider's words are kept."""
    assert len(failure("openai", 400, openai("word " * 1000)).message) <= 300


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "error",
                    "message",
                    "type",
                    "code",
                    "status",
                    "detail",
                    "details",
                    "errors",
                    "metadata",
                    "raw",
                    "retryDelay",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
)
_HEADERS = st.dictionaries(
    st.sampled_from(["retry-after", "retry-after-ms", "date", "x-ratelimit-reset", "x-ratelimit-remaining"]),
    st.text(max_size=12)
    | st.sampled_from(["0", "1s", DATE, "2026-01-01T00:00:00Z", "1e9", "99999999999999"]),
)


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(sorted(WIRES)),
    status=st.integers(300, 599),
    headers=_HEADERS,
    body=st.binary(max_size=64) | _JSON.map(lambda value: json.dumps(value).encode()),
)
def test_classifying_never_raises(kind: str, status: int, headers: dict[str, str], body: bytes) -> None:
    """Any status, headers and body give a failure with a bounded wait and a short message."""
    found = WIRES[kind].failure(status, headers, body)
    assert found.retry_after is None or 0 <= found.retry_after <= MAX_WAIT_SECONDS
    assert 0 < len(found.message) <= 300
