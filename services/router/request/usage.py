"""The usage that a provider tells of one call, at once or bit by bit. Pure.

Told once is told for good: of all that a provider tells in turn the most counts, since a later event may leave out or
zero what an earlier one has counted, and no count ever shrinks, but where a provider is known to restate all of them.
A count is exact where it was told at the end, whole and in agreement with itself; until then it is a part of the
truth, and ESTIMATED.
"""

from __future__ import annotations

from msgspec import Struct
from msgspec.structs import replace

from libs.types import Usage, UsageAccuracy

_ESTIMATED = UsageAccuracy.ESTIMATED


def told_usage(
    inputs: int | None, output: int | None, cache_read: int = 0, cache_write: int = 0, reasoning: int = 0
) -> Usage | None:
    """Returns the usage that consists of these counts, None where neither input nor output is told. A part that is
    more than its whole is counted beside it, as some servers do; then, and where one of the two is not told, the
    usage is ESTIMATED."""
    if inputs is None and output is None:
        return None
    exact = inputs is not None and output is not None
    inputs, output = inputs or 0, output or 0
    if cache_read + cache_write > inputs:
        # Azure AI's Grok counts cached tokens beside the prompt's, and of other requests within it.
        inputs, exact = inputs + cache_read + cache_write, False
    if reasoning > output:
        output, exact = output + reasoning, False
    accuracy = UsageAccuracy.EXACT if exact else _ESTIMATED
    return Usage(inputs, output, cache_read, cache_write, reasoning, accuracy)


def merge_usage(before: Usage | None, later: Usage | None, *, restated: bool = False) -> Usage | None:
    """Returns all that is told by both, as accurate as the later: of every count the most, where both have told it.
    One that shrank contradicts the other, so that the usage is ESTIMATED; with `restated` it corrects the other. Zero
    stands for left out in either case."""
    if before is None or later is None:
        return later or before
    pick = _corrected if restated else max
    inputs, output = (
        pick(before.input_tokens, later.input_tokens),
        pick(before.output_tokens, later.output_tokens),
    )
    read = pick(before.cache_read_tokens, later.cache_read_tokens)
    written = pick(before.cache_write_tokens, later.cache_write_tokens)
    reasoning = pick(before.reasoning_tokens, later.reasoning_tokens)
    shrank = 0 < later.input_tokens < inputs or 0 < later.output_tokens < output
    if shrank or read + written > inputs or reasoning > output:
        return Usage(
            max(inputs, read + written), max(output, reasoning), read, written, reasoning, _ESTIMATED
        )
    return Usage(inputs, output, read, written, reasoning, later.accuracy)


def _corrected(before: int, later: int) -> int:
    return later or before


def as_estimate(usage: Usage | None) -> Usage | None:
    """Returns the usage as a part of the truth."""
    if usage is None or usage.accuracy is not UsageAccuracy.EXACT:
        return usage
    return replace(usage, accuracy=_ESTIMATED)


class ToldUsage(Struct):
    """The usage that a provider has told of one call so far: written by the call as it ends, however it does, and
    read when it is accounted for. None: none. Beside it stand the prompt's options that it could not be told, as the
    call begins."""

    usage: Usage | None = None
    ignored: tuple[str, ...] = ()
