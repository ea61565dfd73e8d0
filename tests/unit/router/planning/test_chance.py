"""The probability of a choice against how often it is made."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from msgspec import structs

from libs.selection import Scores
from services.router.health.target_health import Availability
from services.router.planning.candidate import Candidate
from services.router.planning.chance import MOST_UNSURE, choice_probability
from services.router.planning.order import find_avoided, order_candidates, put_last
from tests.support.routing import Harness, catalog, generation, model

DRAWS = 4000


def candidates_of(rng: Random, count: int) -> list[Candidate]:
    """Candidates in two tiers, some weighted, some recovering or degraded, one a last resort."""
    names = [f"p{i}/m" for i in range(count)]
    h = Harness(catalog([model(name) for name in names]), {})
    plan = h.planner.plan(h.catalog, h.catalog.tenants["acme"], generation(), stream=False)
    found = []
    for candidate in plan.candidates:
        tier = rng.randrange(2)
        availability, ramp = rng.choice(
            [(Availability.HEALTHY, 1.0), (Availability.PROBING, 0.3), (Availability.DEGRADED, 0.6)]
        )
        entry = structs.replace(
            candidate.entry,
            tier=tier,
            weighted=tier == 0,
            weight=rng.choice([0, 1, 2, 5]),
            last_resort=rng.random() < 0.2,
        )
        share = rng.choice([1.0, 1.0, 0.25])
        health = structs.replace(candidate.health, availability=availability, ramp=ramp, provider_share=share)
        found.append(
            structs.replace(candidate, entry=entry, health=health, scores=Scores(total=rng.random()))
        )
    return found


@pytest.mark.parametrize("seed", range(12))
def test_the_probability_is_how_often_the_choice_is_made(seed: int) -> None:
    """Whatever weights, tiers, ramps and avoided models there are, for every candidate that is ever first."""
    rng = Random(seed)
    candidates, asked = candidates_of(rng, rng.randrange(2, 6)), generation()
    avoided = {c.target for c in candidates if rng.random() < 0.2}
    counts: Counter[str] = Counter()
    first: dict[str, list[Candidate]] = {}
    for _ in range(DRAWS):
        ordered = put_last(order_candidates(candidates, asked, rng)[0], lambda m: m.id in avoided)
        counts[ordered[0].target] += 1
        first.setdefault(ordered[0].target, ordered)
    total = 0.0
    for target, count in counts.items():
        ordered = first[target]
        told = choice_probability(ordered, find_avoided(ordered, lambda m: m.id in avoided), asked)
        assert told is not None
        # Five standard deviations of the count.
        assert abs(told - count / DRAWS) < 5 * (told * (1 - told) / DRAWS) ** 0.5 + 1e-9
        total += told
    assert total == pytest.approx(1.0, abs=0.02)


def test_more_chance_than_can_be_summed_over_is_told_as_not_known() -> None:
    """No request takes exponential time."""
    rng = Random(1)
    found = candidates_of(rng, MOST_UNSURE + 3)
    recovering = [
        structs.replace(
            c,
            entry=structs.replace(c.entry, tier=0, weighted=True, weight=1, last_resort=False),
            health=structs.replace(c.health, availability=Availability.PROBING, ramp=0.5),
        )
        for c in found
    ]
    assert choice_probability(recovering, [False] * len(recovering), generation()) is None
