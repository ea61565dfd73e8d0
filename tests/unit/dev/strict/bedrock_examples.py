"""Examples of the rules of Amazon Bedrock's Converse."""

from __future__ import annotations

import json
from typing import Any

from dev.simulator.signatures import sign
from tests.unit.dev.strict.example import CLOSED, Example, with_property

CLAUDE, NEW, NOVA = (
    "anthropic.claude-3-haiku-20240307-v1:0",
    "anthropic.claude-opus-4-6-v1",
    "amazon.nova-pro-v1:0",
)


def user(*blocks: Any) -> dict[str, Any]:
    return {"role": "user", "content": [{"text": b} if isinstance(b, str) else b for b in blocks]}


def assistant(*blocks: Any) -> dict[str, Any]:
    return {**user(*blocks), "role": "assistant"}


def body(*messages: Any, **more: Any) -> dict[str, Any]:
    return {"messages": list(messages or [user("Hi")]), **more}


def config(**more: Any) -> dict[str, Any]:
    return body(inferenceConfig=more)


def call(identifier: str = "a", given: Any = None) -> dict[str, Any]:
    use = {"toolUseId": identifier, "name": "weather", "input": {} if given is None else given}
    return {"toolUse": use}


def result(identifier: str = "a", said: str = "sunny") -> dict[str, Any]:
    return {"toolResult": {"toolUseId": identifier, "content": [{"text": said}]}}


def tools(schema: Any = CLOSED, choice: Any = None, **more: Any) -> dict[str, Any]:
    spec = {"name": "weather", "inputSchema": {"json": schema}, **more}
    chosen = {} if choice is None else {"toolChoice": choice}
    return {"toolConfig": {"tools": [{"toolSpec": spec}], **chosen}}


def called(*messages: Any, **more: Any) -> dict[str, Any]:
    return body(*messages, **{**tools(), **more})


def thought(signature: str) -> dict[str, Any]:
    return {"reasoningContent": {"reasoningText": {"text": "hm", "signature": signature}}}


def image(kind: str = "png", source: Any = None) -> dict[str, Any]:
    return {"image": {"format": kind, "source": {"bytes": "aGk="} if source is None else source}}


def document(name: str = "a file") -> dict[str, Any]:
    return {"document": {"format": "pdf", "name": name, "source": {"bytes": "aGk="}}}


def answer(schema: Any) -> dict[str, Any]:
    shape = {"jsonSchema": {"schema": json.dumps(schema), "name": "a"}}
    return body(outputConfig={"textFormat": {"type": "json_schema", "structure": shape}})


CALLED = called(user("Hi"), assistant(call()), user(result()))
THINKING = {"additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 1024}}}
SIGNED = thought(sign("anthropic", "hm"))

EXAMPLES = {
    "unknown field": Example(body(tools=[]), body(requestMetadata={})),
    "first message of the assistant's": Example(
        body(assistant("Hi"), user("Hi")), body(user("Hi"), assistant("Hi"), user("Hi"))
    ),
    "alternation": Example(body(user("Hi"), user("Hi")), body(user("Hi", "Hi"))),
    "no content": Example(body(user("Hi"), assistant(), user("Hi")), body(user("Hi"))),
    "blank text": Example(body(user(" ")), body(user("Hi"), system=[{"text": "Be brief"}])),
    "blank result": Example(
        called(user("Hi"), assistant(call()), user(result(said=" "))),
        called(user("Hi"), assistant(call()), user(result(said=" "))),
        CLAUDE,
        NOVA,
    ),
    "trailing white space": Example(
        body(user("Hi"), assistant("Well ")), body(user("Hi"), assistant("Well ")), CLAUDE, NOVA
    ),
    "calls without tools": Example(body(user("Hi"), assistant(call()), user(result())), CALLED),
    "empty list of tools": Example(body(toolConfig={"tools": []}), body(**tools())),
    "call id": Example(
        called(user("Hi"), assistant(call("a b")), user(result("a b"))),
        called(user("Hi"), assistant(call("a.b:c")), user(result("a.b:c"))),
    ),
    "call id twice": Example(
        called(user("Hi"), assistant(call(), call()), user(result())),
        called(user("Hi"), assistant(call(), call("b")), user(result(), result("b"))),
    ),
    "call id's characters at Anthropic": Example(
        called(user("Hi"), assistant(call("a.b")), user(result("a.b"))),
        called(user("Hi"), assistant(call("a.b")), user(result("a.b"))),
        CLAUDE,
        NOVA,
    ),
    "call id in two turns at Anthropic": Example(
        called(user("Hi"), assistant(call()), user(result()), assistant(call()), user(result())),
        called(user("Hi"), assistant(call()), user(result()), assistant(call()), user(result())),
        CLAUDE,
        NOVA,
    ),
    "call without result": Example(called(user("Hi"), assistant(call(), call("b")), user(result())), CALLED),
    "result without call": Example(called(user(result())), CALLED),
    "arguments": Example(called(user("Hi"), assistant(call(given=[1])), user(result())), CALLED),
    "tool's name": Example(body(**tools(name="the weather")), body(**tools(name="the-weather"))),
    "empty description": Example(body(**tools(description="")), body(**tools(description="Tells it"))),
    "tool's schema of no object": Example(body(**tools({})), body(**tools({"type": "object"}))),
    "answer's schema at Anthropic": Example(
        answer(with_property(type="string", maxLength=3)), answer(CLOSED), CLAUDE
    ),
    "limit above the model's": Example(config(maxTokens=4097), config(maxTokens=4096), CLAUDE),
    "temperature": Example(config(temperature=1.1), config(temperature=1)),
    "temperature and top_p": Example(
        config(temperature=0.5, topP=0.5), config(temperature=0.5, topP=0.5), NEW, CLAUDE
    ),
    "empty stop sequence": Example(config(stopSequences=[""]), config(stopSequences=["x"])),
    "blank stop sequence": Example(config(stopSequences=["\n"]), config(stopSequences=["\n"]), CLAUDE, NOVA),
    "thinking's signature": Example(
        body(user("Hi"), assistant(thought("?"), "Hi"), user("Hi")),
        body(user("Hi"), assistant(SIGNED, "Hi"), user("Hi")),
    ),
    "thinking with a forced tool": Example(
        body(**tools(choice={"any": {}}), **THINKING), body(**tools(choice={"auto": {}}), **THINKING)
    ),
    "thinking not sent back": Example(
        {**CALLED, **THINKING}, called(user("Hi"), assistant(SIGNED, call()), user(result()), **THINKING)
    ),
    "image's format": Example(body(user("Hi", image("jpg"))), body(user("Hi", image("jpeg")))),
    "image's source": Example(
        body(user("Hi", image(source={"url": "https://x.test/a.png"}))), body(user("Hi", image()))
    ),
    "images": Example(body(user(*[image()] * 21)), body(user(*[image()] * 20))),
    "document alone": Example(body(user(document())), body(user(document(), "Read it"))),
    "document's name": Example(
        body(user(document("a_file.pdf"), "Hi")), body(user(document("a file (1)"), "Hi"))
    ),
}
