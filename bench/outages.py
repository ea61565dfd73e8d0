"""Measures what callers notice when any of the shipped catalog's providers are broken and one of them serves.

python -m bench.outages [--catalog FILE] [--policy NAME] [--fault NAME ...] [--deadline S]
                        [--together N]

Starts the whole stack. For every subset of the policy's providers but all, and every fault, there is a copy of these
providers, their models and the policy, and a tenant of its own. It calls for a while with all well; then the subset
breaks, and it calls on at a steady rate, whole and streamed in turn, with a deadline. So many copies run beside each
other in one stack. Printed for each fault and number of broken providers: calls that failed, the slowest call with
all well (the noise of the machine) and with the subset broken, and `later`: the slowest without what a silent
provider cost its first callers, who called it before the first of them had waited for as long as it may cost.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvloop

from libs.catalog.catalog import Catalog
from libs.catalog.load import load
from libs.client import Result, TextAssembler
from libs.errors import PointsmanError
from tests.support.stack import RunningStack, running_stack

ROOT = Path(__file__).resolve().parents[1]
FAULTS: dict[str, dict[str, Any]] = {
    "503": {"kind": "status", "preset": "unavailable"},
    "429": {"kind": "status", "preset": "rate_limited"},
    "refused key": {"kind": "status", "preset": "authentication"},
    "reset": {"kind": "reset"},
    "silence": {"kind": "silence"},
}
#: Calls of each copy with all well, and with providers broken; seconds between them, and the deadline of each.
WARM, CALLS, EVERY, DEADLINE = 24, 40, 0.3, 30.0
#: The most seconds that a call may take where faults show at once, and that a silent provider may cost: so many, or
#: so many times the slowest of the calls with all well.
VISIBLE, SILENT, SLACK = 1.0, 2.0, 4.0
PROMPT = "Describe the Fjord pour-over kettle, brushed steel, 0.9 litres."
KEY_FILE = "key"


@dataclass(frozen=True, slots=True)
class Scenario:
    """A fault of some providers. `number` tells its copies from others."""

    number: int
    fault: str
    broken: tuple[str, ...]

    @property
    def key(self) -> str:
        """Returns the key of the tenant that calls."""
        return f"outage-key-{self.number}"


@dataclass
class Seen:
    """The calls of a scenario with providers broken: seconds and account of each that was answered, and errors; and
    the seconds of those before, `well`."""

    scenario: Scenario
    well: list[float] = field(default_factory=list)
    calls: list[tuple[float, Result]] = field(default_factory=list)
    errors: list[PointsmanError] = field(default_factory=list)

    @property
    def cost(self) -> float:
        """Returns the most seconds that a broken provider may cost a caller."""
        return max(SILENT, SLACK * max(self.well)) if self.scenario.fault == "silence" else 0.0

    def failed_attempts(self) -> Iterator[tuple[int, float, bool]]:
        """Yields the failed attempts: the number of the call, the seconds, and True if it is one of the first at its
        provider."""
        failed = [
            (number, attempt.provider, attempt.started or 0.0, attempt.latency)
            for number, (_, result) in enumerate(self.calls)
            for attempt in result.attempts
            if attempt.error_class is not None
        ]
        first: dict[str, float] = {}
        for _, provider, started, _ in failed:
            first[provider] = min(started, first.get(provider, started))
        for number, provider, started, seconds in failed:
            yield number, seconds, started <= first[provider] + self.cost

    @property
    def allowed(self) -> float:
        """Returns the most seconds that the slowest call may take."""
        return VISIBLE + len(self.scenario.broken) * self.cost

    @property
    def slowest(self) -> float:
        """Returns the seconds of the slowest call that was answered."""
        return max((seconds for seconds, _ in self.calls), default=0.0)

    @property
    def slowest_later(self) -> float:
        """Returns the same without what the first callers of a silent provider wait for it."""
        seconds = [seconds for seconds, _ in self.calls]
        if self.scenario.fault == "silence":
            for number, waited, first in self.failed_attempts():
                seconds[number] -= waited if first else 0.0
        return max(seconds, default=0.0)

    @property
    def ok(self) -> bool:
        """Returns True if every call was answered in time."""
        return not self.errors and self.slowest <= self.allowed and self.slowest_later <= VISIBLE


def policy_providers(catalog: Catalog, policy: str) -> tuple[str, ...]:
    """Returns the providers that a policy names, in its order."""
    found = catalog.policies[policy]
    models = [entry.model_id for tier in found.tiers for entry in tier] + list(found.last_resort)
    return tuple(dict.fromkeys(model_id.partition("/")[0] for model_id in models))


def scenarios(providers: Sequence[str], faults: Sequence[str]) -> Iterator[Scenario]:
    """Yields every fault of every subset of the providers, but for none and all."""
    numbers = itertools.count(1)
    for fault in faults:
        for many in range(1, len(providers)):
            for broken in itertools.combinations(providers, many):
                yield Scenario(next(numbers), fault, broken)


def catalog_of(shipped: Catalog, policy: str, chosen: Sequence[Scenario]) -> str:
    """Returns a catalog with a copy of the shipped one's policy for each scenario; JSON is YAML."""
    url = "${POINTSMAN_SIMULATOR_URL:-http://127.0.0.1:7790}"
    base = shipped.policies[policy]
    wanted = policy_providers(shipped, policy)
    providers: dict[str, Any] = {}
    models: dict[str, Any] = {}
    policies: dict[str, Any] = {}
    tenants: dict[str, Any] = {}
    for scenario in chosen:

        def copied(model_id: str, number: int = scenario.number) -> str:
            provider, _, name = model_id.partition("/")
            return f"{provider}-{number}/{name}"

        for name in wanted:
            kind = shipped.providers[name].kind
            suffix = "" if kind in ("anthropic", "gemini") else "/v1"
            providers[f"{name}-{scenario.number}"] = {
                "kind": kind,
                "base_url": f"{url}/{name}-{scenario.number}{suffix}",
                "api_key_file": KEY_FILE,
            }
        for model in shipped.models.values():
            if model.provider in wanted:
                models[copied(model.id)] = {
                    "context_window": model.context_window,
                    "max_output_tokens": model.max_output_tokens,
                    "capabilities": sorted(model.capabilities),
                    "quality": dict(model.quality),
                }
                if model.price is not None:
                    models[copied(model.id)]["price"] = {
                        "input": model.price.input / 1e6,
                        "output": model.price.output / 1e6,
                    }
        policies[f"p{scenario.number}"] = {
            "tiers": [
                [{"model": copied(e.model_id), "weight": e.weight} for e in tier] for tier in base.tiers
            ],
            "last_resort": [copied(model_id) for model_id in base.last_resort],
            "strategy": base.strategy or "balanced",
            "degradation": list(base.degradation),
        }
        if base.max_retry_after is not None:
            policies[f"p{scenario.number}"]["max_retry_after"] = base.max_retry_after
        if base.max_attempts is not None:
            policies[f"p{scenario.number}"]["max_attempts"] = base.max_attempts
        tenants[f"t{scenario.number}"] = {
            "key_sha256": [hashlib.sha256(scenario.key.encode()).hexdigest()],
            "policies": {"default": f"p{scenario.number}"},
        }
    policies["default"] = policies[f"p{chosen[0].number}"]
    return json.dumps(
        {
            "version": 1,
            "domain": "outages",
            "providers": providers,
            "models": models,
            "policies": policies,
            "content_types": {
                name: {"max_output_tokens": found.max_output_tokens}
                for name, found in shipped.content_types.items()
            },
            "tenants": tenants,
        }
    )


