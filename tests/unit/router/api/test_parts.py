"""Images and documents over the HTTP door: both dialects' JSON to parts, and how a wrong one is named."""

from __future__ import annotations

import json
from base64 import b64encode, encodebytes
from typing import Any

import pytest

from libs.conversation import File, Image, ImageDetail, Message, Part, Refusal, Role, Text, ToolCall
from libs.errors import InvalidArgument
from services.router.api.accept import accept
from services.router.api.openai.chat_request import read_chat
from services.router.api.openai.errors import ApiError, from_failure
from services.router.api.openai.exchange import ParsedRequest
from services.router.api.openai.responses_request import read_responses
from services.router.request.attachments import SentDocument, SentImage
from tests.support.pictures import jpeg, pdf, png
from tests.support.routing import TENANT, catalog, model

PNG, JPEG, PDF = png(), jpeg(), pdf()
ADDRESS = "https://a.example/b.png"


def data_url(data: bytes, kind: str) -> str:
    return f"data:{kind};base64,{b64encode(data).decode()}"


def chat(*content: dict[str, Any]) -> ParsedRequest:
    """A chat completions request of one user's message."""
    body = {"model": "auto", "messages": [{"role": "user", "content": list(content)}]}
    return read_chat(json.dumps(body).encode(), {}, "r1")[0]


def responses(*items: dict[str, Any]) -> ParsedRequest:
    """A responses request of these items."""
    return read_responses(json.dumps({"model": "auto", "input": list(items)}).encode(), {}, "r1")[0]


def image(url: str, **more: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def file(**fields: str) -> dict[str, Any]:
    return {"type": "file", "file": fields}


@pytest.mark.parametrize(
    ("sent", "part"),
    [
        (image(data_url(PNG, "image/png")), Image(PNG, "", "image/png")),
        (image(data_url(JPEG, "image/jpg")), Image(JPEG, "", "image/jpeg")),
        (image(data_url(PNG, "application/octet-stream")), Image(PNG)),
        (image(f"data:image/png;base64,{encodebytes(PNG).decode()}"), Image(PNG, "", "image/png")),
        (image(ADDRESS), Image(url=ADDRESS)),
        (image(ADDRESS, detail="auto"), Image(url=ADDRESS)),
        (image(ADDRESS, detail="low"), Image(url=ADDRESS, detail=ImageDetail.LOW)),
        ({"type": "image_url", "image_url": ADDRESS}, Image(url=ADDRESS)),
        (
            file(filename="a.pdf", file_data=data_url(PDF, "application/pdf")),
            File(PDF, "", "application/pdf", "a.pdf"),
        ),
        (file(file_data=b64encode(PDF).decode()), File(PDF)),
    ],
)
def test_chat_completions_have_images_and_files(sent: dict[str, Any], part: Part) -> None:
    """In their place among the text."""
    asked = chat({"type": "text", "text": "a"}, sent, {"type": "text", "text": "b"})
    assert asked.draft.prompt.messages == (Message(Role.USER, parts=(Text("a"), part, Text("b"))),)


def test_responses_have_images_and_files() -> None:
    """And a tool may show an image; calls stay with what was said before them."""
    asked = responses(
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "a"},
                {"type": "input_image", "image_url": data_url(PNG, "image/png"), "detail": "high"},
                {"type": "input_image", "image_url": ADDRESS, "detail": "auto"},
                {"type": "input_file", "filename": "a.pdf", "file_data": data_url(PDF, "application/pdf")},
                {"type": "input_file", "file_url": "https://a.example/b.pdf"},
            ],
        },
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {
            "type": "function_call_output",
            "call_id": "c1",
            "output": [{"type": "input_image", "image_url": data_url(PNG, "image/png")}],
        },
    )
    picture = Image(PNG, "", "image/png")
    assert asked.draft.prompt.messages == (
        Message(
            Role.USER,
            parts=(
                Text("a"),
                Image(PNG, "", "image/png", ImageDetail.HIGH),
                Image(url=ADDRESS),
                File(PDF, "", "application/pdf", "a.pdf"),
                File(url="https://a.example/b.pdf"),
            ),
        ),
        Message(Role.ASSISTANT, "", (ToolCall("c1", "f", "{}"),), "", (Refusal("no"),)),
        Message(Role.TOOL, "", (), "c1", (picture,)),
    )


