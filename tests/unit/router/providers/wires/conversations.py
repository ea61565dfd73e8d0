"""Conversations that callers may send, each with one thing that some vendor is particular about."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from libs.conversation import (
    File,
    Image,
    Message,
    Part,
    Reasoning,
    ReasoningEffort,
    Refusal,
    ResponseFormat,
    Role,
    Text,
    Tool,
    ToolCall,
)
from services.router.request.generation import Prompt
from tests.support.pictures import pdf, png

CLOSED: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = Tool("weather", "Tells the weather", json.dumps(CLOSED))


def user(text: str = "Weather in Bern?") -> Message:
    return Message(Role.USER, text)


def system(text: str = "Be brief.") -> Message:
    return Message(Role.SYSTEM, text)


def assistant(text: str, *calls: ToolCall) -> Message:
    return Message(Role.ASSISTANT, text, calls)


def call(identifier: str = "call_1", arguments: str = '{"city":"Bern"}', name: str = "weather") -> ToolCall:
    return ToolCall(identifier, name, arguments)


def result(identifier: str = "call_1", text: str = "sunny") -> Message:
    return Message(Role.TOOL, text, tool_call_id=identifier)


def prompt(*messages: Message, **more: Any) -> Prompt:
    return Prompt(**{"messages": messages or (user(),), "max_output_tokens": 4000, **more})


def called(*messages: Message, **more: Any) -> Prompt:
    return prompt(*messages, **{"tools": (WEATHER,), **more})


def with_tool(schema: Any, messages: tuple[Message, ...] = (), **more: Any) -> Prompt:
    return prompt(*messages, tools=(Tool("weather", "Tells the weather", json.dumps(schema)),), **more)


def with_answer(schema: Any, **more: Any) -> Prompt:
    return prompt(response_format=ResponseFormat(json.dumps(schema)), **more)


def property_of(**schema: Any) -> dict[str, Any]:
    return {**CLOSED, "properties": {"city": schema}}


def shown(*parts: Part) -> Message:
    return Message(Role.USER, parts=parts)


def told_by_tool(*parts: Part, identifier: str = "call_1") -> Message:
    return Message(Role.TOOL, tool_call_id=identifier, parts=parts)


PICTURE, DOCUMENT = Image(png()), File(pdf(), name="price list: 2026.pdf")
ODATA = {
    "type": "object",
    "properties": {
        "$top": {"type": "integer"},
        "filter[id]": {"type": "string"},
        "k" * 70: {"type": "string"},
    },
    "required": ["$top"],
}
LONG = "call_" + "x" * 60
ROUND = (user(), assistant("", call()), result())

CONVERSATIONS: Mapping[str, Prompt] = {
    "plain": prompt(system(), user()),
    "last from the system": prompt(user(), system()),
    "system alone": prompt(system()),
    "system between": prompt(user(), assistant("Sunny."), system(), user()),
    "last from the assistant": prompt(user(), assistant("It is")),
    "last from the assistant, with a space": prompt(user(), assistant("It is ")),
    "two last from the assistant": prompt(user(), assistant("Sunny."), assistant("It is")),
    "last from the assistant and a begun answer": prompt(user(), assistant("It"), prefill=" is "),
    "two of the user's": prompt(user(), user("Quickly!")),
    "two of the assistant's": prompt(user(), assistant("Sunny."), assistant("And warm."), user()),
    "first from the assistant": prompt(assistant("How can I help?"), user()),
    "blank system text": prompt(system(" "), user()),
    "blank text of the user's": prompt(user(" \n"), user()),
    "blank text alone": prompt(user("\n")),
    "blank text of the assistant's": prompt(user(), assistant("\n"), user()),
    "blank text beside a call": called(user(), assistant("\n\n", call()), result()),
    "begun answer": prompt(prefill="It is"),
    "begun answer that ends in a space": prompt(prefill="It is "),
    "begun answer of white space": prompt(prefill="\n"),
    "call and result": called(*ROUND),
    "two calls at once": called(user(), assistant("", call(), call("call_2")), result(), result("call_2")),
    "results in another order": called(
        user(), assistant("", call(), call("call_2")), result("call_2"), result()
    ),
    "two turns of calls": called(*ROUND, assistant("", call("call_2")), result("call_2")),
    "answered calls": called(*ROUND, assistant("Sunny."), user("And in Rome?")),
    "user after results": called(*ROUND, user("And in Rome?")),
    "system after results": called(*ROUND, system()),
    "call without tools": prompt(*ROUND),
    "call with tools of another name": prompt(*ROUND, tools=(Tool("news", "Tells the news"),)),
    "call and choice none": called(*ROUND, tool_choice="none"),
    "id again in a later turn": called(*ROUND, assistant("", call()), result()),
    "long id": called(user(), assistant("", call(LONG)), result(LONG)),
    "id with dots and colons": called(user(), assistant("", call("a.b:0")), result("a.b:0")),
    "id of Gemini's making": called(user(), assistant("", call("weather_0 1")), result("weather_0 1")),
    "ids of nothing": called(user(), assistant("", call(""), call("")), result(""), result("", "rainy")),
    "one id for two calls at once": called(user(), assistant("", call(), call()), result(), result()),
    "calls in a message each": called(
        user(), assistant("", call()), assistant("", call("call_2")), result(), result("call_2")
    ),
    "user before the result": called(user(), assistant("", call()), user("Quickly!"), result()),
    "system before the result": called(user(), assistant("", call()), system(), result()),
    "long name of a tool called before": called(
        user(), assistant("", call(name="weather_" * 12)), result(), user()
    ),
    "call that a user interrupts": called(user(), assistant("", call()), user("Never mind.")),
    "call that ends the conversation": called(user(), assistant("", call())),
    "one of two calls without a result": called(
        user(), assistant("", call(), call("call_2")), result("call_2")
    ),
    "result under another id": called(user(), assistant("", call()), result("another"), user("And?")),
    "result without a call": called(user(), result(), user("And?")),
    "result without a call, first": called(result(), user("And?")),
    "result without a call, last": called(user(), assistant("Hm."), result()),
    "two results of one call": called(user(), assistant("", call()), result(), result(text="rainy")),
    "result after the assistant has spoken": called(
        user(), assistant("", call()), assistant("Wait."), result(), user("And?")
    ),
    "call without arguments": called(user(), assistant("", call(arguments="")), result()),
    "arguments of no object": called(user(), assistant("", call(arguments="[1]")), result()),
    "arguments of no JSON": called(user(), assistant("", call(arguments='{"city": "Be')), result()),
    "empty result": called(user(), assistant("", call()), result(text="")),
    "blank result": called(user(), assistant("", call()), result(text=" ")),
    "result that is a list": called(user(), assistant("", call()), result(text="[1, 2]")),
    "text and call": called(user(), assistant("Let me look.", call()), result()),
    "tool without parameters": prompt(tools=(Tool("now"),)),
    "empty schema of a tool": with_tool({}),
    "schema of a tool without a type": with_tool({"properties": {"city": {"type": "string"}}}),
    "schema of a tool without properties": with_tool({"type": "object"}),
    "oneOf on top of a tool's schema": with_tool({"type": "object", "properties": {}, "oneOf": [{}]}),
    "array without items in a tool": with_tool(property_of(type="array")),
    "maxItems in a tool": with_tool(property_of(type="array", items={"type": "string"}, maxItems=3)),
    "names of parameters with strange characters": with_tool(ODATA),
    "call with strange names of parameters": with_tool(
        ODATA, messages=(user(), assistant("", call(arguments='{"$top":3}')), result())
    ),
    "$schema in a tool": with_tool({"$schema": "http://json-schema.org/draft-07/schema#", **CLOSED}),
    "name of a tool with dots": prompt(tools=(Tool("shop.weather", "Tells it", json.dumps(CLOSED)),)),
    "names of tools that differ in a dot": prompt(tools=(Tool("shop.weather"), Tool("shop_weather"))),
    "name of a tool that begins with a digit": prompt(tools=(Tool("3d"),), tool_choice="3d"),
    "anyOf on top of a tool's schema": with_tool({"anyOf": [CLOSED, {"type": "object"}]}),
    "name of a schema with a space": prompt(response_format=ResponseFormat(json.dumps(CLOSED), "my answer")),
    "JSON of a map": with_answer({"type": "object", "additionalProperties": {"type": "string"}}),
    "JSON of any shape with tools": prompt(response_format=ResponseFormat(), tools=(WEATHER,)),
    "allOf in an answer": with_answer(property_of(allOf=[{"type": "string"}])),
    "long description of a tool": prompt(tools=(Tool("weather", "Tells it. " * 150, json.dumps(CLOSED)),)),
    "a tool must be called": called(tool_choice="required"),
    "this tool must be called": called(tool_choice="weather"),
    "choice auto": called(tool_choice="auto"),
    "JSON of any shape": prompt(response_format=ResponseFormat()),
    "JSON of a closed schema": with_answer(CLOSED),
    "JSON of an open schema": with_answer({"type": "object", "properties": {"city": {"type": "string"}}}),
    "maxItems in an answer": with_answer(property_of(type="array", items={"type": "string"}, maxItems=3)),
    "minItems in an answer": with_answer(property_of(type="array", items={"type": "string"}, minItems=2)),
    "bounds in an answer": with_answer(property_of(type="integer", minimum=1, maximum=9)),
    "length in an answer": with_answer(property_of(type="string", minLength=1, maxLength=9)),
    "oneOf in an answer": with_answer(property_of(oneOf=[{"type": "string"}, {"type": "null"}])),
    "reference in an answer": with_answer(
        {**property_of(**{"$ref": "#/$defs/city"}), "$defs": {"city": {"type": "string"}}}
    ),
    "answer that is a list": with_answer({"type": "array", "items": CLOSED}),
    "answer of one of two objects": with_answer({"anyOf": [CLOSED, {**CLOSED, "title": "another"}]}),
    "answer without a type": with_answer({"properties": {"city": {"type": "string"}}}),
    "answer that may be nothing": with_answer({**CLOSED, "type": ["object", "null"]}),
    "answer of any shape": with_answer({}),
    "schema that holds itself": with_answer(property_of(type="array", items={"$ref": "#"})),
    "schemas that hold each other": with_answer(
        {
            **property_of(**{"$ref": "#/$defs/a~1b"}),
            "$defs": {
                "a/b": property_of(**{"$ref": "#/$defs/c"}),
                "c": property_of(anyOf=[{"$ref": "#/$defs/a~1b"}, {"type": "null"}]),
            },
        }
    ),
    "tuple of an older draft in a tool": with_tool(
        property_of(type="array", items=[{"type": "string"}, {"type": "integer"}], additionalItems=False)
    ),
    "bound of an older draft in a tool": with_tool(
        property_of(type="integer", minimum=0, exclusiveMinimum=True, maximum=9, exclusiveMaximum=False)
    ),
    "tuple of an older draft in an answer": with_answer(
        property_of(type="array", items=[{"type": "string"}, {"type": "integer"}])
    ),
    "tuple in a tool": with_tool(property_of(type="array", prefixItems=[{"type": "string"}])),
    "JSON of a schema with tools": with_answer(CLOSED, tools=(WEATHER,)),
    "image": prompt(shown(Text("What is it?"), PICTURE)),
    "image without a word": prompt(shown(PICTURE)),
    "image and a call": called(shown(PICTURE), assistant("", call()), result()),
    "image that a tool shows": called(user(), assistant("", call()), told_by_tool(Text("See:"), PICTURE)),
    "image alone that a tool shows": called(
        user(), assistant("", call()), told_by_tool(PICTURE), user("And?")
    ),
    "two tools that show images": called(
        user(),
        assistant("", call(), call("call_2")),
        told_by_tool(PICTURE),
        told_by_tool(PICTURE, identifier="call_2"),
    ),
    "document": prompt(shown(Text("Sum it up."), DOCUMENT)),
    "documents of one name without a word": prompt(shown(DOCUMENT, DOCUMENT)),
    "document that a tool shows": called(user(), assistant("", call()), told_by_tool(DOCUMENT)),
    "document of no call": called(user(), told_by_tool(DOCUMENT), user("And?")),
    "refusal": prompt(user(), Message(Role.ASSISTANT, parts=(Refusal("No."),)), user("Please!")),
    "thoughts alone": prompt(user(), Message(Role.ASSISTANT, parts=(Reasoning("Hm."),)), user("And?")),
    "six stop sequences": prompt(stop_sequences=("a", "b", "c", "d", "e", "f")),
    "blank stop sequence": prompt(stop_sequences=("\n",)),
    "more output than any model has": prompt(max_output_tokens=500_000),
    "little output": prompt(max_output_tokens=5),
    "temperature": prompt(temperature=0.5),
    "high temperature": prompt(temperature=1.8),
    "temperature and top_p": prompt(temperature=0.5, top_p=0.9),
    "top_p of one": prompt(top_p=1.0),
    "penalties": prompt(presence_penalty=0.5, frequency_penalty=0.5),
    "high penalties": prompt(presence_penalty=1.8, frequency_penalty=1.8),
    "seed": prompt(seed=7),
    "negative seed": prompt(seed=-7),
    "large seed": prompt(seed=2**62),
    "penalties of nothing": prompt(presence_penalty=0.0, frequency_penalty=0.0),
    "no effort": prompt(reasoning_effort=ReasoningEffort.NONE),
    "effort": prompt(reasoning_effort=ReasoningEffort.HIGH),
    "effort and a temperature": prompt(reasoning_effort=ReasoningEffort.HIGH, temperature=0.5),
    "effort and a forced tool": called(reasoning_effort=ReasoningEffort.HIGH, tool_choice="required"),
    "effort after a call": called(*ROUND, reasoning_effort=ReasoningEffort.HIGH),
    "effort and a begun answer": prompt(prefill="It is", reasoning_effort=ReasoningEffort.HIGH),
    "little output and effort": prompt(max_output_tokens=1100, reasoning_effort=ReasoningEffort.HIGH),
}
