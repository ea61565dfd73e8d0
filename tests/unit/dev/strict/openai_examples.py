"""Examples of the rules of OpenAI's chat completions."""

from __future__ import annotations

from typing import Any

from tests.unit.dev.strict.example import CLOSED, Example, assistant, user, with_property

OLD, REASONING = "gpt-4o", "gpt-5-mini"


def body(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"model": "m", "messages": list(messages or [user("Hi")]), **more}


def tool(schema: Any = CLOSED, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "weather", "parameters": schema, **more}}


def call(identifier: str = "a", name: str = "weather") -> dict[str, Any]:
    return {"id": identifier, "type": "function", "function": {"name": name, "arguments": "{}"}}


def called(*calls: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": None, "tool_calls": list(calls)}


def result(identifier: str = "a") -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": identifier, "content": "sunny"}


def image(url: str = "data:image/png;base64,aGk=") -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def answer(schema: Any, *, strict: bool = True, name: str = "answer") -> dict[str, Any]:
    shape = {"name": name, "schema": schema, "strict": strict}
    return {"response_format": {"type": "json_schema", "json_schema": shape}}


LONG = "x" * 41
CALLED = body(user("Weather?"), called(call()), result(), tools=[tool()])
OPEN = {"type": "object", "properties": {"city": {"type": "string"}}}
JSON = {"response_format": {"type": "json_object"}}

EXAMPLES = {
    "unknown field": Example(body(top_k=3), body(user="someone")),
    "no message": Example({**body(), "messages": []}, body()),
    "unknown field of a message": Example(
        body({**user("Hi"), "mood": "good"}), body({**assistant("Hi"), "reasoning_content": "hm"})
    ),
    "call id's length": Example(
        body(user("Hi"), called(call(LONG)), result(LONG)),
        body(user("Hi"), called(call(LONG[1:])), result(LONG[1:])),
    ),
    "answered call id's length": Example(body(user("Hi"), called(call()), result(LONG)), CALLED),
    "empty list of calls": Example(
        body(user("Hi"), {**assistant("Hi"), "tool_calls": []}, user("Hi")),
        body(user("Hi"), {**assistant("Hi"), "tool_calls": [call()]}, result()),
    ),
    "call without result": Example(body(user("Hi"), called(call(), call("b")), result(), user("Hi")), CALLED),
    "result without call": Example(
        body(user("Hi"), called(call()), result(), user("Hi"), result()),
        body(user("Hi"), called(call(), call("b")), result("b"), result()),
    ),
    "no content": Example(body({"role": "assistant", "content": None}), CALLED),
    "kind of a part": Example(
        body(user({"type": "input_text", "text": "Hi"})), body(user({"type": "text", "text": "Hi"}))
    ),
    "function's name": Example(body(tools=[tool(name="a.b")]), body(tools=[tool(name="a-b_2")])),
    "function's description": Example(
        body(tools=[tool(description="x" * 1025)]), body(tools=[tool(description="x" * 1024)])
    ),
    "empty list of tools": Example(body(tools=[]), body(tools=[tool()])),
    "kind of a tool": Example(body(tools=[{"function": {"name": "weather"}}]), body(tools=[tool()])),
    "choice without tools": Example(
        body(tool_choice="auto"), body(tool_choice="auto", parallel_tool_calls=False, tools=[tool()])
    ),
    "choice of no tool": Example(
        body(tools=[tool()], tool_choice={"type": "function", "function": {"name": "news"}}),
        body(tools=[tool()], tool_choice={"type": "function", "function": {"name": "weather"}}),
    ),
    "function's schema of no object": Example(body(tools=[tool({})]), body(tools=[tool(OPEN)])),
    "bad schema of a function": Example(
        body(tools=[tool({"type": "object"})]), body(tools=[tool({"type": "object", "properties": {}})])
    ),
    "strict function": Example(
        body(tools=[tool(OPEN, strict=True)]), body(tools=[tool(CLOSED, strict=True), tool(OPEN)])
    ),
    "answer that is no object": Example(
        body(**answer({"type": "array", "items": CLOSED}, strict=False)), body(**answer(OPEN, strict=False))
    ),
    "strict answer": Example(
        body(**answer(with_property(oneOf=[{"type": "string"}]))),
        body(**answer(with_property(type="array", items={"type": "string"}, maxItems=3))),
    ),
    "name of the answer's schema": Example(
        body(**answer(CLOSED, name="my answer")), body(**answer(CLOSED, name="my_answer"))
    ),
    "JSON without the word": Example(body(**JSON), body(user("Answer in JSON"), **JSON)),
    "stop sequences": Example(body(stop=list("abcde")), body(stop=list("abcd"))),
    "max_tokens of a reasoning model": Example(body(max_tokens=9), body(max_tokens=9), REASONING, OLD),
    "two limits": Example(body(max_tokens=9, max_completion_tokens=9), body(max_completion_tokens=9), OLD),
    "limit above the model's": Example(
        body(max_completion_tokens=16_385), body(max_completion_tokens=16_384), OLD
    ),
    "temperature of a reasoning model": Example(body(temperature=0.5), body(temperature=1), REASONING),
    "field of no reasoning model": Example(body(top_p=0.5), body(top_p=0.5), REASONING, OLD),
    "effort of no reasoning model": Example(
        body(reasoning_effort="low"), body(reasoning_effort="low"), OLD, REASONING
    ),
    "effort": Example(body(reasoning_effort="none"), body(reasoning_effort="minimal"), REASONING),
    "temperature": Example(body(temperature=2.1), body(temperature=2)),
    "top_p": Example(body(top_p=1.1), body(top_p=1)),
    "presence_penalty": Example(body(presence_penalty=2.1), body(presence_penalty=2)),
    "frequency_penalty": Example(body(frequency_penalty=2.1), body(frequency_penalty=2)),
    "image's type": Example(
        body(user(image("data:image/tiff;base64,aGk="))), body(user(image(), image("https://x.test/a.tiff")))
    ),
    "images": Example(body(user(*[image()] * 501)), body(user(*[image()] * 500))),
    "image of no user": Example(body(assistant(image())), body(user(image()))),
}

COMMON = {
    name: Example(example.refused, example.accepted)
    for name, example in EXAMPLES.items()
    if name in ("call without result", "result without call")
}


def nine(message: Any) -> Any:
    """Returns the message with ids of nine characters."""
    if "tool_call_id" in message:
        return {**message, "tool_call_id": message["tool_call_id"].rjust(9, "0")}
    if "tool_calls" in message:
        return {**message, "tool_calls": [{**c, "id": c["id"].rjust(9, "0")} for c in message["tool_calls"]]}
    return message


def mistral(*messages: Any, **more: Any) -> dict[str, Any]:
    return body(*map(nine, messages), **more)


MISTRAL = {
    "seed": Example(body(random_seed=-1), body(random_seed=0)),
    "extra field": Example(body(seed=1), body(random_seed=1)),
    "call id": Example(CALLED, mistral(user("Hi"), called(call()), result())),
    "order": Example(
        mistral(user("Hi"), called(call()), result(), user("Hi")),
        mistral(user("Hi"), called(call()), result(), assistant("Sunny"), user("Hi")),
    ),
    "last message": Example(
        body(user("Hi"), assistant("Well")), body(user("Hi"), {**assistant("Well"), "prefix": True})
    ),
    "calls and results": Example(
        mistral(user("Hi"), called(call(), call("b")), result()),
        mistral(user("Hi"), called(call(), call("b")), result(), result("b")),
    ),
    "nothing said": Example(
        body(user("Hi"), assistant(""), user("Hi")), body(user("Hi"), assistant("Hm"), user("Hi"))
    ),
    "unknown keyword": Example(
        body(**answer(with_property(type="array", items={"type": "string"}, maxItems=3))),
        body(**answer(with_property(type="array", items={"type": "string"}))),
    ),
    "temperature": Example(body(temperature=1.6), body(temperature=1.5)),
}

GROQ = {
    **COMMON,
    "unknown field": Example(body(prompt_cache_key="k"), body(seed=1)),
    "unknown field of a message": Example(
        body(user("Hi"), {**assistant("Hi"), "reasoning_content": "hm"}, user("Hi")),
        body(user("Hi"), {**assistant("Hi"), "reasoning": "hm"}, user("Hi")),
    ),
    "JSON without the word": Example(body(**JSON), body(user("Answer in JSON"), **JSON)),
    "effort of no reasoning model": Example(
        body(reasoning_effort="low"), body(reasoning_effort="low"), "llama-3.3-70b", "openai/gpt-oss-20b"
    ),
    "JSON with tools": Example(body(user("JSON"), tools=[tool()], **JSON), body(tools=[tool()])),
    "strict answer": Example(body(**answer(OPEN)), body(**answer(CLOSED))),
    "stop sequences": Example(body(stop=list("abcde")), body(stop=list("abcd"))),
    "temperature": Example(body(temperature=2.1), body(temperature=2)),
}

REASONER = "deepseek-reasoner"
DEEPSEEK = {
    **COMMON,
    "kind of an answer": Example(body(**answer(CLOSED)), body(user("json"), **JSON)),
    "JSON without the word": Example(body(**JSON), body(user("json"), **JSON)),
    "reasoning not sent back": Example(
        CALLED,
        body(user("Hi"), {**called(call()), "reasoning_content": ""}, result(), tools=[tool()]),
        REASONER,
    ),
    "forced tool while it thinks": Example(
        body(tools=[tool()], tool_choice="required"),
        body(tools=[tool()], tool_choice="required", thinking={"type": "disabled"}),
        "deepseek-v4-flash",
    ),
    "forced tool of a reasoner": Example(
        body(tools=[tool()], tool_choice="required"), body(tools=[tool()], tool_choice="auto"), REASONER
    ),
    "limit above the model's": Example(body(max_tokens=8193), body(max_tokens=8192), "deepseek-chat"),
    "stop sequences": Example(body(stop=["x"] * 17), body(stop=["x"] * 16)),
    "temperature": Example(body(temperature=2.1), body(temperature=2)),
}
