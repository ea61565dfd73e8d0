"""The sizes that a refusal of a prompt that is too long states: the model's limit, and what the prompt has.

They are better than the catalog's figure, which is the model's as its vendor documents it: a deployment may hold
less, and another tokenizer counts otherwise.
"""

from __future__ import annotations

import re

from services.router.providers.wires.error_body import ErrorBody

#: A number as it is written for people, of at most twelve digits; smaller ones are no sizes of a context.
_NUMBER = re.compile(r"(?<![\w.])(\d{1,3}(?:[,_']\d{3}){1,3}|\d{3,12})(?![\w.]?\d)")
_MAX_NUMBERS = 8
#: Words right before or behind a number that make it the limit.
_LIMIT_BEFORE = re.compile(
    r"(?:max\w{0,10}|limit\w{0,2}|allowed|context (?:size|length|window)|at most|up to|less than|lower than|only"
    r"|<=|>|trained for|of context)[^\d]{0,24}$"
)
_LIMIT_BEHIND = re.compile(r"^ ?(?:tokens? )?(?:\(?max|limit|context)")
#: Between two numbers that are to be added: of the prompt and of the answer.
_PLUS = re.compile(r"^\D{0,24}\+\D{0,24}$")
#: Sizes of a text or body, which say nothing about a context window.
_BYTES = re.compile(
    r"\b(?:bytes?|characters?|chars?|payload|body|entity|[km]i?b)\b|\d[km]i?b\b|\bstring (?:too|value)\b"
)
_TOKENS = re.compile(r"\btokens?\b|\bcontext\b")
_AROUND = 40


def least_window(error: ErrorBody, status: int) -> int | None:
    """Returns the smallest context window, in tokens, of a model that may hold a prompt that was refused as too long,
    by what the refusal states; 0: any may, as it was refused for its bytes. None: nothing is stated."""
    words = error.prose
    if _BYTES.search(words) or (status == 413 and not _TOKENS.search(words)):
        return 0
    limit = count = added = 0
    last_end, last = -1, 0
    for found in _numbers(words):
        value = int(re.sub(r"\D", "", found[1]))
        before, behind = (
            words[max(0, found.start() - _AROUND) : found.start()],
            words[found.end() :][:_AROUND],
        )
        if last and _PLUS.search(words[last_end : found.start()]):
            added = last + value
            count = max(count, added)
        elif _LIMIT_BEFORE.search(before) or _LIMIT_BEHIND.search(behind):
            limit = max(limit, value)
        else:
            count = max(count, value)
        last_end, last = found.end(), value
    if count > limit:
        return count
    return limit + 1 if limit else None


def _numbers(words: str) -> list[re.Match[str]]:
    found = []
    for match in _NUMBER.finditer(words):
        found.append(match)
        if len(found) == _MAX_NUMBERS:
            break
    return found
