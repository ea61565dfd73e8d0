"""Images and documents in the bodies of requests, as each vendor documents them."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import pytest

from libs.catalog.kinds import KINDS
from libs.conversation import (
    File,
    Image,
    ImageDetail,
    Message,
    Part,
    Refusal,
    Role,
    Text,
    Tool,
    ToolCall,
)
from libs.types import ErrorClass
from services.router.planning.constraints import capabilities_needed
from services.router.providers.wires.error_body import redact
from services.router.providers.wires.wire import Endpoint
from services.router.providers.wires.wires import wires
from services.router.request.generation import Prompt, ProviderFailure
from tests.support.clock import ManualClock
from tests.support.pictures import gif, jpeg, pdf, png, webp
from tests.unit.router.providers.wires.test_strict import TARGETS, refusal

WIRES = wires(ManualClock())
PNG, PDF = png(), pdf()
PNG64, PDF64 = b64encode(PNG).decode(), b64encode(PDF).decode()
DATA_URL, PDF_URL = f"data:image/png;base64,{PNG64}", f"data:application/pdf;base64,{PDF64}"
ADDRESS, DOCUMENT = "https://a.example/b.webp?x=1", "https://a.example/b.pdf"
CHAT = [
    "openai",
    "openai_compatible",
    "azure_openai",
    "azure_ai",
    "groq",
    "xai",
    "together",
    "fireworks",
    "vllm",
    "llamacpp",
    "ollama",
]


def body(kind: str, *messages: Message, model: str = "m") -> Any:
    """The body of a request."""
    name = f"anthropic.{model}" if kind.startswith("bedrock") else model
    options = {"region": "eu-west-1", "project": "p", "api_version": "v1"}
    request = WIRES[kind].request(
        Prompt(messages, 100), Endpoint("https://a.example", name, "AKIA:secret", options), stream=False
    )
    return json.loads(request.body)


def sent(kind: str, *parts: Part, model: str = "m") -> Any:
    """The content of a user's message of these parts."""
    found = body(kind, Message(Role.USER, parts=parts), model=model)
    if kind in ("gemini", "vertex"):
        return found["contents"][0]["parts"]
    message = (found.get("messages") or found["input"])[0]
    return message if kind == "ollama_native" else message["content"]


@pytest.mark.parametrize("kind", [*CHAT, "mistral", "openrouter", "cohere"])
def test_chat_completions_take_images(kind: str) -> None:
    """Data URLs and addresses, in the order of the parts; the detail where it is asked for."""
    assert sent(kind, Image(PNG), Text("What?"), Image(url=ADDRESS, detail=ImageDetail.LOW)) == [
        {"type": "image_url", "image_url": {"url": DATA_URL}},
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": ADDRESS, "detail": "low"}},
    ]


@pytest.mark.parametrize("kind", CHAT)
def test_chat_completions_take_documents(kind: str) -> None:
    """Their bytes alone."""
    assert sent(kind, File(PDF, name="a.pdf"), Text("What?"))[0] == {
        "type": "file",
        "file": {"filename": "a.pdf", "file_data": PDF_URL},
    }
    refused(kind, File(url=DOCUMENT))


def test_two_vendors_have_their_own_documents() -> None:
    """Mistral's by address or data URL; OpenRouter's like OpenAI's, and by address."""
    assert sent("mistral", File(PDF), File(url=DOCUMENT)) == [
        {"type": "document_url", "document_url": PDF_URL},
        {"type": "document_url", "document_url": DOCUMENT},
    ]
    assert sent("openrouter", File(url=DOCUMENT)) == [
        {"type": "file", "file": {"filename": "document.pdf", "file_data": DOCUMENT}}
    ]


@pytest.mark.parametrize("kind", ["openai_responses", "azure_responses"])
def test_responses_take_all(kind: str) -> None:
    """As input_image and input_file."""
    assert sent(kind, Text("What?"), Image(PNG), Image(url=ADDRESS), File(PDF), File(url=DOCUMENT)) == [
        {"type": "input_text", "text": "What?"},
        {"type": "input_image", "image_url": DATA_URL, "detail": "auto"},
        {"type": "input_image", "image_url": ADDRESS, "detail": "auto"},
        {"type": "input_file", "filename": "document.pdf", "file_data": PDF_URL},
        {"type": "input_file", "file_url": DOCUMENT},
    ]


