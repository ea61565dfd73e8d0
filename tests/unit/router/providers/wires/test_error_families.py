"""Families of errors that statuses hide: empty and blocked accounts, models out of reach, prompts that are too long,
requests above the account's rate; and the waits that stand in unusual places."""

# ruff: noqa: E501

from __future__ import annotations

import json
from typing import Any

import pytest

from libs.limits import Period, Unit
from libs.types import ErrorClass
from services.router.providers.limit_evidence import ObservedLimit
from services.router.providers.wires.limits import parse_rate_limits
from tests.unit.router.providers.wires.samples import WIRES, sse, typed
from tests.unit.router.providers.wires.test_errors import DATE, failure, google, openai
from tests.unit.router.providers.wires.test_streams import fails

C = ErrorClass


def anthropic(message: str, kind: str = "invalid_request_error") -> dict[str, Any]:
    """An error as Anthropic writes it."""
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": "req_1"}


FAMILIES: list[tuple[str, int, Any, ErrorClass]] = [
    # Nothing left to pay with, or a cap that the account set itself.
    ("anthropic", 400, anthropic("Your credit balance is too low to access the Anthropic API."), C.QUOTA_EXHAUSTED),
    ("anthropic", 400, anthropic("You have reached your specified workspace API usage limits."), C.QUOTA_EXHAUSTED),
    ("groq", 400, openai("Spend limit reached. Organization has been blocked from API usage.", code="blocked_api_access"), C.QUOTA_EXHAUSTED),
    ("fireworks", 412, openai("Account acme is suspended, possibly due to reaching the monthly spending limit or failure to pay past invoices.", code="PRECONDITION_FAILED"), C.QUOTA_EXHAUSTED),
    ("openai_compatible", 403, openai("Your account acme is suspended, please check your plan and billing details", type="exceeded_current_quota_error"), C.QUOTA_EXHAUSTED),
    ("xai", 403, {"code": "The caller does not have permission to execute the specified operation", "error": "Your newly created team doesn't have any credits yet. You can purchase credits on the console."}, C.QUOTA_EXHAUSTED),
    ("gemini", 429, google(429, "RESOURCE_EXHAUSTED", "Your prepayment credits are depleted. Please go to AI Studio to manage your project and billing."), C.QUOTA_EXHAUSTED),
    ("gemini", 429, google(429, "RESOURCE_EXHAUSTED", "Your project has exceeded its monthly spending cap."), C.QUOTA_EXHAUSTED),
    ("gemini", 429, google(429, "RESOURCE_EXHAUSTED", "Resource has been exhausted (e.g. check quota)."), C.RATE_LIMITED),
    ("bedrock", 403, {"message": "INVALID_PAYMENT_INSTRUMENT: A valid payment instrument must be provided."}, C.QUOTA_EXHAUSTED),
    ("openai_compatible", 403, {"reason": "NOT_ENOUGH_BALANCE", "message": "not enough balance"}, C.QUOTA_EXHAUSTED),
    ("openai_compatible", 429, openai("You have run out of credits."), C.QUOTA_EXHAUSTED),
    ("openai_compatible", 403, {"message": "\u8d26\u6237\u6b20\u8d39"}, C.QUOTA_EXHAUSTED),
    # An account or key that was switched off.
    ("anthropic", 400, anthropic("This organization has been disabled."), C.AUTHENTICATION),
    ("groq", 400, openai("Organization has been restricted. Please reach out to support.", code="organization_restricted"), C.AUTHENTICATION),
    ("openai", 400, openai("Your account has been deactivated.", code="account_deactivated"), C.AUTHENTICATION),
    ("fireworks", 412, openai("Account acme is suspended."), C.AUTHENTICATION),
    # A model that this account cannot use.
    ("groq", 400, openai("The model `x` is blocked at the organization level.", type="permissions_error", code="model_permission_blocked_org"), C.MODEL_NOT_FOUND),
    ("groq", 403, openai("The model `x` is blocked at the project level.", code="model_permission_blocked_project"), C.MODEL_NOT_FOUND),
    ("azure_openai", 400, {"error": {"code": "unavailable_model", "message": "Unavailable model: x"}}, C.MODEL_NOT_FOUND),
    ("writer", 400, {"tpe": "fail", "errors": [{"description": "Model not found", "key": "fail.model.notFound", "extras": {}}]}, C.MODEL_NOT_FOUND),
    ("writer", 400, {"tpe": "fail", "errors": [{"key": "fail.model.notFound"}]}, C.MODEL_NOT_FOUND),
    ("mistral", 403, {"object": "error", "message": "This model is not available in your plan"}, C.MODEL_NOT_FOUND),
    # More than the model can read.
    ("bedrock", 400, {"message": "The model returned the following errors: Input Tokens Exceeded: Number of input tokens exceeds maximum length. Please update the input to try again."}, C.CONTEXT_TOO_LONG),
    ("bedrock", 400, {"message": "The model returned the following errors: prompt is too long: 203000 tokens > 200000 maximum"}, C.CONTEXT_TOO_LONG),
    ("together", 403, openai("Input token count + max_tokens parameter must be less than the context length of the model being queried"), C.CONTEXT_TOO_LONG),
    ("together", 400, openai("The input (300 tokens) is longer than the model's context length (200 tokens)."), C.CONTEXT_TOO_LONG),
    ("openai_compatible", 400, openai("Invalid request: Your request exceeded model token limit: 8192"), C.CONTEXT_TOO_LONG),
    ("openai_compatible", 400, openai("prompt token count of 5000 exceeds the limit of 4096"), C.CONTEXT_TOO_LONG),
    ("openai_compatible", 400, openai("invalid params, context window exceeds limit"), C.CONTEXT_TOO_LONG),
    ("openai_compatible", 400, openai("Range of input length should be [1, 30000]"), C.CONTEXT_TOO_LONG),
    ("openai_compatible", 400, openai("The number of tokens to keep from the initial prompt is greater than the context length."), C.CONTEXT_TOO_LONG),
    ("ollama_native", 400, {"error": "prompt too long; exceeded max context length by 12 tokens"}, C.CONTEXT_TOO_LONG),
    ("azure_openai", 400, openai("Input tokens exceed the configured limit of 272000 tokens."), C.CONTEXT_TOO_LONG),
    ("groq", 413, openai("Request Entity Too Large", code="request_too_large"), C.CONTEXT_TOO_LONG),
    ("bedrock", 400, {"message": "The maximum tokens you requested exceeds the model limit of 10000."}, C.UNSUPPORTED_HERE),
    ("openai", 400, openai("max_tokens exceeds the limit of 8192"), C.UNSUPPORTED_HERE),
    # What it will not talk about.
    ("openai", 400, openai("Invalid prompt: we've limited access to this content for safety reasons.", code="invalid_prompt"), C.CONTENT_REFUSED),
    ("openai", 400, openai("Your request was rejected as a result of our safety system."), C.CONTENT_REFUSED),
    ("openai_compatible", 500, {"type": "error", "error": {"type": "api_error", "message": "messages[0]'s content[1] image is sensitive, please check your input (1026)"}}, C.CONTENT_REFUSED),
    ("xai", 403, {"code": "The caller does not have permission", "error": "Failed check: SAFETY_CHECK_TYPE_BIO"}, C.CONTENT_REFUSED),
    ("gemini", 400, google(400, "INVALID_ARGUMENT", "Invalid value at 'safety_settings[0].category'"), C.INVALID_REQUEST),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "status", "body", "expected"), FAMILIES)
