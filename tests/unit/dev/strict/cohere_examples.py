"""Examples of the rules of Cohere's chat."""

from __future__ import annotations

from typing import Any

from tests.unit.dev.strict.example import CLOSED, Example, assistant, user, with_property
from tests.unit.dev.strict.openai_examples import body, call, called, image, result, tool

CALLED = body(user("Hi"), called(call()), result(), tools=[tool()])


def answer(schema: Any) -> dict[str, Any]:
    return {"response_format": {"type": "json_object", "json_schema": schema}}


EXAMPLES = {
    "unknown field": Example(body(top_p=0.5), body(p=0.5)),
    "role": Example(body({"role": "developer", "content": "Hi"}, user("Hi")), body(user("Hi"))),
    "empty message": Example(body(user(""), user("Hi")), CALLED),
    "last message": Example(body(user("Hi"), assistant("Well")), CALLED),
    "call without result": Example(body(user("Hi"), called(call(), call("b")), result()), CALLED),
    "result without call": Example(body(user("Hi"), result()), CALLED),
    "stop sequences": Example(body(stop_sequences=list("abcdef")), body(stop_sequences=list("abcde"))),
    "JSON with tools": Example(body(tools=[tool()], **answer(CLOSED)), body(**answer(CLOSED))),
    "schema of no object": Example(body(**answer({"type": "array"})), body(**answer(CLOSED))),
    "nothing required": Example(body(**answer({"type": "object"})), body(**answer(CLOSED))),
    "unknown keyword": Example(
        body(**answer(with_property(type="string", maxLength=3))),
        body(**answer(with_property(type="string", pattern="x"))),
    ),
    "tool choice": Example(
        body(tool_choice="AUTO", tools=[tool()]), body(tool_choice="REQUIRED", tools=[tool()])
    ),
    "choice without tools": Example(body(tool_choice="NONE"), body(tool_choice="NONE", tools=[tool()])),
    "limit above the model's": Example(body(max_tokens=4001), body(max_tokens=4000), "command-r-08-2024"),
    "temperature": Example(body(temperature=1.1), body(temperature=1)),
    "p": Example(body(p=1), body(p=0.99)),
    "presence penalty": Example(body(presence_penalty=1.1), body(presence_penalty=1)),
    "frequency penalty": Example(body(frequency_penalty=1.1), body(frequency_penalty=1)),
    "image of no user": Example(
        body({"role": "system", "content": [image()]}, user("Hi")), body(user(image()))
    ),
}
