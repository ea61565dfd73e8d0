"""Whatever a client sends is read or refused: nothing else is raised, by the translation nor by what checks it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libs.errors import InvalidArgument
from services.router.api.accept import accept
from services.router.api.openai.chat_body import ChatBody
from services.router.api.openai.chat_request import read_chat
from services.router.api.openai.errors import ApiError, error_body, from_failure
from services.router.api.openai.responses_body import ResponsesBody
from services.router.api.openai.responses_request import read_responses
from tests.support.routing import TENANT, catalog, model

CATALOG = catalog([model("a/m")])
WORDS = ["user", "assistant", "tool", "function", "function_call", "message", "reasoning", "text", "auto"]
WORDS += ["json_schema", "input_text", "output_text", "refusal", "function_call_output", "required", ""]
WORDS += ["image_url", "input_image", "file", "input_file", "low", "data:image/png;base64,iVBORw0KGgo="]
WORDS += ["data:", "data:;base64,", "https://a.example/b.png"]
FIELDS = [
    "role",
    "content",
    "type",
    "text",
    "tool_calls",
    "reasoning_details",
    "reasoning_content",
    "encrypted_content",
    "summary",
    "function",
    "name",
    "arguments",
    "id",
    "parameters",
]
FIELDS += ["json_schema", "schema", "call_id", "output", "tool_call_id", "format", "effort", "refusal"]
FIELDS += ["image_url", "url", "detail", "file", "file_data", "file_url", "filename", "file_id"]
TOP = [*ChatBody.__struct_fields__, *ResponsesBody.__struct_fields__]
HEADERS = ["content-type", "strategy", "priority", "campaign", "max-attempts", "max-cost-usd", "hedge"]
HEADERS += ["timeout", "on-restart"]

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.sampled_from(WORDS), st.text(max_size=5)
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.sampled_from(FIELDS), inner, max_size=5)
    ),
    max_leaves=12,
)
#: Most of them have what must be there, so that what comes after is reached too.
bodies = st.one_of(
    st.binary(max_size=60),
    st.builds(
        lambda base, more: json.dumps(base | more).encode(),
        st.sampled_from(
            [{}, {"model": "auto", "messages": [{"role": "user", "content": "x"}], "input": "x"}]
        ),
        st.dictionaries(st.sampled_from(TOP), values, max_size=4),
    ),
)
headers = st.dictionaries(
    st.sampled_from([f"x-pointsman-{name}" for name in HEADERS]),
    st.one_of(
        st.text(max_size=8), st.sampled_from(["1", "0.5", "true", "9" * 5000, "\udcff", "nan", "bulk"])
    ),
    max_size=3,
)


@pytest.mark.parametrize("read", [read_chat, read_responses])
@settings(max_examples=400, deadline=None)
@given(body=bodies, sent=headers)
def test_anything_is_read_or_refused(read: Any, body: bytes, sent: dict[str, str]) -> None:
    """And every refusal can be written as JSON."""
    refusal: ApiError | None = None
    try:
        ask, *_ = read(body, sent, "r1")
        accept(CATALOG, TENANT, ask.draft, 0.0, ask.timeout, str)
    except ApiError as error:
        refusal = error
    except InvalidArgument as error:
        refusal = from_failure(error, ask.names)
    if refusal is not None:
        assert 400 <= refusal.status < 500
        assert json.loads(error_body(refusal))["error"]["message"]
