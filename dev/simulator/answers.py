"""Composes the answer to a request. The rules:

- The text depends on the prompt and the seed alone, so that every virtual provider gives the same one, unless it has
  an answer of its own (`own_answer`).
- Output tokens are the pieces the text is streamed in (`text.py`); input tokens are the characters of all message
  texts divided by four, rounded up, at least one.
- A prefill that the text begins with is continued where it ends; any other is continued from as many tokens on.
- `max_tokens` and stop sequences cut the text as they would.
"""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

from dev.simulator.behaviour import Behaviour, ContentFilter, NoFinish
from dev.simulator.schema import example
from dev.simulator.text import pieces, write
from dev.simulator.wires.base import Answer, Ask, Usage, encode

_END = (" And", " that", " is", " all", ".")


@lru_cache(maxsize=2048)
def _quote(tokens: tuple[str, ...]) -> tuple[bytes, ...]:
    return tuple(map(encode, tokens))


def input_tokens(ask: Ask) -> int:
    """Returns the input tokens by the rule above."""
    return max(1, -(-ask.characters // 4))


def compose(ask: Ask, behaviour: Behaviour, provider: str) -> Answer:
    """Returns the answer of the virtual provider `provider`, faults aside."""
    seed = behaviour.seed
    if behaviour.use_request_seed and ask.seed is not None:
        seed = (seed << 32) ^ ask.seed
    voice = provider if behaviour.own_answer else ""
    plain = ask.tool is None and ask.json_schema is None
    tokens = write(ask.prompt, seed=seed, voice=voice, count=behaviour.tokens if plain else None)
    finish, stopped = "stop", None
    if ask.tool is not None:
        tokens = pieces(encode(example(ask.tool.schema, "".join(tokens))).decode())
        finish = "tool_calls"
    elif ask.json_schema is not None:
        tokens = pieces(encode(_structured(ask, "".join(tokens))).decode())
    if ask.prefill and ask.tool is None:
        tokens = _continue(tokens, ask.prefill)
    if ask.stop and ask.tool is None:
        tokens, stopped = _stop(tokens, ask.stop)
        finish = "stop_sequence" if stopped else finish
    if ask.max_tokens is not None and len(tokens) > ask.max_tokens:
        tokens, finish, stopped = tokens[: ask.max_tokens], "length", None
    usage = _usage(ask, behaviour, len(tokens))
    tool = ask.tool.name if ask.tool else None
    return Answer(tokens, finish, usage, tool, stopped, _quote(tokens))


def _structured(ask: Ask, text: str) -> object:
    if ask.json_schema:
        return example(ask.json_schema, text, key="description")
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


def _usage(ask: Ask, behaviour: Behaviour, count: int) -> Usage | None:
    reported = behaviour.usage
    if reported.omit:
        return None
    total = input_tokens(ask) if reported.input_tokens is None else reported.input_tokens
    return Usage(
        total,
        count if reported.output_tokens is None else reported.output_tokens,
        min(reported.cache_read_tokens, total),
        min(reported.cache_write_tokens, total - min(reported.cache_read_tokens, total)),
        reported.reasoning_tokens,
    )


def filtered(answer: Answer, fault: ContentFilter) -> Answer:
    """Returns the answer as a content filter leaves it."""
    count = len(answer.pieces) // 2 if fault.after_tokens is None else fault.after_tokens
    return _truncated(answer, count, "content_filter")


def unfinished(answer: Answer, fault: NoFinish) -> Answer:
    """Returns the answer without its end."""
    count = len(answer.pieces) if fault.after_tokens is None else fault.after_tokens
    return _truncated(answer, count, None)


def _truncated(answer: Answer, count: int, finish: str | None) -> Answer:
    kept = answer.pieces[:count]
    usage = answer.usage and replace(answer.usage, output=min(answer.usage.output, len(kept)))
    return Answer(kept, finish, usage, answer.tool, None, answer.quoted[:count])