async def run_scenario(stack: RunningStack, scenario: Scenario, calls: int, deadline: float) -> Seen:
    """Returns the calls of a scenario, so many of them with providers broken; `deadline`: seconds that each may
    take."""
    seen = Seen(scenario)
    async with stack.client(scenario.key) as client:

        async def call(number: int, *, broken: bool) -> None:
            asked = time.monotonic()
            request_id = f"outage-{scenario.number}-{number}"
            try:
                if number % 2:
                    result = await client.generate(PROMPT, request_id=request_id, timeout=deadline)
                else:
                    assembler = TextAssembler()
                    async for event in client.stream(PROMPT, request_id=request_id, timeout=deadline):
                        assembler.feed(event)
                    assert assembler.result is not None
                    result = assembler.result
            except PointsmanError as error:
                seen.errors.append(error)
            else:
                seconds = time.monotonic() - asked
                if broken:
                    seen.calls.append((seconds, result))
                else:
                    seen.well.append(seconds)

        for number in range(WARM):
            await call(number, broken=False)
        for name in scenario.broken:
            fault = {**FAULTS[scenario.fault], "when": {"endpoint": "any"}}
            await stack.simulator.set(f"{name}-{scenario.number}", tokens=20, faults=[fault])
        async with asyncio.TaskGroup() as running:
            for number in range(calls):
                running.create_task(call(WARM + number, broken=True))
                await asyncio.sleep(EVERY)
    return seen