@pytest.mark.parametrize("kind", ["anthropic", "bedrock_invoke"])
def test_anthropic_takes_all(kind: str) -> None:
    """As blocks of image and document, with their source."""
    assert sent(kind, Image(PNG), Image(url=ADDRESS), File(PDF, name="a"), File(url=DOCUMENT), Text("?")) == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG64}},
        {"type": "image", "source": {"type": "url", "url": ADDRESS}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "application/pdf", "data": PDF64},
            "title": "a",
        },
        {"type": "document", "source": {"type": "url", "url": DOCUMENT}},
        {"type": "text", "text": "?"},
    ]


@pytest.mark.parametrize("kind", ["gemini", "vertex"])
def test_gemini_takes_all(kind: str) -> None:
    """Inline, or by address with the type that it needs to be told: declared, or by the address's end."""
    assert sent(
        kind, Image(PNG), Image(url=ADDRESS), Image(url="https://a.example/c"), File(PDF), File(url=DOCUMENT)
    ) == [
        {"inlineData": {"mimeType": "image/png", "data": PNG64}},
        {"fileData": {"mimeType": "image/webp", "fileUri": ADDRESS}},
        {"fileData": {"mimeType": "image/jpeg", "fileUri": "https://a.example/c"}},
        {"inlineData": {"mimeType": "application/pdf", "data": PDF64}},
        {"fileData": {"mimeType": "application/pdf", "fileUri": DOCUMENT}},
    ]


def test_bedrock_takes_bytes() -> None:
    """Documents with names that it allows, each its own, and never without a word."""
    name = "ü/Q3  report_2.pdf"
    assert sent("bedrock", Image(gif()), File(PDF, name=name), File(PDF, name=name)) == [
        {"image": {"format": "gif", "source": {"bytes": b64encode(gif()).decode()}}},
        {"document": {"format": "pdf", "name": "Q3 report 2 pdf 2", "source": {"bytes": PDF64}}},
        {"document": {"format": "pdf", "name": "Q3 report 2 pdf 3", "source": {"bytes": PDF64}}},
        {"text": "See the document."},
    ]
    refused("bedrock", Image(url=ADDRESS))


def test_ollama_takes_the_bytes_of_images() -> None:
    """Beside the text; neither documents nor addresses."""
    assert sent("ollama_native", Text("What?"), Image(PNG)) == {
        "role": "user",
        "content": "What?",
        "images": [PNG64],
    }
    refused("ollama_native", Image(url=ADDRESS))
    refused("ollama_native", File(PDF))


@pytest.mark.parametrize("kind", sorted(WIRES))
def test_what_a_catalog_may_promise_is_sent(kind: str) -> None:
    """On every wire; the rest is a fault of the catalog as it is read."""
    parts: dict[str, Part] = {
        "image": Image(PNG),
        "image_url": Image(url=ADDRESS),
        "pdf": File(PDF),
        "pdf_url": File(url=DOCUMENT),
    }
    for capability, part in parts.items():
        if capability in KINDS[kind].lacks:
            continue
        assert len(json.dumps(sent(kind, Text("?"), part))) > len(json.dumps(sent(kind, Text("?"))))


def refused(kind: str, *parts: Part) -> None:
    """Nothing is left out: the attempt fails before it is a call."""
    with pytest.raises(ProviderFailure) as caught:
        sent(kind, *parts)
    assert caught.value.error_class is ErrorClass.UNSUPPORTED_HERE


SHOWN = (
    Message(Role.USER, "Look."),
    Message(Role.ASSISTANT, "", (ToolCall("abcdefgh1", "look", "{}"), ToolCall("abcdefgh2", "look", "{}"))),
    Message(Role.TOOL, "", (), "abcdefgh1", (Text("seen"), Image(PNG))),
    Message(Role.TOOL, "nothing", (), "abcdefgh2"),
    Message(Role.USER, "So?"),
)


