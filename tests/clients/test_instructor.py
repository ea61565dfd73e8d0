"""instructor, over the official client."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import instructor
import openai
import pytest
from instructor.core import InstructorRetryException
from openai import AsyncOpenAI
from pydantic import BaseModel

from tests.clients.conftest import BROKEN, MODELS, ODD, Door

ASK = [{"role": "user", "content": "Describe a blue mug as JSON."}]


class Mug(BaseModel):
    """A mug."""

    colour: str
    handles: int


def client(door: Door, mode: instructor.Mode = instructor.Mode.TOOLS) -> instructor.AsyncInstructor:
    return instructor.from_openai(
        AsyncOpenAI(base_url=door.url, api_key=door.key, http_client=door.http), mode=mode
    )


@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA"])
@pytest.mark.parametrize("model", MODELS)
async def test_whole_and_streamed(door: Door, model: str, mode: str) -> None:
    """An object with its usage; and streamed, whose last state is all of it."""
    made = client(door, instructor.Mode[mode])
    whole, completion = await made.chat.completions.create_with_completion(
        model=model, messages=ASK, response_model=Mug
    )
    assert isinstance(whole, Mug)
    assert completion.usage.completion_tokens > 0
    streamed = made.chat.completions.create_partial(model=model, messages=ASK, response_model=Mug)
    states: list[Any] = [state async for state in streamed]
    assert states[-1].model_dump() == whole.model_dump()


async def test_parallel_tools(door: Door) -> None:
    """Two calls in one answer, each an object."""
    mugs = [Mug(colour="blue", handles=1), Mug(colour="red", handles=2)]
    await door.says(*((f"call_{m.colour}", "Mug", m.model_dump_json()) for m in mugs), stream=False)
    made = client(door, instructor.Mode.PARALLEL_TOOLS)
    found = await made.chat.completions.create(model=ODD, messages=ASK, response_model=Iterable[Mug])
    assert list(found) == mugs


async def test_a_list_is_streamed_object_by_object(door: Door) -> None:
    """From the pieces of one call's arguments."""
    mugs = [Mug(colour="blue", handles=1), Mug(colour="red", handles=2)]
    arguments = json.dumps({"tasks": [mug.model_dump() for mug in mugs]})
    await door.says(("call_a", "IterableMug", arguments), stream=True)
    found = [
        mug
        async for mug in client(door).chat.completions.create_iterable(
            model=ODD, messages=ASK, response_model=Mug
        )
    ]
    assert found == mugs


async def test_errors(door: Door) -> None:
    """The official client's, inside its own; what lasts is asked once."""
    for model, expected in (
        ("openai/none", openai.NotFoundError),
        (BROKEN["instructor"], openai.InternalServerError),
    ):
        await door.set("broken-instructor", expect_key="another")
        door.sent.clear()
        with pytest.raises((InstructorRetryException, openai.APIStatusError)) as caught:
            await client(door).chat.completions.create(
                model=model, messages=ASK, response_model=Mug, max_retries=1
            )
        chain: list[BaseException | None] = [caught.value, caught.value.__cause__, caught.value.__context__]
        assert any(isinstance(error, expected) for error in chain) or expected.__name__ in repr(chain)
        assert len(door.sent) == 1
