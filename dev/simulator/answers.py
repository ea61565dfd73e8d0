"""Composes the answer to a request. The rules:

- The text depends on the prompt and the seed alone, so that every virtual provider gives the same one, unless it has
  an answer of its own (`own_answer`).
- Output tokens are the pieces the text is streamed in (`text.py`); input tokens are the characters of all message
  texts divided by four, rounded up, at least one.
- A prefill that the text begins with is continued where it ends; any other is continued from as many tokens on.
- `max_tokens` and stop sequences cut the text as they would.
- Tools that must be called are, and so are those that the user's last words ask for; their arguments fit the schema.
- JSON is answered where it is wanted, by a field or in so many words.
- Pictures and documents that were sent are described before anything else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from dev.simulator.behaviour import Behaviour, ContentFilter, NoFinish, OddCalls
from dev.simulator.schema import example
from dev.simulator.text import pieces, ponder, write
from dev.simulator.wires.answer import Answer, Part, Usage
from dev.simulator.wires.base import Ask, encode

#: JSON wanted in so many words, by those whose wire has no field for it.
_JSON = re.compile(
    r"\b(?:single|valid|only|one) JSON\b|\bJSON (?:object )?(?:only|and nothing else)\b", re.IGNORECASE
)
_EXCERPT = 4000
_END = (" And", " that", " is", " all", ".")


@lru_cache(maxsize=2048)
def _quote(tokens: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(map(encode, tokens))


def input_tokens(ask: Ask) -> int:
    """Returns the input tokens by the rule above."""
    return max(1, -(-ask.characters // 4))


def compose(ask: Ask, behaviour: Behaviour, provider: str, odd: OddCalls | None = None) -> Answer:
    """Returns the answer of the virtual provider `provider`, faults aside but those of its calls."""
    seed = behaviour.seed
    if behaviour.use_request_seed and ask.seed is not None:
        seed = (seed << 32) ^ ask.seed
    voice = provider if behaviour.own_answer else ""
    schema = ask.json_schema
    if schema is None and _JSON.search(ask.prompt[:_EXCERPT] + ask.prompt[-_EXCERPT:]):
        schema = {}
    plain = not ask.calls and schema is None
    tokens = write(ask.prompt, seed=seed, voice=voice, count=behaviour.tokens if plain else None)
    finish, stopped = "stop", None
    odd = odd or OddCalls()
    parts: list[Part] = []
    if ask.thinks:
        parts.append(Part("thinking", pieces(ponder(ask.prompt)) if ask.shows_thoughts else ()))
    if ask.calls:
        finish = "tool_calls"
        for tool in ask.calls:
            arguments = "" if odd.no_arguments else encode(example(tool.schema, "".join(tokens))).decode()
            parts.append(Part("call", pieces(arguments), tool.name))
    else:
        if schema is not None:
            tokens = pieces(encode(_structured(schema, "".join(tokens))).decode())
        elif ask.media:
            tokens = pieces(" ".join(ask.media) + " ") + tokens
        if ask.prefill:
            tokens = _continue(tokens, ask.prefill)
        if ask.stop:
            tokens, stopped = _stop(tokens, ask.stop)
            finish = "stop_sequence" if stopped else finish
        parts.append(Part("text", tokens, quoted=_quote(tokens)))
    answer = Answer(tuple(parts), finish, None, stopped, odd)
    if ask.max_tokens is not None and answer.count > ask.max_tokens:
        answer = Answer(_first(answer.parts, ask.max_tokens), "length", None, None, odd)
    answer.usage = _usage(ask, behaviour, answer)
    return answer


def _first(parts: tuple[Part, ...], count: int) -> tuple[Part, ...]:
    """Returns the parts as far as their first `count` tokens; the first stays, with none if need be."""
    kept: list[Part] = []
    for part in parts:
        if kept and count <= 0:
            break
        kept.append(replace(part, pieces=part.pieces[:count], quoted=part.quoted[:count]))
        count -= len(part.pieces)
    return tuple(kept)


def _structured(schema: Mapping[str, Any], text: str) -> object:
    if schema:
        return example(schema, text, key="description")
    return {"title": text.split(". ", 1)[0], "description": text}


def _continue(tokens: tuple[str, ...], prefill: str) -> tuple[str, ...]:
    text = "".join(tokens)
    if text.startswith(prefill):
        return pieces(text[len(prefill) :])
    return tokens[len(pieces(prefill)) :] or _END


def _stop(tokens: tuple[str, ...], stops: tuple[str, ...]) -> tuple[tuple[str, ...], str | None]:
    text = "".join(tokens)
    places = [(text.find(stop), stop) for stop in stops]
    found = min(((at, stop) for at, stop in places if at >= 0), default=None)
    if found is None:
        return tokens, None
    return pieces(text[: found[0]]), found[1]


def _usage(ask: Ask, behaviour: Behaviour, answer: Answer) -> Usage | None:
    reported = behaviour.usage
    thought = sum(len(part.pieces) for part in answer.parts if part.kind == "thinking")
    if reported.omit:
        return None
    total = input_tokens(ask) if reported.input_tokens is None else reported.input_tokens
    return Usage(
        total,
        answer.count - thought if reported.output_tokens is None else reported.output_tokens,
        min(reported.cache_read_tokens, total),
        min(reported.cache_write_tokens, total - min(reported.cache_read_tokens, total)),
        reported.reasoning_tokens + thought,
    )


def filtered(answer: Answer, fault: ContentFilter) -> Answer:
    """Returns the answer as a content filter leaves it."""
    count = answer.count // 2 if fault.after_tokens is None else fault.after_tokens
    return _truncated(answer, count, "content_filter")


def unfinished(answer: Answer, fault: NoFinish) -> Answer:
    """Returns the answer without its end."""
    count = answer.count if fault.after_tokens is None else fault.after_tokens
    return _truncated(answer, count, None)


def split_emoji(answer: Answer) -> Answer:
    """Returns the answer with an emoji after its text, whose halves are two tokens."""
    *others, last = answer.parts
    if last.kind != "text":
        return answer
    # The halves as the wire has them: no string of Python's holds one.
    halves = (b'"\\ud83d"', b'"\\ude00"')
    last = Part("text", (*last.pieces, "\U0001f600", ""), quoted=(*last.quoted, *halves))
    return replace(answer, parts=(*others, last))


def _truncated(answer: Answer, count: int, finish: str | None) -> Answer:
    parts = _first(answer.parts, count)
    kept = replace(answer, parts=parts, finish=finish, stop_sequence=None)
    if answer.usage:
        kept.usage = replace(answer.usage, output=min(answer.usage.output, kept.count))
    return kept