def test_what_a_tool_shows_is_seen() -> None:
    """Inside its result where the vendor has it, else right after the results of the turn."""
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG64}}
    assert body("anthropic", *SHOWN)["messages"][2]["content"][0] == {
        "type": "tool_result",
        "tool_use_id": "abcdefgh1",
        "content": [{"type": "text", "text": "seen"}, image],
    }
    block = {"image": {"format": "png", "source": {"bytes": PNG64}}}
    assert body("bedrock", *SHOWN)["messages"][2]["content"][0]["toolResult"]["content"] == [
        {"text": "seen"},
        block,
    ]
    items = body("openai_responses", *SHOWN)["input"]
    assert items[3]["output"][1] == {"type": "input_image", "image_url": DATA_URL, "detail": "auto"}
    chat = body("openai", *SHOWN)["messages"]
    assert [m["role"] for m in chat] == ["user", "assistant", "tool", "tool", "user", "user"]
    assert chat[2]["content"] == "seen"
    assert chat[4]["content"] == [{"type": "image_url", "image_url": {"url": DATA_URL}}]
    assert body("openai", *SHOWN[:4])["messages"][4] == chat[4]
    url = {"type": "image_url", "image_url": {"url": DATA_URL}}
    assert body("mistral", *SHOWN)["messages"][2]["content"] == [{"type": "text", "text": "seen"}, url]
    inline = {"inlineData": {"mimeType": "image/png", "data": PNG64}}
    assert inline in body("gemini", *SHOWN, model="gemini-2.5-flash")["contents"][2]["parts"]
    third = body("gemini", *SHOWN, model="gemini-3-pro")["contents"][2]["parts"]
    assert third[0]["functionResponse"]["parts"] == [inline]
    assert body("ollama_native", *SHOWN)["messages"][2]["images"] == [PNG64]


CONVERSATIONS = {
    "image": (Message(Role.USER, parts=(Image(PNG), Text("What is this?"))),),
    "image alone": (Message(Role.USER, parts=(Image(jpeg()),)),),
    "webp": (Message(Role.USER, parts=(Image(webp()), Text("What is this?"))),),
    "image by address": (Message(Role.USER, parts=(Image(url=ADDRESS), Text("What is this?"))),),
    "document": (Message(Role.USER, parts=(File(PDF, name="Q3: report.pdf"), Text("Sum up."))),),
    "document alone": (Message(Role.USER, parts=(File(PDF),)),),
    "document by address": (Message(Role.USER, parts=(File(url=DOCUMENT), Text("Sum up."))),),
    "shown by a tool": SHOWN[:4],
}
_BLIND = frozenset({"image", "image_url", "pdf", "pdf_url"})
#: The capabilities that a catalog cannot promise of a vendor's models.
LACKS = {
    "openai": {"pdf_url"},
    "azure_openai": {"pdf_url"},
    "groq": {"pdf", "pdf_url"},
    "xai": {"pdf", "pdf_url"},
    "openai_compatible": {"pdf_url"},
    "bedrock": {"image_url", "pdf_url"},
    "cohere": {"pdf", "pdf_url"},
    "ollama_native": {"image_url", "pdf", "pdf_url"},
    "deepseek": _BLIND,
    "cerebras": _BLIND,
    "perplexity": {"pdf", "pdf_url"},
}


@pytest.mark.parametrize("name", TARGETS)
def test_a_strict_vendor_takes_them(name: str) -> None:
    """Every conversation with images and documents that a catalog can let through to it."""
    target = TARGETS[name]
    tools = (Tool("look"),)
    for conversation, messages in CONVERSATIONS.items():
        prompt = Prompt(messages, 100, tools=tools if len(messages) > 1 else ())
        if not capabilities_needed(prompt, stream=False) & set(LACKS.get(target.kind, ())):
            assert refusal(target, prompt) == "", conversation


def test_no_bytes_of_an_image_are_shown() -> None:
    """Neither of a value that is written to a log nor of a provider's words that repeat it."""
    for part in (Image(PNG), File(PDF)):
        assert repr(Message(Role.USER, parts=(part,))).count("bytes") == 1
        assert "\\x" not in repr(part)
    assert "a.example" not in repr(Image(url=ADDRESS))
    assert redact(f"Invalid base64 data: {PNG64} at 7") == "Invalid base64 data: [data] at 7"
    assert redact(f"No image: {DATA_URL}") == "No image: data:image/png;base64,[data]"


@pytest.mark.parametrize("kind", sorted(WIRES))
def test_parts_of_text_are_the_same_as_text(kind: str) -> None:
    """On every wire, for every role; a refusal is what was said."""
    short = (
        Message(Role.SYSTEM, "Be brief."),
        Message(Role.USER, "Hi"),
        Message(Role.ASSISTANT, "No", (ToolCall("abcdefgh1", "look", "{}"),)),
        Message(Role.TOOL, "seen", (), "abcdefgh1"),
    )
    said = {Role.ASSISTANT: (Refusal("No"),)}
    long = tuple(
        Message(m.role, "", m.tool_calls, m.tool_call_id, said.get(m.role, (Text(m.text),))) for m in short
    )
    assert body(kind, *long) == body(kind, *short)