def test_words_decide_where_the_status_misleads(
    kind: str, status: int, body: Any, expected: ErrorClass
) -> None:
    """Each family in the words of several providers, and its nearest neighbours that are something else."""
    assert failure(kind, status, body).error_class is expected


ABOVE: list[tuple[str, int, str]] = [
    ("openai", 429, "Request too large for gpt-4o in organization org-x on tokens per min (TPM): Limit 30000, Requested 43000. The input or output tokens must be reduced in order to run successfully."),
    ("groq", 413, "Request too large for model `llama` on tokens per minute (TPM): Limit 6000, Requested 7000, please reduce your message size and try again."),
    ("groq", 413, "Request too large for model `llama` on tokens per day (TPD): Limit 100000, Requested 120000, please reduce your message size and try again."),
    ("openai", 429, "Rate limit reached: Limit 6000, Used 0, Requested 7000."),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "status", "message"), ABOVE)
def test_more_than_the_accounts_rate_is_no_matter_of_the_context(
    kind: str, status: int, message: str
) -> None:
    """The account may never send so much at once: no wait helps at this provider, but others with the same context
    window may take it, so it is a rate that was exceeded and not a prompt that is too long."""
    body = openai(message, type="tokens", code="rate_limit_exceeded")
    found = failure(kind, status, body, {"retry-after": "7"})
    assert (found.error_class, found.retry_same, found.retry_after) == (C.RATE_LIMITED, False, None)
    failed = {"type": "response.failed", "response": {"status": "failed", "error": body["error"]}}
    assert fails("openai_responses", typed(failed)) == ([], C.RATE_LIMITED)


