"""Errors of all classes, of providers, gateways and proxies, each labelled before it was tried.

`unseen.jsonl` holds one a line. `batch`: in the order in which they were collected. `seen`: an issue as
owner/repository#number, a file as owner/repository:path, a page, "code" for what stands in public programs and tests,
or "memory" for what was written from memory in a vendor's manner, its wording unchecked. A status of 200 is an error
inside an answer. Names of callers, models and files are changed.

Batches from 8 on are bodies as they were found, none chosen for its difficulty, less those that stood in the table
already. `why`: the reason of the label. `also`: the other class that a careful reader may give. `still`: the class
that is given today to a row which is known to be wrong. `asked`: a wrong request by its class, and yet another
provider is asked, since nothing says what is wrong with it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from libs.types import ErrorClass
from services.router.providers.wires.errors import classify_inside, sanitise
from services.router.request.generation import ProviderFailure
from tests.unit.router.providers.wires.samples import WIRES
from tests.unit.router.providers.wires.test_errors import failure, openai

C = ErrorClass
ROWS: list[dict[str, Any]] = [
    json.loads(line)
    for line in (Path(__file__).parent / "unseen.jsonl").read_text(encoding="utf-8").splitlines()
]


def _failure(row: dict[str, Any]) -> ProviderFailure:
    """The failure that a row's answer means."""
    body = row["body"]
    if row["status"] == 200:
        return classify_inside(body)
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    return WIRES[row["wire"]].failure(row["status"], {}, data)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['batch']}-{row['wire']}-{row['status']}")
def test_an_error_has_the_class_that_it_was_given(row: dict[str, Any]) -> None:
    """So others are asked exactly where they may serve."""
    given = [row["still"]] if "still" in row else [row["class"], *([row["also"]] if "also" in row else [])]
    assert _failure(row).error_class in map(C, given)


@pytest.mark.parametrize("row", [row for row in ROWS if row["batch"] >= 11], ids=lambda row: row["why"])
def test_others_are_asked_unless_everyone_would_refuse(row: dict[str, Any]) -> None:
    """A refusal that names no fault of the request is no reason to ask nobody else."""
    asked = {row.get("asked", False) or _asks_others(C(row["class"]))}
    if "also" in row and not row.get("asked"):
        asked.add(_asks_others(C(row["also"])))
    failed = _failure(row)
    assert (failed.unexplained or _asks_others(failed.error_class)) in asked


def _asks_others(error_class: ErrorClass) -> bool:
    """Returns True if other providers are asked after a failure of this class that is explained."""
    return error_class not in (C.INVALID_REQUEST, C.CONTENT_REFUSED)


def test_whoever_is_known_to_be_misread_is_asked_elsewhere_all_the_same() -> None:
    """A wrong class that is left standing ends no request that another would serve."""
    known = [row for row in ROWS if "still" in row]
    assert 0 < len(known) <= 3
    assert all(row["still"] not in (C.INVALID_REQUEST, C.CONTENT_REFUSED) for row in known)


@pytest.mark.parametrize(
    "before", ["invalid params, ", "Invalid request: ", "Client specified an invalid argument. "]
)
@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        ("tool names are not allowed to be [search]", C.UNSUPPORTED_HERE),
        ("this vendor wants its own header with each call", C.UNSUPPORTED_HERE),
        ("message must be at least 1 token long", C.INVALID_REQUEST),
        ("tool_calls must be followed by tool results", C.INVALID_REQUEST),
        ("", C.INVALID_REQUEST),
        ("please check the documentation of our API", C.INVALID_REQUEST),
    ],
)
def test_words_before_the_cause_decide_nothing(before: str, cause: str, expected: ErrorClass) -> None:
    """ "Invalid params" stands before a vendor's demand as before a fault of the request; alone it is one."""
    assert failure("openai_compatible", 400, openai(before + cause)).error_class is expected


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("400: context_length_exceeded", C.CONTEXT_TOO_LONG),
        ("[rate_limit_exceeded] Slow down, please.", C.RATE_LIMITED),
        ("provider error: finish_reason=model_context_window_exceeded, try again", C.CONTEXT_TOO_LONG),
        ("The function rate_limit_exceeded is called without its arguments.", C.INVALID_REQUEST),
    ],
)
def test_a_code_that_a_text_states_counts_where_no_field_holds_one(said: str, expected: ErrorClass) -> None:
    """As gateways write it; a name inside a sentence is none."""
    assert failure("openai_compatible", 400, openai(said, type=None)).error_class is expected


def test_a_code_that_a_text_states_gives_way_to_a_fields_and_to_the_request() -> None:
    """A field's code is the provider's own; a text may hold the caller's words."""
    body = openai("400: rate_limit_exceeded", code="unsupported_parameter")
    assert failure("openai_compatible", 400, body).error_class is C.UNSUPPORTED_HERE
    failed = failure("openai_compatible", 400, openai("Bad tool: insufficient_quota", type=None))
    assert failed.error_class is C.QUOTA_EXHAUSTED
    request = json.dumps({"tools": [{"name": "insufficient_quota"}]}).encode()
    assert _asked(failed, request) is C.INVALID_REQUEST


