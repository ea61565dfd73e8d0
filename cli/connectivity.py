"""`pointsman test`: a provider's connection, certificate, key and models as a checklist, on request with a paid
generation of each model."""

from __future__ import annotations

from typing import Annotated

import typer
from msgspec import to_builtins

from cli import checklist, trials
from cli import options as opt
from cli.addresses import Endpoint, client, find
from cli.failure import FAILED, CliError, reporting
from cli.loop import run
from cli.terminal import console, write_json
from libs.client import Client, ProviderTestClient
from libs.clock import SystemClock
from libs.connectivity import EndpointTest, StepVerdict

Name = Annotated[str, typer.Argument(help="The provider, by its name in the catalog.")]
Health = Annotated[
    str, typer.Option(envvar="POINTSMAN_HEALTH", help="The health monitor, host:port.", show_default=False)
]
Generate = Annotated[
    bool,
    typer.Option(
        "--generate",
        help="Generate a few tokens with each model too, whole and streamed; the budget of --key pays.",
    ),
]


def connectivity(
    provider: Name,
    generate: Generate = False,
    campaign: opt.Campaign = "",
    max_cost: opt.MaxCost = "",
    timeout: opt.Timeout = 60.0,
    health: Health = "",
    router: opt.Router = "",
    key: opt.Key = "",
    token: opt.Token = "",
    as_json: opt.Json = False,
) -> None:
    """Test a provider step by step: name, connection, TLS, key, models. Costs nothing without --generate. Exit
    status 1 where a step failed."""
    with reporting(as_json):
        endpoint = find("health", health, token)
        routing = find("router", router, key) if generate else None
        if not generate and (campaign or max_cost):
            raise CliError("--campaign and --max-cost go with --generate")
        most = opt.micro_usd(max_cost) if max_cost else None
    with reporting(as_json, str(endpoint)):
        tests = run(_test(endpoint, provider, timeout))
    tried: tuple[trials.Trial, ...] = ()
    if routing is not None:
        with reporting(as_json, str(routing)):
            tried = run(_try(routing, provider, campaign, most, timeout))
    failed = any(tested.failed for tested in tests) or any(t.verdict is StepVerdict.FAILED for t in tried)
    if as_json:
        fields = {
            "provider": provider,
            "failed": failed,
            "endpoints": to_builtins(tests),
            "generations": to_builtins(tried) if generate else None,
            "cost_micro_usd": sum(trial.cost_micro_usd for trial in tried),
        }
        write_json(fields)
    else:
        out = console()
        out.print(checklist.table([(provider, tested) for tested in tests], SystemClock().now()))
        if generate:
            out.print()
            out.print(trials.table(tried))
    if failed:
        raise typer.Exit(FAILED)


async def _test(endpoint: Endpoint, provider: str, timeout: float) -> tuple[EndpointTest, ...]:
    async with client(ProviderTestClient, endpoint, timeout) as connected:
        return await connected.test_provider(provider)


async def _try(
    endpoint: Endpoint, provider: str, campaign: str, most: int | None, timeout: float
) -> tuple[trials.Trial, ...]:
    async with client(Client, endpoint, timeout) as connected:
        listing = await connected.list_models()
        models = [model for model in listing.models if model.provider == provider]
        if not models:
            raise CliError(f"this key may name no model of {provider!r}")
        return await trials.try_models(connected, models, campaign, most)
