"""An error's class is concluded from codes, the status and a stated wait before prose, and never from the caller's
own words. Each kind was a tenant who took a provider from all others by the name of a tool.
words. Each kind was a tenant who took a provider from all others by the name of a tool."""

# ruff: noqa: E501

from __future__ import annotations

from typing import Any

import pytest

from libs.types import ErrorClass
from services.router.providers.wires.errors import sanitise
from tests.unit.router.providers.wires.samples import WIRES, sse
from tests.unit.router.providers.wires.test_error_families import FAMILIES, anthropic
from tests.unit.router.providers.wires.test_errors import TABLE, failure, google, openai
from tests.unit.router.providers.wires.test_streams import fails

C = ErrorClass
ACCOUNT = (C.AUTHENTICATION, C.QUOTA_EXHAUSTED)

#: Names that a caller may give to tools and fields, and texts that he may write.
NAMES = [
    "get_overdue_invoices",
    "check_account_suspended",
    "list_flagged_reviews",
    "context_window_resize",
    "insufficient_quota",
    "invalid_api_key",
    "model_not_found",
    "getOverdueInvoices",
    "payment-method",
    "overloaded",
    "rate_limit_exceeded",
    "account.has.been.disabled",
]
WORDS = [
    "my invoice is overdue and my quota is exceeded",
    "your account has been suspended",
    "incorrect API key provided",
    "this isn't flagged, it violates our usage policies",
    "the model gpt-9 does not exist",
]
#: How vendors repeat what they were sent.
ECHOES = [
    "Invalid schema for function '{}': In context=('properties', 'ids'), array schema missing items.",
    "Invalid schema for function `{}`: schema must be a JSON Schema of 'type: \"object\"'.",
    'Invalid "tools[0].function.name": "{}" is used twice.',
    "Conversation roles must alternate; got: '{}'",
    "Value error, unknown role \u201c{}\u201d",
    "Input should be a valid list, input_value='{}",
]
SHAPES: list[tuple[str, Any]] = [
    ("openai", lambda text: openai(text, code="invalid_function_parameters", param="tools[0].function.parameters")),
    ("openai", lambda text: openai(text, code="invalid_value")),
    ("openai", lambda text: openai(text, code="a_code_of_next_year")),
    ("openai", openai),
    ("vllm", lambda text: {"object": "error", "message": text, "type": "BadRequestError", "code": 400}),
    ("anthropic", anthropic),
    ("gemini", lambda text: google(400, "INVALID_ARGUMENT", text)),
    ("bedrock", lambda text: {"message": text, "__type": "ValidationException"}),
    ("mistral", lambda text: {"detail": [{"type": "value_error", "loc": ["body", "tools"], "msg": text, "input": text}]}),
    ("openai_compatible", lambda text: {"message": text}),
]  # fmt: skip


@pytest.mark.parametrize("echo", ECHOES)
@pytest.mark.parametrize(("kind", "shape"), SHAPES)
def test_what_is_quoted_says_nothing(kind: str, shape: Any, echo: str) -> None:
    """No name and no text of the caller's that a 400 quotes is concluded from, in any vendor's shape."""
    for word in (*NAMES, *WORDS):
        assert failure(kind, 400, shape(echo.format(word))).error_class is C.INVALID_REQUEST, word


@pytest.mark.parametrize("field", ["param", "loc", "input", "failed_generation"])
def test_fields_that_hold_the_request_say_nothing(field: str) -> None:
    """The blamed field's path and the repeated input are no codes."""
    for word in (*NAMES, *WORDS):
        assert failure("openai", 400, openai("Bad value.", **{field: word})).error_class is C.INVALID_REQUEST