@pytest.mark.parametrize(
    ("status", "body", "unexplained"),
    [
        (400, openai("Request contains an invalid argument."), True),
        (400, openai("Invalid Responses API request"), True),
        (
            400,
            openai("The request contains invalid parameters. Check the request body for any errors."),
            True,
        ),
        (400, b"", True),
        (422, b"", True),
        (431, b"", True),
        (400, b"<html><title>400 Bad Request</title></html>", True),
        (400, openai("Unable to process request"), True),
        (400, openai("messages: text content blocks must be non-empty"), False),
        (400, openai("Conversation roles must alternate user/assistant"), False),
        (400, openai("Could not process image"), False),
        (400, openai("Invalid value", type=None, code="invalid_type"), False),
        (400, openai("temperature: must be in the range [0, 2]"), False),
    ],
)
def test_a_wrong_request_is_told_from_one_that_was_merely_refused(
    status: int, body: Any, *, unexplained: bool
) -> None:
    """The class is the same; only the former is wrong for everyone."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    failed = WIRES["openai_compatible"].failure(status, {}, data)
    assert failed.error_class is C.INVALID_REQUEST
    assert failed.unexplained is unexplained


def test_what_only_the_callers_own_words_explain_is_unexplained() -> None:
    """The words that decided are in the request, so they say nothing, and no reason is left."""
    failed = failure("openai_compatible", 400, openai("Bad value [overloaded] of the tool"))
    sanitise(failed, str, json.dumps({"tools": [{"name": "overloaded"}]}).encode())
    assert (failed.error_class, failed.unexplained) == (C.INVALID_REQUEST, True)


def test_the_rows_are_wide_and_each_stands_once() -> None:
    """All classes that a provider can state, many wires, no row twice."""
    bodies = [json.dumps([row["wire"], row["status"], row["body"]]) for row in ROWS]
    assert len(set(bodies)) == len(bodies) >= 500
    assert len({row["class"] for row in ROWS}) >= 12
    assert len({row["wire"] for row in ROWS}) >= 20


def _asked(failed: ProviderFailure, request: bytes) -> ErrorClass:
    """The class after the request was held against the words that decided."""
    sanitise(failed, str, request)
    return failed.error_class


@pytest.mark.parametrize(
    ("said", "seeming"),
    [
        ('Could not use {"code": 429}', C.RATE_LIMITED),
        ("Could not use {'status': 503}", C.OVERLOADED),
        ('Could not use {"error": {"code": "insufficient_quota"}} here', C.QUOTA_EXHAUSTED),
        ("Could not use {'error': {'type': 'InputTextRiskDetection'}} here", C.CONTENT_REFUSED),
    ],
)
def test_an_error_inside_a_text_counts_unless_the_request_holds_it(said: str, seeming: ErrorClass) -> None:
    """As JSON and as Python prints it: a gateway's text is another server's error, and a caller's words are not."""
    body = openai(said, type=None)
    assert failure("openai_compatible", 400, body).error_class is seeming
    request = json.dumps({"messages": [{"role": "user", "content": f"Explain this: {said}"}]}).encode()
    assert _asked(failure("openai_compatible", 400, body), request) is C.INVALID_REQUEST


@pytest.mark.parametrize("words", ["overloaded", "payment required", "account suspended", "flagged"])
def test_what_stands_in_brackets_is_held_against_the_request_too(words: str) -> None:
    """Brackets around a word make no name of it, and no proof either."""
    failed = failure("openai_compatible", 400, openai(f"Bad value [{words}] of the tool"))
    request = json.dumps({"tools": [{"name": words}]}).encode()
    assert _asked(failed, request) is C.INVALID_REQUEST


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("InputTextRiskDetection", C.CONTENT_REFUSED),
        ("RateLimitExceeded.EndpointRPMExceeded", C.RATE_LIMITED),
        ("Throttling.User", C.RATE_LIMITED),
        ("account_balance_insufficient", C.QUOTA_EXHAUSTED),
        ("prompt_too_large", C.CONTEXT_TOO_LONG),
        ("ModelDoesNotExist", C.MODEL_NOT_FOUND),
        ("bad_credentials", C.AUTHENTICATION),
        ("gpu_overload", C.OVERLOADED),
        ("UpstreamTimeoutError", C.TIMEOUT),
        ("invalid_function_parameters", C.INVALID_REQUEST),
        ("insufficient_permissions", C.INVALID_REQUEST),
    ],
)
def test_a_code_of_no_table_is_read_by_its_words(code: str, expected: ErrorClass) -> None:
    """Codes are the provider's own, so their words may be read; words that say less than a class say nothing."""
    assert failure("openai_compatible", 400, openai("Bad value.", code=code)).error_class is expected
