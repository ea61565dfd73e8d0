"""Examples of the rules of Ollama's own chat API."""

from __future__ import annotations

from typing import Any

from tests.unit.dev.strict.example import CLOSED, Example, user
from tests.unit.dev.strict.openai_examples import body, tool


def called(arguments: Any) -> dict[str, Any]:
    call = {"function": {"name": "weather", "arguments": arguments}}
    return {"role": "assistant", "content": "", "tool_calls": [call]}


EXAMPLES = {
    "arguments": Example(body(called("{}")), body(called({}))),
    "content": Example(body(user({"type": "text", "text": "Hi"})), body(user("Hi"))),
    "images": Example(
        body({**user("Hi"), "images": ["data:image/png;base64,aGk="]}),
        body({**user("Hi"), "images": ["aGk="]}),
    ),
    "format": Example(body(format="yaml"), body(format=CLOSED)),
    "role": Example(body({"role": "developer", "content": "Hi"}), body(user("Hi"))),
    "stop": Example(body(options={"stop": "x"}), body(options={"stop": ["x"]})),
    "parameters": Example(
        body(tools=[tool({"type": "object", "required": "city"})]), body(tools=[tool(CLOSED)])
    ),
}