@pytest.mark.parametrize(("kind", "status", "body", "expected"), [(k, s, b, e) for k, s, b, e, *_ in (*TABLE, *FAMILIES) if e in ACCOUNT or e in (C.CONTENT_REFUSED, C.MODEL_NOT_FOUND)])  # fmt: skip
def test_no_failures_words_are_concluded_from_when_the_request_holds_them(
    kind: str, status: int, body: Any, expected: ErrorClass
) -> None:
    """Whatever words decide anywhere, unquoted in a 400 they decide nothing once they stand in the request too."""
    found = failure(kind, status, body)
    words = found.deciding_words
    if not words:
        assert found.explicit or status == 403
        return
    assert not found.explicit
    echoed = failure("openai", 400, openai(f"Bad request near {found.unredacted}"))
    prompt = f'{{"messages":[{{"content":"Look: {found.unredacted.upper()}\\nis that so?"}}]}}'.encode()
    sanitise(echoed, str, prompt)
    assert echoed.error_class in (C.INVALID_REQUEST, C.CONTEXT_TOO_LONG) or "*" in words


def test_an_echo_is_found_across_the_requests_line_breaks() -> None:
    """White space that the provider collapsed does not hide where the words come from."""
    found = failure(
        "openai_compatible", 400, {"message": "Cannot parse: your account has been suspended today"}
    )
    assert (found.error_class, found.explicit) == (C.AUTHENTICATION, False)
    sanitise(found, str, rb'{"content":"Your account\n\n has been\tSuspended today"}')
    assert (found.error_class, found.explicit, found.retry_same) == (C.INVALID_REQUEST, True, False)
    assert found.deciding_words == found.unredacted == ""


#: What a caller wrote, how it stands in the request, and how a provider that quotes nothing repeats it.
UNQUOTED: list[tuple[str, str, ErrorClass]] = [
    ("payment-required", "payment required", C.QUOTA_EXHAUSTED),
    ("payment_required", "Payment required", C.QUOTA_EXHAUSTED),
    ("payment\u00a0required", "payment\u00a0required", C.QUOTA_EXHAUSTED),
    ("payment\u202frequired", "payment required", C.QUOTA_EXHAUSTED),
    ("payment\\u00a0required", "payment required", C.QUOTA_EXHAUSTED),
    ("the team & account has been suspended", "the team &amp; account has been suspended", C.AUTHENTICATION),
    ("list-flagged-reviews", "list flagged reviews", C.CONTENT_REFUSED),
    ("context-window-resize", "context window resize", C.CONTEXT_TOO_LONG),
    ("context.window", "context window", C.CONTEXT_TOO_LONG),
    ("余额不足", "余额不足", C.QUOTA_EXHAUSTED),
]


@pytest.mark.parametrize(("asked", "said", "seeming"), UNQUOTED)
@pytest.mark.parametrize("echo", ["Bad tool {} in request", "{}: unexpected", "Property (<{}>) is not valid"])
def test_an_echo_without_quotes_is_found_in_the_request(
    asked: str, said: str, seeming: ErrorClass, echo: str
) -> None:
    """Whatever stands between its words, there and here; of a request that is too short to be too long also where it
    is about length."""
    found = failure("openai", 400, openai(echo.format(said)))
    assert (found.error_class, found.explicit) == (seeming, False)
    sanitise(found, str, f'{{"tools":[{{"name":"{asked}"}}]}}'.encode())
    assert (found.error_class, found.explicit) == (C.INVALID_REQUEST, True)


def test_a_long_request_that_speaks_of_context_windows_may_still_be_too_long() -> None:
    """The request's own words are no evidence against its provider's on its length."""
    found = failure("openai", 400, openai("This is more than the context window takes"))
    sanitise(found, str, b'{"content":"About the context window: ' + b"many words " * 1000 + b'"}')
    assert found.error_class is C.CONTEXT_TOO_LONG


@pytest.mark.parametrize("quotes", ["''", '""', "``", "“”", "‘’", "«»", "„“", "‚‘", "「」", "『』"])
def test_quotation_marks_of_every_script_quote(quotes: str) -> None:
    """Also HTML's."""
    begin, end = quotes[0], quotes[1]
    for word in WORDS:
        for text in (f"Bad value {begin}{word}{end}.", f"Bad value &quot;{word}&#34;."):
            if "'" not in word:
                assert failure("openai", 400, openai(text)).error_class is C.INVALID_REQUEST, text


