"""Examples of the rules of xAI, Cerebras and Perplexity."""

from __future__ import annotations

from tests.unit.dev.strict.example import Example, assistant, user, with_property
from tests.unit.dev.strict.openai_examples import CALLED, COMMON, answer, body, call, called, result, tool

XAI = {
    **COMMON,
    "field of no reasoning model": Example(
        body(stop=["x"]), body(stop=["x"]), "grok-4", "grok-4-fast-non-reasoning"
    ),
    "effort": Example(body(reasoning_effort="low"), body(reasoning_effort="low"), "grok-4", "grok-4.3"),
    "no content element": Example(
        body(user("Hi"), {**assistant(""), "content": []}, user("Hi")),
        body(user("Hi"), {**called(call()), "content": []}, result()),
    ),
    "empty message": Example(body(user("")), body(user({"type": "text", "text": "Hi"}))),
}

CEREBRAS = {
    **COMMON,
    "unsupported field": Example(body(store=False), body(seed=1)),
    "unsupported field of a message": Example(
        body(user("Hi"), {**assistant("Hi"), "reasoning_content": "hm"}, user("Hi")), CALLED
    ),
    "unknown keyword": Example(
        body(**answer(with_property(type="array", items={"type": "string"}, minItems=1))),
        body(**answer(with_property(type="array", items={"type": "string"}))),
    ),
}

PERPLEXITY = {
    "tools": Example(body(tools=[tool()]), body()),
    "no content": Example(
        body(user("Hi"), called(call()), user("Hi")), body(user("Hi"), assistant("Hm"), user("Hi"))
    ),
    "role": Example(
        body(user("Hi"), assistant("Hm"), result()),
        body({"role": "system", "content": "Be short."}, user("Hi")),
    ),
    "roles in turn": Example(
        body(user("Hi"), user("there")), body(user("Hi"), assistant("Hm"), user("there"))
    ),
    "last message": Example(body(user("Hi"), assistant("Well")), body(user("Hi"))),
    "penalty of nothing": Example(body(frequency_penalty=0), body(frequency_penalty=0.5)),
}
