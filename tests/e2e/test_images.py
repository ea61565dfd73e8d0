"""Images and documents through the whole stack, to strict providers that tell what they see."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI

from libs.client import Client, File, Image, Message, Role, Text, TextAssembler
from libs.errors import FailedPrecondition, InvalidArgument
from tests.e2e.catalogs import TENANT_KEY
from tests.e2e.conftest import MODELS, Shared
from tests.support.pictures import jpeg, pdf, png

RED, GREY = png(31, 17, (220, 20, 30)), jpeg(40, 24)
SEEN = "Sent: image/png, 31 × 17 pixels, mostly red."
DATA_URL = "data:image/png;base64," + b64encode(RED).decode()


@pytest.fixture
async def client(shared: Shared) -> AsyncIterator[Client]:
    async with shared.client() as connected:
        yield connected


@pytest.fixture
async def official(shared: Shared) -> AsyncIterator[AsyncOpenAI]:
    """OpenAI's client at the HTTP door."""
    url = f"http://{shared.stack.addresses['router http']}/v1"
    async with AsyncOpenAI(base_url=url, api_key=TENANT_KEY, max_retries=0, timeout=30) as connected:
        yield connected


def show(*parts: Image | File) -> list[Message]:
    return [Message(Role.USER, parts=(*parts, Text("What is this?")))]


@pytest.mark.parametrize("model", MODELS)
async def test_every_model_sees_them(client: Client, model: str) -> None:
    """Bytes and all, whole and streamed: two images and a document, in their order."""
    prompt = show(Image(RED), Image(GREY), File(pdf(2), name="q3.pdf"))
    result = await client.generate(prompt, models=[model])
    assembler = TextAssembler()
    async for event in client.stream(prompt, models=[model]):
        assembler.feed(event)
    for text in (result.text, assembler.text):
        assert text.startswith(f"{SEEN} Sent: image/jpeg, 40 × 24 pixels. Sent: application/pdf, ")
    assert len(result.attempts) == 1


async def test_the_next_provider_sees_them_too(shared: Shared, client: Client) -> None:
    """The same image in another vendor's form after a failure; the ledger's rows hold nothing of it."""
    await shared.stack.simulator.set("openai", faults=[{"kind": "status", "status": 503}])
    result = await client.generate(show(Image(RED)), models=list(MODELS[:2]))
    assert result.text.startswith(SEEN)
    assert [attempt.provider for attempt in result.attempts][-1] == "anthropic"
    rows = await shared.stack.settled_ledger(result.request_id, lambda found: len(found) > 1)
    shown = b64encode(RED).decode()[:40]
    assert all(shown not in str(value) for row in rows for value in row.values())
    assert shown not in shared.stack.logs()


async def test_estimates_count_them(client: Client) -> None:
    """By each vendor's rule: a megapixel costs more than a small picture, and more at one than at another."""
    small = {e.provider: e for e in await client.estimate(show(Image(png(8, 8))), models=list(MODELS))}
    large = {e.provider: e for e in await client.estimate(show(Image(png(1000, 1000))), models=list(MODELS))}
    grown = {name: large[name].usage.input_tokens - small[name].usage.input_tokens for name in large}
    assert grown == {"openai": 1657, "anthropic": 1333, "gemini": 774}
    assert all(large[name].maximum_micro_usd > small[name].maximum_micro_usd for name in large)


async def test_an_address_goes_to_those_who_fetch(client: Client) -> None:
    """As it is; where nobody fetches, the error says so."""
    address = "https://a.example/b.png"
    result = await client.generate(show(Image(url=address)))
    assert (result.selection.provider, result.text.partition(".png")[0]) == (
        "openai",
        "Sent by address: https://a.example/b",
    )
    with pytest.raises(FailedPrecondition) as caught:
        await client.generate(show(Image(url=address)), models=[MODELS[2]])
    assert "cannot do image_url" in caught.value.message


async def test_openais_client_shows_them(official: AsyncOpenAI) -> None:
    """In both dialects."""
    content: list[Any] = [
        {"type": "image_url", "image_url": {"url": DATA_URL}},
        {"type": "text", "text": "What is this?"},
    ]
    chat = await official.chat.completions.create(
        model=MODELS[1], messages=[{"role": "user", "content": content}]
    )
    assert (chat.choices[0].message.content or "").startswith(SEEN)
    document = "data:application/pdf;base64," + b64encode(pdf()).decode()
    parts: list[Any] = [
        {"type": "input_image", "image_url": DATA_URL, "detail": "auto"},
        {"type": "input_file", "filename": "q3.pdf", "file_data": document},
        {"type": "input_text", "text": "What is this?"},
    ]
    response = await official.responses.create(model=MODELS[2], input=[{"role": "user", "content": parts}])
    assert response.output_text.startswith(f"{SEEN} Sent: application/pdf, ")


async def test_the_largest_that_is_taken(client: Client, official: AsyncOpenAI) -> None:
    """5 MiB over both doors; a byte more, and 9 MB of a data URL, are refused by name."""
    largest = RED + bytes(5 * 2**20 - len(RED))
    assert (await client.generate(show(Image(largest)), models=[MODELS[0]])).text.startswith(SEEN)
    with pytest.raises(InvalidArgument) as caught:
        await client.generate(show(Image(largest + b"\0")), models=[MODELS[0]])
    assert [v.field for v in caught.value.violations] == ["generation.messages[0].parts[0]"]

    async def ask(data: bytes) -> Any:
        url = "data:image/png;base64," + b64encode(data).decode()
        part: Any = {"type": "image_url", "image_url": {"url": url}}
        return await official.chat.completions.create(
            model=MODELS[0], messages=[{"role": "user", "content": [part]}]
        )

    assert (await ask(largest)).choices[0].message.content.startswith(SEEN)
    with pytest.raises(openai.BadRequestError) as refused:
        await ask(largest + bytes(1_500_000))
    assert refused.value.param == "messages[0].content[0]"
