"""Examples of the rules of Google's generateContent."""

from __future__ import annotations

from typing import Any

from dev.simulator.signatures import sign
from tests.unit.dev.strict.example import CLOSED, Example

SECOND, THIRD = "gemini-2.5-flash", "gemini-3-pro-preview"
PRO = "gemini-2.5-pro"


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "parts": [{"text": part} if isinstance(part, str) else part for part in parts]}


def model(*parts: Any) -> dict[str, Any]:
    return {**user(*parts), "role": "model"}


def body(*contents: Any, **more: Any) -> dict[str, Any]:
    return {"contents": list(contents or [user("Hi")]), **more}


def config(**more: Any) -> dict[str, Any]:
    return body(generationConfig=more)


def call(name: str = "weather", **more: Any) -> dict[str, Any]:
    return {"functionCall": {"name": name, "args": {}}, **more}


def result(name: str = "weather", response: Any = None) -> dict[str, Any]:
    return {"functionResponse": {"name": name, "response": {"ok": True} if response is None else response}}


def tools(*functions: Any) -> dict[str, Any]:
    return {"tools": [{"functionDeclarations": list(functions)}]}


def function(name: str = "weather", **more: Any) -> dict[str, Any]:
    return {"name": name, **more}


def choice(**more: Any) -> dict[str, Any]:
    return {"toolConfig": {"functionCallingConfig": more}}


def data(kind: str = "image/png", size: int = 4) -> dict[str, Any]:
    return {"inlineData": {"mimeType": kind, "data": "A" * size}}


CALLED = body(user("Hi"), model(call()), user(result()))
PLAIN = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
SIGNED = call(thoughtSignature=sign("gemini", "hm"))


def nested(**schema: Any) -> dict[str, Any]:
    return function(parameters={"type": "object", "properties": {"x": schema}})


EXAMPLES = {
    "unknown field": Example(config(topk=3), config(topK=3)),
    "no content": Example({"contents": []}, body()),
    "penalty": Example(config(presencePenalty=0.5), config(presencePenalty=0.5), SECOND, "gemini-2.0-flash"),
    "part without data": Example(body(user({"thought": True})), body(user({"thought": True, "text": "hm"}))),
    "empty text": Example(body(user("")), body(user("", "Hi"))),
    "call after no user": Example(body(model("Hm"), model(call()), user(result())), CALLED),
    "result after no call": Example(body(user("Hi"), model("Hm"), user(result())), CALLED),
    "results and calls": Example(
        body(user("Hi"), model(call(), call()), user(result())),
        body(user("Hi"), model(call(), call()), user(result(), result())),
    ),
    "result without a name": Example(body(user("Hi"), model(call()), user(result(""))), CALLED),
    "result of no object": Example(body(user("Hi"), model(call()), user(result(response="sunny"))), CALLED),
    "signature lost": Example(
        CALLED, body(user("Hi"), model(SIGNED, call()), user(result(), result())), THIRD
    ),
    "signature of others": Example(
        body(user("Hi"), model(call(thoughtSignature=sign("anthropic", "hm"))), user(result())),
        body(user("Hi"), model(call(thoughtSignature="skip_thought_signature_validator")), user(result())),
        THIRD,
    ),
    "media type": Example(body(user(data("image/gif"))), body(user(data("image/webp")))),
    "size of data": Example(body(user(data(size=20 * 2**20 + 1))), body(user(data(size=2**20)))),
    "unknown keyword": Example(
        body(**tools(function(parameters=CLOSED))), body(**tools(function(parametersJsonSchema=CLOSED)))
    ),
    "empty object": Example(body(**tools(nested(type="object"))), body(**tools(nested(**PLAIN)))),
    "array without items": Example(
        body(**tools(nested(type="array"))), body(**tools(nested(type="array", items={"type": "string"})))
    ),
    "two schemas": Example(
        config(responseMimeType="application/json", responseSchema=PLAIN, responseJsonSchema=PLAIN),
        config(responseMimeType="application/json", responseJsonSchema=CLOSED),
    ),
    "schema of no JSON": Example(
        config(responseJsonSchema=CLOSED), config(responseMimeType="application/json")
    ),
    "function's name": Example(body(**tools(function("1st"))), body(**tools(function("a.b:c-d_1")))),
    "function twice": Example(
        body(**tools(function(), function())), body(**tools(function(), function("news")))
    ),
    "JSON with tools": Example(
        {**config(responseMimeType="application/json"), **tools(function())},
        {**config(responseMimeType="application/json"), **tools(function())},
        SECOND,
        THIRD,
    ),
    "choice without tools": Example(
        body(**choice(mode="ANY")), body(**choice(mode="ANY"), **tools(function()))
    ),
    "choice of no tool": Example(
        body(**choice(mode="ANY", allowedFunctionNames=["news"]), **tools(function())),
        body(**choice(mode="ANY", allowedFunctionNames=["weather"]), **tools(function())),
    ),
    "limit above the model's": Example(
        config(maxOutputTokens=65_537), config(maxOutputTokens=65_536), SECOND
    ),
    "stop sequences": Example(config(stopSequences=list("abcdef")), config(stopSequences=list("abcde"))),
    "empty stop sequence": Example(config(stopSequences=[""]), config(stopSequences=["\n"])),
    "temperature": Example(config(temperature=2.1), config(temperature=2)),
    "top_p": Example(config(topP=1.1), config(topP=1)),
    "seed": Example(config(seed=2**31), config(seed=2**31 - 1)),
    "thinking turned off": Example(
        config(thinkingConfig={"thinkingBudget": 0}),
        config(thinkingConfig={"thinkingBudget": 0}),
        PRO,
        SECOND,
    ),
    "level of an older model": Example(
        config(thinkingConfig={"thinkingLevel": "low"}),
        config(thinkingConfig={"thinkingLevel": "low"}),
        SECOND,
        THIRD,
    ),
    "level and budget": Example(
        config(thinkingConfig={"thinkingLevel": "low", "thinkingBudget": 9}),
        config(thinkingConfig={"thinkingLevel": "low"}),
        THIRD,
    ),
}