async def run(
    directory: Path,
    shipped: Catalog,
    policy: str,
    chosen: Sequence[Scenario],
    calls: int = CALLS,
    deadline: float = DEADLINE,
) -> list[Seen]:
    """Runs scenarios beside each other in a stack of their own."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / KEY_FILE).write_text("simulated")
    async with running_stack(directory, catalog_of(shipped, policy, chosen)) as stack:
        names = [
            f"{name}-{scenario.number}" for scenario in chosen for name in policy_providers(shipped, policy)
        ]
        for name in names:
            await stack.simulator.set(name, tokens=20)
        return await asyncio.gather(*[run_scenario(stack, scenario, calls, deadline) for scenario in chosen])


def table(found: Sequence[Seen]) -> str:
    """Returns the figures as text."""
    lines = [
        f"{'fault':>12} {'broken':>6} {'subsets':>7} {'failed':>7} {'well':>8} {'slowest':>8} {'later':>8}  ok"
    ]
    for (fault, many), group in itertools.groupby(
        found, key=lambda seen: (seen.scenario.fault, len(seen.scenario.broken))
    ):
        alike = list(group)
        failed = sum(len(seen.errors) for seen in alike)
        well = max(max(seen.well) for seen in alike)
        slowest = max(seen.slowest for seen in alike)
        later = max(seen.slowest_later for seen in alike)
        ok = all(seen.ok for seen in alike)
        lines.append(
            f"{fault:>12} {many:>6} {len(alike):>7} {failed:>7} {well:>7.2f}s {slowest:>7.2f}s {later:>7.2f}s  "
            + ("yes" if ok else "NO")
        )
    return "\n".join(lines)


async def main(options: argparse.Namespace) -> None:
    """Runs it."""
    shipped = load(options.catalog, environ={}, prices=False)
    chosen = list(scenarios(policy_providers(shipped, options.policy), options.fault or list(FAULTS)))
    found: list[Seen] = []
    with tempfile.TemporaryDirectory() as directory:
        for begin in range(0, len(chosen), options.together):
            batch = chosen[begin : begin + options.together]
            found += await run(
                Path(directory) / str(begin), shipped, options.policy, batch, deadline=options.deadline
            )
    for seen in found:
        if not seen.ok:
            print(seen.scenario, [str(error)[:150] for error in seen.errors[:2]], len(seen.errors))
    print(table(found))
    figures = {
        "calls": CALLS * len(found),
        "failed": sum(len(seen.errors) for seen in found),
        "ok": all(seen.ok for seen in found),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--catalog", type=Path, default=ROOT / "config" / "pointsman.yaml")
    parser.add_argument("--policy", default="default")
    parser.add_argument("--fault", action="append", choices=list(FAULTS), help="all unless named")
    parser.add_argument("--deadline", type=float, default=DEADLINE, help="of each call, seconds")
    parser.add_argument("--together", type=int, default=16, help="scenarios that run beside each other")
    uvloop.run(main(parser.parse_args()))
