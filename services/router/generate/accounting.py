"""The usage of an attempt, from all that is known of it as it ends. Pure.

One rule for every ending: exact where the provider told all of it; else never less than it told; then what came tells
what was made; and where the provider may have worked and nobody knows, it is what was reserved, UNCERTAIN, as for a
router that was killed. Estimates stay within what was reserved, unless what came cannot be so little.

| ending                                               | input           | output                 | accuracy  |
| ---------------------------------------------------- | --------------- | ---------------------- | --------- |
| any, all usage told, and it agrees with itself       | told            | told                   | EXACT     |
| answer whose usage is not told, or not all of it     | told, else ours | by what came, ≥ told   | ESTIMATED |
| cut, stall, error, caller gone after something came  | told, else ours | by what came, ≥ told   | ESTIMATED |
| refused, or never reached or called                  | 0               | 0                      | ESTIMATED |
| error inside an answer that told usage, nothing came | told, else ours | told                   | ESTIMATED |
| no answer in time, caller gone, hedge lost, body     | told, else ours | as reserved, ≥ told    | UNCERTAIN |
| cut, too long or no answer at all; nothing came      |                 |                        |           |
| router killed (the record that `Attempts.begin`      | ours            | as reserved            | UNCERTAIN |
| wrote, recovered from the spool)                     |                 |                        |           |

It is the same for answers whole and streamed: of a whole one nothing has come until all of it has.
"""

from __future__ import annotations

from enum import StrEnum

from msgspec.structs import replace

from libs.types import ErrorClass, Usage, UsageAccuracy
from services.router.request.generation import ProviderFailure
from services.router.request.tokens import estimate_text_tokens

#: The provider may have worked, and billed, although no answer came. A broken connection is among them once the head
#: of an answer has come.
_AT_WORK = frozenset({ErrorClass.TIMEOUT, ErrorClass.STALLED, ErrorClass.MALFORMED, ErrorClass.CANCELLED})
#: The longest common tokens, runs of spaces, have four times the bytes that estimates give to a token.
_LONGEST = 4


class Ending(StrEnum):
    """The ways in which an attempt ends, as far as usage depends on them."""

    ANSWERED = "answered"
    #: The provider said that there is no answer, or was not reached or called: nobody bills for that.
    REFUSED = "refused"
    #: It was broken off, by either side: the provider was at work for all that is known.
    BROKEN_OFF = "broken_off"


def ending_of(failure: ProviderFailure) -> Ending:
    """Returns the way in which a failed attempt ended."""
    cut = failure.error_class is ErrorClass.TRANSPORT and 200 <= failure.http_status < 300
    return Ending.BROKEN_OFF if cut or failure.error_class in _AT_WORK else Ending.REFUSED


def reserved_usage(input_tokens: int, output_tokens: int) -> Usage:
    """Returns the usage of an attempt of which nothing is known but what was reserved for it."""
    return Usage(input_tokens, output_tokens, accuracy=UsageAccuracy.UNCERTAIN)


def account(ending: Ending, told: Usage | None, came: str, reserved: Usage) -> Usage:
    """Returns the usage of an attempt that ended. `told`: by the provider so far, EXACT only if it is all; `came`:
    all that was generated and came, tool calls included; `reserved`: see `reserved_usage`."""
    if told is not None and told.accuracy is UsageAccuracy.EXACT:
        return told
    if told is None:
        if ending is Ending.REFUSED and not came:
            return Usage(accuracy=UsageAccuracy.ESTIMATED)
        told = Usage()
    output, accuracy = reserved.output_tokens, UsageAccuracy.UNCERTAIN
    if came or ending is not Ending.BROKEN_OFF:
        made = estimate_text_tokens(came)
        output = max(made // _LONGEST, min(made, output))
        accuracy = UsageAccuracy.ESTIMATED
    return replace(
        told,
        input_tokens=told.input_tokens or reserved.input_tokens,
        output_tokens=max(told.output_tokens, output),
        accuracy=accuracy,
    )