@pytest.mark.parametrize(
    ("sent", "code", "param"),
    [
        (image("data:image/png;base64,@@@@"), "invalid_value", ".image_url"),
        (image("data:image/png;base64,iVBORw0KGg"), "invalid_value", ".image_url"),
        (image("data:image/png;base64,\u00e9"), "invalid_value", ".image_url"),
        (image("data:image/png;base64,"), "invalid_value", ".image_url"),
        (image("data:image/png,abc"), "invalid_value", ".image_url"),
        (image("data:image/png;base64"), "invalid_value", ".image_url"),
        (image(ADDRESS, detail="extreme"), "invalid_value", ".image_url"),
        (file(file_data="not base64"), "invalid_value", ".file.file_data"),
        (file(file_id="file-1"), "unsupported_parameter", ""),
        ({"type": "input_audio", "input_audio": {"data": "x"}}, "unsupported_parameter", ""),
        ({"type": "image_url"}, "unsupported_parameter", ""),
        ({"type": "text"}, "unsupported_parameter", ""),
    ],
)
def test_what_cannot_be_read_is_named(sent: dict[str, Any], code: str, param: str) -> None:
    """A 400 with the part's place, without its bytes."""
    with pytest.raises(ApiError) as caught:
        chat({"type": "text", "text": "a"}, sent)
    assert (caught.value.status, caught.value.code) == (400, code)
    assert caught.value.param == f"messages[0].content[1]{param}"
    assert "iVBOR" not in caught.value.message


def judge(asked: ParsedRequest) -> ApiError | None:
    """The answer to a request that the router refuses; None: it accepts it."""
    try:
        accept(catalog([model("a/m")]), TENANT, asked.draft, 0.0, None, str)
    except InvalidArgument as error:
        return from_failure(error, asked.names)
    return None


@pytest.mark.parametrize(
    ("sent", "param"),
    [
        (image(data_url(JPEG, "image/png")), "messages[0].content[1].media_type"),
        (image(data_url(b"<svg/>", "image/svg+xml")), "messages[0].content[1].media_type"),
        (image(data_url(b"<svg/>", "")), "messages[0].content[1]"),
        (image(data_url(PDF, "")), "messages[0].content[1]"),
        (image(data_url(PNG[:20], "image/png")), "messages[0].content[1]"),
        (image(data_url(png(20_000, 1), "image/png")), "messages[0].content[1]"),
        (image(data_url(PNG + bytes(7 * 2**20), "image/png")), "messages[0].content[1]"),
        (image("file:///etc/passwd"), "messages[0].content[1].url"),
        (image("https://a.example/ b"), "messages[0].content[1].url"),
        (file(file_data=b64encode(PNG).decode()), "messages[0].content[1]"),
    ],
)
def test_what_is_not_what_it_says_is_refused(sent: dict[str, Any], param: str) -> None:
    """By the bytes, by the sizes that they claim, and by their number; 400 in the client's own terms."""
    error = judge(chat({"type": "text", "text": "a"}, sent))
    assert error is not None
    assert (error.status, error.param) == (400, param)


def test_a_thousand_images_are_refused_by_their_number() -> None:
    """And a hundred pass."""
    many = [image(data_url(PNG, "image/png"))]
    error = judge(chat(*many * 1000))
    assert error is not None
    assert "at most 100" in error.message
    assert judge(chat(*many * 100)) is None


def test_sizes_are_measured_once() -> None:
    """As the request is accepted: width, height, bytes and type, and the pages of a document."""
    asked = chat(
        image(data_url(png(640, 480), "image/png"), detail="low"), file(file_data=b64encode(PDF).decode())
    )
    found = accept(catalog([model("a/m")]), TENANT, asked.draft, 0.0, None, str)
    picture = SentImage(640, 480, len(png(640, 480)), "image/png", ImageDetail.LOW)
    assert found.attachments == (picture, SentDocument(2, len(PDF)))
