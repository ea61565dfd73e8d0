"""The ladder of degradation: what may be had where no attempt can begin, by the policy's `degradation`. Pure.

Three steps lead from an error to something that a caller would rather have: models cheaper than the policy names,
waiting for limits that get room soon, and an answer given before to the same prompt. Paced limits are waited for even
where the ladder has no such step. The first two come in the ladder's order; where it does not name both, waiting
comes first. The old answer comes last, but nobody waits where there is one and the ladder names it before the queue.
Nothing is waited for once a provider has been called: the loop's own steps wait for those.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum, auto

from msgspec import Struct

CHEAPER, QUEUE, STALE = "cheaper_model", "queue", "stale_cache"


class Degradable(Struct, frozen=True):
    """A request for which no attempt can begin, and the steps that it has taken."""

    #: Its error is one that a lesser answer is better than; a bad or refused request is not made better by it.
    lesser_is_better: bool
    #: A provider has been called for it.
    attempted: bool
    #: Limits alone keep some candidate from being called, and get room later; so do paced ones alone.
    limited: bool
    paced: bool
    #: It has an answer that was given before.
    answer_kept: bool
    #: Content has reached its caller.
    committed: bool
    #: Cheaper models have been added to its plan.
    made_cheaper: bool
    #: It has waited since candidates were last tried.
    waited: bool


class DegradationStep(Enum):
    """The next step down the ladder."""

    #: Try models that the policy does not name.
    CHEAPER_MODELS = auto()
    #: Wait in the queue; where the ladder has no queue, for paced limits alone.
    WAIT = auto()
    #: Serve the answer that was given before.
    KEPT_ANSWER = auto()
    #: The error stands.
    GIVE_UP = auto()


def next_degradation(ladder: Sequence[str], request: Degradable) -> DegradationStep:
    """Returns the next step; `ladder` holds the names of the policy's steps in their order."""
    queues = QUEUE in ladder
    room_comes = request.limited if queues else request.paced
    served_old = request.answer_kept and _before(STALE, QUEUE, ladder)
    wait = room_comes and not (request.attempted or request.waited or served_old)
    cheaper = request.lesser_is_better and CHEAPER in ladder and not request.made_cheaper
    if cheaper and not (wait and not _before(CHEAPER, QUEUE, ladder)):
        return DegradationStep.CHEAPER_MODELS
    if wait:
        return DegradationStep.WAIT
    if request.lesser_is_better and STALE in ladder and request.answer_kept and not request.committed:
        return DegradationStep.KEPT_ANSWER
    return DegradationStep.GIVE_UP


def _before(step: str, other: str, ladder: Sequence[str]) -> bool:
    """Returns True if both are steps of the ladder, in this order."""
    return step in ladder and other in ladder[ladder.index(step) :]
