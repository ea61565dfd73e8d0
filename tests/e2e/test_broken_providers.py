"""Some of the shipped catalog's providers are broken and one serves: every call is answered. `bench.outages` tries
every subset; these are those that were hardest. The simulator's catalog is in tests/hostile."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.outages import FAULTS, ROOT, Scenario, policy_providers, run
from libs.catalog.load import load

POLICY = "default"
#: Calls with providers broken, 0.3 s apart; of callers in a hurry, so many.
CALLS, HURRIED = 12, 20


def hard(providers: tuple[str, ...]) -> Iterator[Scenario]:
    """Yields each fault of the whole first tier, of all but the last and of all but the first."""
    subsets = dict.fromkeys([providers[:3], providers[:-1], providers[1:]])
    cases = [(fault, broken) for fault in FAULTS for broken in subsets]
    return (Scenario(number, fault, broken) for number, (fault, broken) in enumerate(cases, 1))


@pytest.mark.parametrize("name", ["pointsman.yaml"])
async def test_whatever_is_broken_who_serves_is_reached(tmp_path: Path, name: str) -> None:
    """Named regression: with three providers answering 503 and the last resort alive, 11 of the first 25 calls
    failed; with 429 all did, and with silence. A silent provider is not called again after its first callers."""
    shipped = load(ROOT / "config" / name, environ={}, prices=False)
    chosen = list(hard(policy_providers(shipped, POLICY)))
    for seen in await run(tmp_path, shipped, POLICY, chosen, CALLS):
        late = [seconds for _, seconds, first in seen.failed_attempts() if not first]
        print(
            f"{seen.scenario}: slowest {seen.slowest:.2f} s, later {seen.slowest_later:.2f} s, {len(late)} late"
        )
        assert seen.errors == [], seen.scenario
        assert len(seen.calls) == CALLS
        if seen.scenario.fault == "silence":
            # One that began as the first was found out may still be among them.
            assert len(late) <= len(seen.scenario.broken), seen.scenario


async def test_regression_callers_in_a_hurry_find_out_who_is_silent(tmp_path: Path) -> None:
    """Named regression: with a deadline of a second or two every call waited for a silent provider, for as long as it
    was silent, and of four of them half of the calls died: a deadline that cuts a call is no fault of its provider,
    and nothing else was learned from it."""
    shipped = load(ROOT / "config" / "pointsman.yaml", environ={}, prices=False)
    silent = policy_providers(shipped, POLICY)[:2]
    (seen,) = await run(tmp_path, shipped, POLICY, [Scenario(1, "silence", silent)], HURRIED, deadline=3.0)
    assert seen.errors == []
    last = range(HURRIED - 8, HURRIED)
    assert not [number for number, _, _ in seen.failed_attempts() if number in last]