#: Bodies that hold JSON of somebody else's, whose code it is.
HELD: list[tuple[str, Any]] = [
    ("a message", lambda held: openai(held)),
    ("a detail", lambda held: {"message": "Invalid JSON in arguments", "detail": held}),
    ("metadata", lambda held: {"error": {"message": "Bad metadata", "metadata": {"raw": held}}}),
]


@pytest.mark.parametrize(
    "code", ["insufficient_quota", "account_suspended", "invalid_api_key", "model_not_found"]
)
@pytest.mark.parametrize(("where", "shape"), HELD)
def test_a_code_in_text_is_the_providers_only_where_the_request_does_not_hold_it(
    where: str, shape: Any, code: str
) -> None:
    """JSON in a message may be an upstream's error, or the caller's own arguments repeated. A code in its place needs
    no such care, whatever the caller speaks of."""
    held = f'{{"code": "{code}", "message": "no"}}'
    for asked, echo in (
        (b'{"content":"hi"}', False),
        (f'{{"arguments":"{{\\"code\\":\\"{code}\\"}}"}}'.encode(), True),
    ):
        found = failure("openai_compatible", 400, shape(held))
        seeming = found.error_class
        assert seeming is not C.INVALID_REQUEST, where
        sanitise(found, str, asked)
        assert found.error_class is (C.INVALID_REQUEST if echo else seeming)
        own = failure("openai_compatible", 400, openai("no", code=code))
        sanitise(own, str, asked)
        assert own.error_class is seeming


AGAINST_PROSE: list[tuple[str, int, Any, dict[str, str], ErrorClass, float | None]] = [
    ("openai", 429, openai("Rate limit reached for requests. Increase your rate limit by adding a payment method to your account.", type="requests", code="rate_limit_exceeded"), {"retry-after": "20"}, C.RATE_LIMITED, 20.0),
    ("openai", 429, openai("You are not out of credits; you may enable spending limits.", type="tokens", code="rate_limit_exceeded"), {}, C.RATE_LIMITED, None),
    ("openai_compatible", 429, {"message": "Add a payment method to raise your limit."}, {"retry-after": "7"}, C.RATE_LIMITED, 7.0),
    ("openai_compatible", 429, {"message": "Too many requests. Increase your rate limit by adding a payment method."}, {}, C.RATE_LIMITED, None),
    ("openai_compatible", 429, {"message": "Rate limit of the free tier reached; payment required for more."}, {}, C.RATE_LIMITED, None),
    ("openai_compatible", 429, {"message": "Slow down or buy more: out of credits for this minute, try again in 9s."}, {}, C.RATE_LIMITED, 9.0),
    ("gemini", 429, google(429, "RESOURCE_EXHAUSTED", "Your spending cap may be raised.", {"retryDelay": "3s"}), {}, C.RATE_LIMITED, 3.0),
    ("openai", 401, openai("The model does not exist for this key; your prompt was flagged"), {}, C.AUTHENTICATION, None),
    ("openai", 402, openai("Your prompt was flagged"), {}, C.QUOTA_EXHAUSTED, None),
    ("openai", 400, openai("Your account has been disabled", code="context_length_exceeded"), {}, C.CONTEXT_TOO_LONG, None),
    ("openai", 400, openai("Invalid 'messages[1].tool_calls[0].id': string too long.", param="messages[1].tool_calls[0].id", code="string_above_max_length"), {}, C.INVALID_REQUEST, None),
    ("openai", 400, openai("Invalid 'messages[0].content': string too long.", param="messages[0].content", code="string_above_max_length"), {}, C.CONTEXT_TOO_LONG, None),
    ("anthropic", 400, anthropic("too many total text bytes: 10000002 > 9000000"), {}, C.CONTEXT_TOO_LONG, None),
    ("anthropic", 429, anthropic("Add credits: your credit balance is too low for a higher tier", "rate_limit_error"), {}, C.RATE_LIMITED, None),
    ("bedrock", 400, {"message": "The account is over its rate", "__type": "com.amazon.coral#ThrottlingException"}, {}, C.RATE_LIMITED, None),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "status", "body", "headers", "expected", "wait"), AGAINST_PROSE)
