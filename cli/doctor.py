"""`pointsman doctor`: all services, their settings, stores and clocks, and all providers, as a checklist."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Annotated

import typer
from msgspec import to_builtins
from rich.text import Text

from cli import checklist
from cli import options as opt
from cli.addresses import Endpoint, client, find
from cli.examination import Ailment, Answered, Area, Check, examine
from cli.failure import FAILED, reporting
from cli.layout import Column, Kind, Table, Value
from cli.loop import run
from cli.render import printable, seconds_cell
from cli.terminal import console, write_json
from libs.client import DiagnosisClient, ProviderTestClient
from libs.clock import Clock, SystemClock
from libs.connectivity import EndpointTest, StepVerdict
from libs.errors import PointsmanError

#: Providers that are tested at once.
_AT_ONCE = 4
#: A service to which there is no connection within this, seconds, does not answer.
_CONNECT_SECONDS = 5.0

Health = Annotated[
    str, typer.Option(envvar="POINTSMAN_HEALTH", help="The health monitor, host:port.", show_default=False)
]
Ratelimit = Annotated[
    str, typer.Option(envvar="POINTSMAN_RATELIMIT", help="The rate limiter, host:port.", show_default=False)
]
Tests = Sequence[tuple[str, tuple[EndpointTest, ...]]]

_SENTENCES = {
    Ailment.NO_ANSWER: "does not answer",
    Ailment.NO_SERVICE_TOKEN: "no POINTSMAN_SERVICE_TOKEN: whoever reaches it may call it",
    Ailment.NO_TLS: "listens beyond its machine without TLS",
    Ailment.CATALOGS_DIFFER: "services use different catalogs",
    Ailment.STORE_UNREACHABLE: "does not answer",
    Ailment.SCHEMA_BEHIND: "the schema is older than the service",
    Ailment.CLOCK_APART: "the clock is apart from the others",
    Ailment.NOT_TESTED: "could not be tested",
}


def doctor(
    timeout: opt.Timeout = 60.0,
    router: opt.Router = "",
    health: Health = "",
    ratelimit: Ratelimit = "",
    analytics: opt.Analytics = "",
    token: opt.Token = "",
    as_json: opt.Json = False,
) -> None:
    """Examine the whole system: services, settings, stores, clocks, and every provider step by step. Costs nothing.
    Exit status 1 where something failed."""
    with reporting(as_json):
        monitor = find("health", health, token)
        # The local stack's token is for its own router only.
        routing = find("router", router, token if router else monitor.key)
        others = [find("ratelimit", ratelimit, token), find("analytics", analytics, token)]
        clock = SystemClock()
        checks, tests = run(_examine([routing, monitor, *others], monitor, timeout, clock))
    failed = any(check.verdict is StepVerdict.FAILED for check in checks) or any(
        tested.failed for _, endpoints in tests for tested in endpoints
    )
    if as_json:
        write_json({"failed": failed, "checks": to_builtins(checks), "providers": to_builtins(dict(tests))})
    else:
        out = console()
        out.print(table(checks))
        if tests:
            rows = [(name, tested) for name, endpoints in tests for tested in endpoints]
            out.print()
            out.print(checklist.table(rows, clock.now()))
    if failed:
        raise typer.Exit(FAILED)


async def _examine(
    services: Sequence[Endpoint], monitor: Endpoint, timeout: float, clock: Clock
) -> tuple[list[Check], Tests]:
    answers = await asyncio.gather(*(_ask(service, timeout, clock) for service in services))
    checks = examine(answers)
    tests: list[tuple[str, tuple[EndpointTest, ...]]] = []
    if any(answer.service == "health" and answer.diagnosis is not None for answer in answers):
        for found in await _test_all(monitor, timeout):
            if isinstance(found, Check):
                checks.append(found)
            else:
                tests.append(found)
    return checks, tests


async def _ask(endpoint: Endpoint, timeout: float, clock: Clock) -> Answered:
    async with client(DiagnosisClient, endpoint, timeout) as connected:
        # The connection is not a part of the answer's way.
        sent = clock.now()
        try:
            await connected.ready(min(timeout, _CONNECT_SECONDS))
            sent = clock.now()
            diagnosis = await connected.diagnose()
        except PointsmanError as error:
            return Answered(
                endpoint.service, endpoint.target, sent, clock.now(), None, error.reason, error.message
            )
        return Answered(endpoint.service, endpoint.target, sent, clock.now(), diagnosis)


async def _test_all(monitor: Endpoint, timeout: float) -> list[tuple[str, tuple[EndpointTest, ...]] | Check]:
    async with client(ProviderTestClient, monitor, timeout) as connected:
        slots = asyncio.Semaphore(_AT_ONCE)

        async def test(name: str) -> tuple[str, tuple[EndpointTest, ...]] | Check:
            async with slots:
                try:
                    return name, await connected.test_provider(name)
                except PointsmanError as error:
                    return _untested(name, error)

        try:
            names = await connected.provider_names()
        except PointsmanError as error:
            return [_untested("all", error)]
        return await asyncio.gather(*map(test, names))


def _untested(name: str, error: PointsmanError) -> Check:
    return Check(
        Area.PROVIDER,
        name,
        StepVerdict.FAILED,
        Ailment.NOT_TESTED,
        reason=error.reason,
        message=error.message,
    )


def table(checks: Sequence[Check]) -> Table:
    """Returns the checklist of the system."""
    grid = Table(
        Column("area", Kind.WHOLE),
        Column("name", Kind.NAME),
        Column("verdict"),
        Column("time", Kind.FIGURE),
        Column("found", Kind.SENTENCE),
    )
    area: Area | None = None
    for check in checks:
        shown = "" if check.area is area else check.area.value
        area = check.area
        grid.add_row(
            Value(shown, check.area.value),
            Text(printable(check.name)),
            checklist.verdict_cell(check.verdict),
            seconds_cell(check.duration),
            Text(printable(sentence(check))),
        )
    return grid


def sentence(check: Check) -> str:
    """Returns what a check found, for a person."""
    parts = [_SENTENCES[check.ailment]] if check.ailment is not None else []
    if check.message:
        parts.append(f"{check.reason}: {check.message}")
    if check.version:
        parts.append(check.version)
    if check.schema_wanted is not None and check.schema is not None:
        same = check.schema == check.schema_wanted
        parts.append(f"schema {check.schema}" + ("" if same else f", the service's is {check.schema_wanted}"))
    parts += [f"{service} {version}" for service, version in check.versions]
    if check.offset is not None:
        parts.append(f"{check.offset:+.3f} s, ± {check.uncertainty or 0:.3f} s")
    return ", ".join(parts)
