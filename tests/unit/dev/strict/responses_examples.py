"""Examples of the rules of OpenAI's responses API."""

from __future__ import annotations

from typing import Any

from dev.simulator.signatures import sign
from tests.unit.dev.strict.example import CLOSED, Example, user

OLD, REASONING = "gpt-4o", "gpt-5-mini"


def body(*items: Any, **more: Any) -> dict[str, Any]:
    return {"model": "m", "input": list(items or [user("Hi")]), "store": False, **more}


def call(identifier: str = "a", **more: Any) -> dict[str, Any]:
    return {"type": "function_call", "call_id": identifier, "name": "weather", "arguments": "{}", **more}


def result(identifier: str = "a") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": identifier, "output": "sunny"}


def tool(schema: Any = CLOSED, **more: Any) -> dict[str, Any]:
    return {"type": "function", "name": "weather", "parameters": schema, "strict": False, **more}


def said(text: str = "Hi", kind: str = "output_text") -> dict[str, Any]:
    return {"role": "assistant", "content": [{"type": kind, "text": text}]}


def thought(kept: str | None) -> dict[str, Any]:
    return {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": kept}


def answer(schema: Any, *, strict: bool = True) -> dict[str, Any]:
    return {"text": {"format": {"type": "json_schema", "name": "a", "schema": schema, "strict": strict}}}


def image(url: str) -> dict[str, Any]:
    return {"type": "input_image", "image_url": url}


CALLED = body(user("Hi"), call(), result(), tools=[tool()])
OPEN = {"type": "object", "properties": {"city": {"type": "string"}}}
KEPT = thought(sign("openai", "hm"))
JSON = {"text": {"format": {"type": "json_object"}}}

EXAMPLES = {
    "unknown field": Example(body(stop=["x"]), body(truncation="disabled")),
    "empty input": Example({**body(), "input": []}, {**body(), "input": "Hi"}),
    "id's length": Example(body(call("x" * 65), result("x" * 65)), body(call("x" * 64), result("x" * 64))),
    "empty call id": Example(body(call(""), result("")), CALLED),
    "id's beginning": Example(body(call(id="call_1"), result()), body(call(id="fc_1"), result())),
    "id's characters": Example(body(call(id="fc_1:2"), result()), body(call(id="fc_1-2"), result())),
    "call without result": Example(body(call(), call("b"), result()), CALLED),
    "result without call": Example(body(user("Hi"), result()), CALLED),
    "reasoning that is not kept": Example(body(thought(None), said()), body(KEPT, said())),
    "reasoning of others": Example(body(thought(sign("anthropic", "hm")), said()), body(KEPT, said())),
    "reasoning alone": Example(body(KEPT, user("Hi")), body(KEPT, call(), result())),
    "kind of a part": Example(body(said(kind="input_text")), body(said())),
    "arguments": Example(body(call(arguments={}), result()), CALLED),
    "function of the chat API": Example(
        body(tools=[{"type": "function", "function": {"name": "weather"}}]), body(tools=[tool()])
    ),
    "function's name": Example(body(tools=[tool(name="a.b")]), body(tools=[tool(name="a_b")])),
    "function's schema of no object": Example(body(tools=[tool({})]), body(tools=[tool(OPEN)])),
    "bad schema of a function": Example(
        body(tools=[tool(OPEN, strict=True)]), body(tools=[tool(CLOSED, strict=True)])
    ),
    "answer that is no object": Example(
        body(**answer({"type": "string"}, strict=False)), body(**answer(OPEN, strict=False))
    ),
    "strict answer": Example(body(**answer(OPEN)), body(**answer(OPEN, strict=False))),
    "choice without tools": Example(
        body(tool_choice="required"), body(tool_choice="required", tools=[tool()])
    ),
    "JSON without the word": Example(
        body(instructions="Answer in JSON", **JSON), body(user("Answer in JSON"), **JSON)
    ),
    "limit below the least": Example(body(max_output_tokens=15), body(max_output_tokens=16)),
    "limit above the model's": Example(body(max_output_tokens=16_385), body(max_output_tokens=16_384), OLD),
    "field of no reasoning model": Example(body(temperature=1), body(temperature=1), REASONING, OLD),
    "effort of no reasoning model": Example(
        body(reasoning={"effort": "low"}), body(reasoning={"effort": "low"}), OLD, REASONING
    ),
    "temperature": Example(body(temperature=2.1), body(temperature=2)),
    "image's type": Example(
        body(user(image("data:image/tiff;base64,aGk="))), body(user(image("data:image/png;base64,aGk=")))
    ),
}