def test_codes_status_and_waits_stand_above_prose(
    kind: str, status: int, body: Any, headers: dict[str, str], expected: ErrorClass, wait: float | None
) -> None:
    """Prose decides nothing beside a machine-readable word, a status or a wait."""
    found = failure(kind, status, body, headers)
    assert (found.error_class, found.retry_after) == (expected, wait)


EXPLICIT: list[tuple[str, int, Any, ErrorClass, bool]] = [
    ("openai", 429, openai("No quota.", code="insufficient_quota"), C.QUOTA_EXHAUSTED, True),
    ("openai", 401, "", C.AUTHENTICATION, True),
    ("openai", 402, "", C.QUOTA_EXHAUSTED, True),
    ("gemini", 400, google(400, "INVALID_ARGUMENT", "Not valid", {"reason": "API_KEY_INVALID"}), C.AUTHENTICATION, True),
    ("anthropic", 400, anthropic("Your credit balance is too low to access the API."), C.QUOTA_EXHAUSTED, False),
    ("xai", 400, {"code": "Client specified an invalid argument", "error": "Incorrect API key provided"}, C.AUTHENTICATION, False),
    ("openai_compatible", 429, {"message": "You have run out of credits."}, C.QUOTA_EXHAUSTED, False),
    ("openai_compatible", 403, "<html><title>Access denied by the firewall</title></html>", C.AUTHENTICATION, False),
    ("openai", 503, "", C.OVERLOADED, True),
    ("openai", 404, "", C.MODEL_NOT_FOUND, True),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "status", "body", "expected", "explicit"), EXPLICIT)
def test_a_failure_says_whether_a_machine_readable_word_stands_behind_it(
    kind: str, status: int, body: Any, expected: ErrorClass, explicit: bool
) -> None:
    """Of an account only a code or a status that means nothing else; prose and a bare 403 are no proof."""
    found = failure(kind, status, body)
    assert (found.error_class, found.explicit) == (expected, explicit)


@pytest.mark.parametrize("status", [400, 401, 403])
def test_an_upstreams_account_is_not_ours(status: int) -> None:
    """A complaint of OpenRouter's upstream about OpenRouter's key or country blames neither our key nor our balance:
    the model cannot be had there now.
    model cannot be had there now."""
    for code in ("unsupported_country_region_territory", "invalid_api_key", "insufficient_quota"):
        raw = f'{{"error":{{"code":"{code}","message":"No."}}}}'
        body = {
            "error": {
                "code": status,
                "message": "Provider returned error",
                "metadata": {"raw": raw, "provider_name": "Up"},
            }
        }
        assert failure("openrouter", status, body).error_class is C.MODEL_NOT_FOUND
    assert (
        failure("openrouter", 401, {"error": {"code": 401, "message": "No auth"}}).error_class
        is C.AUTHENTICATION
    )


def test_an_error_inside_a_200_is_read_by_the_same_rules() -> None:
    """Codes first, quotations never."""
    for error, expected in (
        ({"message": "Add a payment method", "code": "rate_limit_exceeded"}, C.RATE_LIMITED),
        ({"message": "Tool 'overdue_credits' failed: 'out of credits'", "type": "invalid_request_error"}, C.INVALID_REQUEST),
        ({"message": "Tool 'check_account_suspended' failed", "type": None}, C.SERVER_ERROR),
        ({"message": "nothing left", "type": "insufficient_quota"}, C.QUOTA_EXHAUSTED),
    ):  # fmt: skip
        assert fails("openai", sse({"error": error})) == ([], expected)


def test_every_kind_says_why() -> None:
    """Every kind of provider marks what it concluded from prose."""
    for kind in WIRES:
        assert not failure(kind, 400, openai("Your credit balance is too low")).explicit