REPLENISHED: list[tuple[str, dict[str, str], float | None]] = [
    ("Out of call volume quota. Quota will be replenished in 05:12:33.", {}, 18_753.0),
    ("Out of call volume quota. Quota will be replenished in 5.03:23:11.", {}, 86_400.0),
    ("Out of call volume quota for Azure OpenAI. Quota will be replenished in 2 hours", {}, 7200.0),
    ("Out of bandwidth quota. Quota will be replenished in 00:00:09.", {"retry-after": "8"}, 8.0),
    ("Out of call volume quota.", {}, None),
]


@pytest.mark.parametrize(("message", "headers", "wait"), REPLENISHED)
def test_a_quota_that_comes_back_says_when(message: str, headers: dict[str, str], wait: float | None) -> None:
    """Azure's API management refuses with a 403; the quota is gone for now, not for good."""
    found = failure("azure_openai", 403, {"statusCode": 403, "message": message}, headers)
    assert (found.error_class, found.retry_same, found.retry_after) == (C.QUOTA_EXHAUSTED, False, wait)


RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7.5s"}
WRAPPED = google(429, "RESOURCE_EXHAUSTED", "Quota", RETRY)
NESTED: list[tuple[str, Any]] = [
    ("gemini", [WRAPPED]),
    ("openrouter", {"error": {"message": "Provider returned error", "code": 429, "metadata": {"raw": json.dumps(WRAPPED)}}}),
    ("openrouter", {"error": {"message": "Provider returned error", "code": 429, "metadata": {"raw": json.dumps([WRAPPED])}}}),
    ("openai_compatible", {"error": {"message": json.dumps(WRAPPED), "code": 429}}),
    ("openrouter", {"error": {"message": "Provider returned error", "code": 429, "metadata": {"raw": "Rate limit reached. Please try again in 7.5s."}}}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "body"), NESTED)
def test_a_wait_that_another_server_wrapped_is_found(kind: str, body: Any) -> None:
    """In an array, in JSON inside a string, in the upstream's words."""
    found = failure(kind, 429, body)
    assert (found.error_class, found.retry_after) == (C.RATE_LIMITED, 7.5)


RESETS: list[tuple[dict[str, str], float | None]] = [
    ({"ratelimit": '"default";r=0;t=60', "ratelimit-policy": '"default";q=100;w=60'}, 60.0),
    ({"ratelimit": '"burst";r=3;t=5, "day";r=0;t=60'}, 60.0),
    ({"ratelimit": "limit=100, remaining=0, reset=60"}, 60.0),
    ({"ratelimit-limit": "100", "ratelimit-remaining": "0", "ratelimit-reset": "60"}, 60.0),
    ({"ratelimit-reset": "60"}, 60.0),
    ({"x-ratelimit-reset": "1796126410", "date": DATE}, 10.0),
    ({"ratelimit": '"default";r=5;t=60'}, None),
    ({"ratelimit": '"default";r=none;t=soon', "ratelimit-policy": '"default";q=x;w=y'}, None),
    ({"ratelimit": ';;,=,"', "ratelimit-policy": ",;"}, None),
]


@pytest.mark.parametrize(("headers", "expected"), RESETS)
def test_wait_from_the_ietfs_headers(headers: dict[str, str], expected: float | None) -> None:
    """Both drafts' ways to say that nothing is left, and when it will be."""
    assert failure("openai_compatible", 429, "", headers).retry_after == expected


def test_limits_from_the_ietfs_headers() -> None:
    """The policy gives the limit and its window; limits on bytes are left out."""
    headers = {
        "RateLimit": '"default";r=40;t=12, "bytes";r=7;t=1',
        "ratelimit-policy": '"default";q=100;w=60, "bytes";q=99;w=1;qu="content-bytes"',
    }
    lower = {name.lower(): value for name, value in headers.items()}
    assert parse_rate_limits(lower) == (ObservedLimit(Unit.REQUESTS, 100, 40, 12.0, Period.MINUTE),)


def test_an_error_without_a_status_inside_a_200_is_read_by_its_words() -> None:
    """An empty account and a prompt that is too long are told from a fault though nothing states a status."""
    for message, expected in (
        ("Your credit balance is too low to access the API", C.QUOTA_EXHAUSTED),
        ("This model's maximum context length is 8192 tokens", C.CONTEXT_TOO_LONG),
        ("server busy, please try again", C.OVERLOADED),
        ("Service is too busy", C.OVERLOADED),
        ("Something went wrong", C.SERVER_ERROR),
    ):
        assert fails("openai", sse({"error": {"message": message, "type": None}})) == ([], expected)


def test_every_wire_shares_the_table() -> None:
    """A body in one provider's words has the same class from whichever kind it comes."""
    body = openai("Your credit balance is too low")
    assert {failure(kind, 400, body).error_class for kind in WIRES} == {C.QUOTA_EXHAUSTED}
