"""A provider breaks and comes back under calls at three rates, on the real stack with two routers and one health
monitor. Times are a sixth of what they are by default, so that the outage lasts ten seconds; `python -m bench.flap`
measures the whole."""

from __future__ import annotations

import pytest

from tests.support.flap import Flap, Times, measure

OFTEN, NOW_AND_THEN, SELDOM = 0.05, 0.7, 6.0
TIMES = Times(outage=10.0, warm=3.0, after=8.0, seldom=4.0)
SCALED = {
    "POINTSMAN_BREAKER_OPEN_SECONDS": "2",
    "POINTSMAN_BREAKER_OPEN_CAP": "4",
    "POINTSMAN_BREAKER_RAMP_SECONDS": "4",
}


@pytest.fixture(scope="module")
async def flaps(tmp_path_factory: pytest.TempPathFactory) -> dict[float, Flap]:
    """All rates at once."""
    found = await measure(
        tmp_path_factory.mktemp("flap"), (OFTEN, NOW_AND_THEN, SELDOM), TIMES, environment=SCALED
    )
    for flap in found:
        print(flap.figures())
    return {flap.interval: flap for flap in found}


@pytest.mark.parametrize("interval", [OFTEN, NOW_AND_THEN, SELDOM])
async def test_nobody_notices_and_little_is_wasted(flaps: dict[float, Flap], interval: float) -> None:
    """The second router may try in vain too, until it has heard of the first."""
    figures = flaps[interval].figures()
    assert figures["unanswered"] == 0
    assert figures["wasted"] <= (8 if interval == OFTEN else 5)


async def test_at_light_traffic_the_second_call_is_answered_by_the_primary(flaps: dict[float, Flap]) -> None:
    """Named regression: the permit had expired by the time there was a call for it."""
    assert flaps[SELDOM].figures()["back_calls"] <= 2


async def test_under_traffic_the_primary_is_ramped(flaps: dict[float, Flap]) -> None:
    """Named regression: nothing for the time of the ramp, then everything at once."""
    first, second, *_, last = flaps[OFTEN].figures()["share"]
    assert 0 < first < second <= last == 1.0
