"""Examples of Anthropic's rules."""

from __future__ import annotations

from typing import Any

from dev.simulator.signatures import sign
from tests.unit.dev.strict.example import CLOSED, Example, assistant, user, with_property

OLD, NEW = "claude-3-5-haiku-20241022", "claude-opus-4-6"


def body(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"model": "m", "max_tokens": 2000, "messages": list(messages or [user("Hi")]), **more}


def tool(schema: Any = CLOSED, **more: Any) -> dict[str, Any]:
    return {"name": "weather", "input_schema": schema, **more}


def call(identifier: str = "a", **more: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": identifier, "name": "weather", "input": {}, **more}


def result(identifier: str = "a") -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": identifier, "content": "sunny"}


def words(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def image(kind: str = "image/png", data: str = "aGk=") -> dict[str, Any]:
    return {"type": "image", "source": {"type": "base64", "media_type": kind, "data": data}}


def thought(signature: str) -> dict[str, Any]:
    return {"type": "thinking", "thinking": "hm", "signature": signature}


def output(schema: Any) -> dict[str, Any]:
    return {"output_config": {"format": {"type": "json_schema", "schema": schema}}}


CALLED = body(user("Weather?"), assistant(call()), user(result()), tools=[tool()])
THINKING = {"thinking": {"type": "enabled", "budget_tokens": 1024}}
SIGNED = thought(sign("anthropic", "hm"))

EXAMPLES = {
    "extra field": Example(body(seed=1), body(top_k=3)),
    "system message": Example(
        body(user("Hi"), {"role": "system", "content": "Be brief"}), body(system="Be brief")
    ),
    "no message": Example({**body(), "messages": []}, body()),
    "first message of the assistant's": Example(
        body(assistant("Hi"), user("Hi")), body(user("Hi"), assistant("Hi"))
    ),
    "empty text": Example(body(user(words(""))), body(user("Hi"), assistant(""))),
    "blank text": Example(body(user(" \n")), body(user(" Hi "))),
    "blank system text": Example(body(system=[words(" ")]), body(system=[words("Be brief")])),
    "trailing white space": Example(
        body(user("Hi"), assistant("Well ")), body(user("Hi"), assistant("Well ,"))
    ),
    "prefill": Example(body(user("Hi"), assistant("Well")), body(user("Hi"), assistant("Well")), NEW, OLD),
    "call id's characters": Example(
        body(user("Hi"), assistant(call("a.b:1")), user(result("a.b:1")), tools=[tool()]), CALLED
    ),
    "call id twice": Example(
        body(user("Hi"), assistant(call(), call()), user(result()), tools=[tool()]),
        body(user("Hi"), assistant(call(), call("b")), user(result(), result("b")), tools=[tool()]),
    ),
    "call without result": Example(
        body(user("Hi"), assistant(call(), call("b")), user(result()), tools=[tool()]), CALLED
    ),
    "result without call": Example(
        body(
            user("Hi"), assistant(call()), user(result()), assistant("Fine"), user(result()), tools=[tool()]
        ),
        CALLED,
    ),
    "text before results": Example(
        body(user("Hi"), assistant(call()), user(words("Here"), result()), tools=[tool()]),
        body(user("Hi"), assistant(call()), user(result(), words("There")), tools=[tool()]),
    ),
    "arguments": Example(
        body(user("Hi"), assistant(call(input="{}")), user(result()), tools=[tool()]), CALLED
    ),
    "tool's name": Example(body(tools=[tool(name="the weather")]), body(tools=[tool(name="the-weather_2")])),
    "tool twice": Example(body(tools=[tool(), tool()]), body(tools=[tool(), tool(name="other")])),
    "choice without tools": Example(
        body(tool_choice={"type": "auto"}), body(tool_choice={"type": "auto"}, tools=[tool()])
    ),
    "tool's schema without a type": Example(body(tools=[tool({})]), body(tools=[tool({"type": "object"})])),
    "tool's schema of no object": Example(
        body(tools=[tool({"type": "array"})]), body(tools=[tool({"type": "object"})])
    ),
    "choice on top of a tool's schema": Example(
        body(tools=[tool({"type": "object", "oneOf": []})]),
        body(tools=[tool({"type": "object", "properties": {"x": {"oneOf": [{"type": "string"}]}}})]),
    ),
    "name of a parameter": Example(
        body(tools=[tool({"type": "object", "properties": {"$top": {}}})]),
        body(tools=[tool({"type": "object", "properties": {"top": {"properties": {"$all": {}}}}})]),
    ),
    "schema of an older draft": Example(
        body(tools=[tool(with_property(type="array", items=[{"type": "string"}]))]),
        body(tools=[tool(with_property(type="array", prefixItems=[{"type": "string"}]))]),
    ),
    "recursive schema": Example(
        body(**output(with_property(**{"$ref": "#"}))),
        body(**output({**with_property(**{"$ref": "#/$defs/city"}), "$defs": {"city": {"type": "string"}}})),
    ),
    "open object": Example(body(**output({"type": "object"})), body(**output(CLOSED))),
    "unknown keyword": Example(
        body(**output(with_property(type="array", items={"type": "string"}, maxItems=3))),
        body(**output(with_property(type="array", items={"type": "string"}, minItems=1))),
    ),
    "minItems": Example(
        body(**output(with_property(type="array", items={"type": "string"}, minItems=2))),
        body(tools=[tool(with_property(type="array", items={"type": "string"}, minItems=2))]),
    ),
    "oneOf": Example(
        body(**output(with_property(oneOf=[{"type": "string"}]))),
        body(**output(with_property(anyOf=[{"type": "string"}]))),
    ),
    "max_tokens": Example(body(max_tokens=8193), body(max_tokens=8192), OLD),
    "temperature": Example(body(temperature=1.1), body(temperature=1)),
    "temperature and top_p": Example(
        body(temperature=0.5, top_p=0.5), body(temperature=0.5, top_p=0.5), NEW, OLD
    ),
    "blank stop sequence": Example(body(stop_sequences=["\n"]), body(stop_sequences=["\nEnd"])),
    "budget of a model that takes an effort": Example(
        body(**THINKING), body(**THINKING), "claude-opus-4-7", OLD
    ),
    "effort of a model that takes a budget": Example(
        body(thinking={"type": "adaptive"}),
        body(thinking={"type": "adaptive"}),
        "claude-haiku-4-5",
        "claude-opus-4-7",
    ),
    "budget below the least": Example(
        body(thinking={"type": "enabled", "budget_tokens": 1000}), body(**THINKING)
    ),
    "budget above max_tokens": Example(body(max_tokens=1024, **THINKING), body(max_tokens=1025, **THINKING)),
    "thinking with a temperature": Example(
        body(temperature=0.5, **THINKING), body(temperature=1, **THINKING)
    ),
    "thinking with a forced tool": Example(
        body(tools=[tool()], tool_choice={"type": "any"}, **THINKING),
        body(tools=[tool()], tool_choice={"type": "auto"}, **THINKING),
    ),
    "thinking not sent back": Example(
        {**CALLED, **THINKING},
        body(user("Hi"), assistant(SIGNED, call()), user(result()), tools=[tool()], **THINKING),
    ),
    "thinking's signature": Example(
        body(user("Hi"), assistant(thought(sign("gemini", "hm")), words("Hi")), user("Hi"), **THINKING),
        body(user("Hi"), assistant(SIGNED, words("Hi")), user("Hi"), **THINKING),
    ),
    "image's type": Example(body(user(image("image/tiff"))), body(user(image("image/webp")))),
    "image's size": Example(
        body(user(image(data="A" * (5 * 2**20 + 4)))), body(user(image(data="A" * 2**20)))
    ),
    "images": Example(body(user(*[image()] * 101)), body(user(*[image()] * 100))),
}
