"""The ladder of degradation as a decision: which step comes next, for every ladder and every state of a request."""

from __future__ import annotations

from itertools import permutations, product

import pytest
from msgspec import structs

from libs.catalog.model import DEGRADATIONS
from services.router.generate.degradation import (
    CHEAPER,
    QUEUE,
    STALE,
    Degradable,
    DegradationStep,
    next_degradation,
)

STEP = DegradationStep
#: Everything would help, and nothing has been tried.
OPEN = Degradable(
    lesser_is_better=True,
    attempted=False,
    limited=True,
    paced=False,
    answer_kept=True,
    committed=False,
    made_cheaper=False,
    waited=False,
)
LADDERS = [ladder for size in range(4) for ladder in permutations((CHEAPER, QUEUE, STALE), size)]
STATES = [Degradable(*flags) for flags in product((False, True), repeat=8)]


def walk(ladder: tuple[str, ...], request: Degradable = OPEN) -> list[DegradationStep]:
    """The steps of a request for which none of them finds an attempt."""
    steps = []
    while True:
        step = next_degradation(ladder, request)
        steps.append(step)
        if step is STEP.CHEAPER_MODELS:
            request = structs.replace(request, made_cheaper=True)
        elif step is STEP.WAIT:
            request = structs.replace(request, waited=True)
        else:
            return steps


def test_the_ladder_knows_the_catalogs_steps() -> None:
    """`refuse` says that nothing else follows, which is so at every ladder's end."""
    assert set(DEGRADATIONS) == {CHEAPER, QUEUE, STALE, "refuse"}


@pytest.mark.parametrize(
    ("ladder", "steps"),
    [
        ((), [STEP.GIVE_UP]),
        (("refuse",), [STEP.GIVE_UP]),
        ((CHEAPER,), [STEP.CHEAPER_MODELS, STEP.GIVE_UP]),
        ((QUEUE,), [STEP.WAIT, STEP.GIVE_UP]),
        ((STALE,), [STEP.KEPT_ANSWER]),
        ((CHEAPER, QUEUE, STALE), [STEP.CHEAPER_MODELS, STEP.WAIT, STEP.KEPT_ANSWER]),
        ((QUEUE, CHEAPER, STALE), [STEP.WAIT, STEP.CHEAPER_MODELS, STEP.KEPT_ANSWER]),
        # Nobody waits where an old answer is wanted rather.
        ((STALE, QUEUE), [STEP.KEPT_ANSWER]),
        ((CHEAPER, STALE, QUEUE), [STEP.CHEAPER_MODELS, STEP.KEPT_ANSWER]),
        # Cheaper models are a new answer, and come before an old one in any order.
        ((STALE, CHEAPER), [STEP.CHEAPER_MODELS, STEP.KEPT_ANSWER]),
    ],
)
def test_steps_come_in_the_ladders_order(ladder: tuple[str, ...], steps: list[DegradationStep]) -> None:
    """Each once, where none of them finds an attempt."""
    assert walk(ladder) == steps


@pytest.mark.parametrize("ladder", [(), (CHEAPER,), (STALE,)])
def test_paced_limits_are_waited_for_without_a_queue_in_the_ladder(ladder: tuple[str, ...]) -> None:
    """Before the ladder is gone down."""
    assert walk(ladder, structs.replace(OPEN, paced=True))[0] is STEP.WAIT


@pytest.mark.parametrize("ladder", LADDERS)
def test_every_ladder_ends_and_takes_no_step_that_it_may_not(ladder: tuple[str, ...]) -> None:
    """In any state: a step that is named, or the wait for paced limits; none twice; no cheaper models where a lesser
    answer mends nothing; no old answer after content; no wait after a call."""
    for request in STATES:
        steps = walk(ladder, request)
        assert len(set(steps)) == len(steps) <= 4
        assert steps[-1] in (STEP.KEPT_ANSWER, STEP.GIVE_UP)
        if STEP.CHEAPER_MODELS in steps:
            assert CHEAPER in ladder
            assert request.lesser_is_better
        if STEP.WAIT in steps:
            assert request.limited if QUEUE in ladder else request.paced
            assert not request.attempted
        if STEP.KEPT_ANSWER in steps:
            assert STALE in ladder
            assert (request.answer_kept, request.committed) == (True, False)


def test_after_cheaper_models_were_tried_the_queue_is_open_again() -> None:
    """A wait counts since candidates were last tried."""
    tried = structs.replace(OPEN, made_cheaper=True, waited=False)
    assert next_degradation((QUEUE, CHEAPER), tried) is STEP.WAIT
