"""The seeded simulations of tests/unit with more seeds than every change should wait for."""

from __future__ import annotations

import pytest

from bench.learned_limits import LIMITS
from libs.types import ErrorClass
from tests.unit.ratelimit.learning import test_learned_fleet as fleet
from tests.unit.router.admission import test_queue_simulation as queue
from tests.unit.router.health import test_return as outages

SEEDS = [2, 3]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", queue.KINDS)
def test_three_times_overload(kind: str, seed: int) -> None:
    """Interactive requests are left alone and nobody starves."""
    queue.test_three_times_overload_leaves_interactive_alone_and_starves_nobody(kind, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_floods(seed: int) -> None:
    """A flood costs its own tenant alone; a tenant below its share hardly notices others; background moves."""
    queue.test_a_flood_costs_its_own_tenant_alone(seed)
    queue.test_a_tenant_below_its_share_hardly_notices_the_others(seed)
    queue.test_even_a_flood_of_interactive_requests_lets_background_move(seed)


@pytest.mark.parametrize("routers", [1, 3, 6])
def test_a_fleet_follows_a_provider_that_changes_its_limit(routers: int) -> None:
    """Little is refused, and most of the limit is used."""
    fleet.test_a_fleet_follows_a_provider_that_changes_its_limit(routers, 2)


@pytest.mark.parametrize("routers", [1, 3])
@pytest.mark.parametrize("name", fleet.NO_LIMITS)
def test_an_outage_is_not_taken_for_a_limit(name: str, routers: int) -> None:
    """Nothing is enforced at a provider that has no limit."""
    fleet.test_an_outage_is_not_taken_for_a_limit(name, 2, routers)


@pytest.mark.parametrize("routers", [1, 3])
@pytest.mark.parametrize("name", fleet.LIKE_LIMITS)
def test_an_outage_that_looks_like_a_limit_is_found_out(name: str, routers: int) -> None:
    """The rate is enforced for a while, and costs few calls."""
    fleet.test_an_outage_that_looks_like_a_limit_is_found_out(name, 4, routers)


@pytest.mark.parametrize("routers", [1, 3])
@pytest.mark.parametrize("name", LIMITS)
def test_a_true_limit_is_learned_and_kept(name: str, routers: int) -> None:
    """Within four minutes, and well used from then on."""
    fleet.test_a_true_limit_is_learned_and_kept(name, 2, routers)


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("phase", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("error", [ErrorClass.OVERLOADED, ErrorClass.TRANSPORT, ErrorClass.SERVER_ERROR])
@pytest.mark.parametrize("interval", [0.7, 4.0])
def test_a_flap_of_a_minute(interval: float, error: ErrorClass, phase: float, seed: int) -> None:
    """Five attempts are wasted at most, and it is over in 16 s."""
    outages.test_a_flap_of_a_minute_wastes_five_attempts_and_is_over_in_16_s(interval, error, phase, seed)


@pytest.mark.parametrize("seed", range(1, 5))
def test_a_tenant_that_is_gone_holds_nobody_up_for_long(seed: int) -> None:
    """It has the first turn at each probe, and does not take it."""
    outages.test_a_tenant_that_is_gone_holds_nobody_up_for_long(seed)


@pytest.mark.parametrize("seed", range(1, 3))
def test_a_tenant_wastes_no_probe_of_each_router(seed: int) -> None:
    """Its own requests fail, and eight routers know it."""
    outages.test_regression_a_tenant_wastes_no_probe_of_each_router(seed)
