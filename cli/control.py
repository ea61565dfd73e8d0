"""`pointsman drain`, `block`, `restore` and `failover`: what operators say of providers and models."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

import typer
from msgspec import to_builtins

from cli import options as opt
from cli.addresses import Endpoint, client, find
from cli.failure import CliError, reporting
from cli.loop import run
from cli.render import printable
from cli.terminal import console, write_json
from libs.change import Change
from libs.client import ControlClient, HealthClient, ProviderState

_Result = TypeVar("_Result")
#: The steps of a rehabilitation, percent.
_STEPS = {5: 0.05, 25: 0.25, 50: 0.5, 100: 1.0}

Share = Annotated[
    int | None,
    typer.Option(help="Percent of its usual traffic to begin with: 5, 25, 50, 100.", show_default=False),
]
ByHand = Annotated[bool, typer.Option("--by-hand", help="A person takes each step, not the evidence.")]
AtOnce = Annotated[bool, typer.Option("--at-once", help="All of its traffic now, blocked or not.")]
For = Annotated[str, typer.Option("--for", help="How long: 90s, 30m, 2h; at most 24h.")]
To = Annotated[
    str, typer.Option(help="Who comes first in its place: a provider, or provider/model.", show_default=False)
]
Tenants = Annotated[
    list[str] | None,
    typer.Option("--tenant", help="Only calls of this tenant; repeat for more.", show_default=False),
]
ContentTypes = Annotated[
    list[str] | None,
    typer.Option("--content-type", help="Only this content type; repeat for more.", show_default=False),
]


def drain(
    target: opt.Target,
    reason: opt.Reason,
    by: opt.By = "",
    yes: opt.Yes = False,
    timeout: opt.Timeout = 10.0,
    health: opt.Health = "",
    token: opt.Token = "",
    as_json: opt.Json = False,
) -> None:
    """Send no new calls to a provider or a model; running ones end in peace."""
    _stop(target, "drain", reason, by, yes, timeout, health, token, as_json)


def block(
    target: opt.Target,
    reason: opt.Reason,
    by: opt.By = "",
    yes: opt.Yes = False,
    timeout: opt.Timeout = 10.0,
    health: opt.Health = "",
    token: opt.Token = "",
    as_json: opt.Json = False,
) -> None:
    """Send neither calls nor probes to a provider or a model, until it is restored."""
    _stop(target, "blocked", reason, by, yes, timeout, health, token, as_json)


def restore(
    target: opt.Target,
    reason: opt.Reason,
    share: Share = None,
    by_hand: ByHand = False,
    at_once: AtOnce = False,
    by: opt.By = "",
    timeout: opt.Timeout = 10.0,
    health: opt.Health = "",
    token: opt.Token = "",
    as_json: opt.Json = False,
) -> None:
    """Let a provider or a model have calls again: what was blocked in steps of 5, 25, 50 and 100 %, each on the
    evidence of the one before; what was drained or failed over at once."""
    with reporting(as_json):
        provider, model = opt.split_target(target, "TARGET")
        if share is not None and share not in _STEPS:
            raise CliError(f"--share: {share} is none of {', '.join(map(str, _STEPS))}")
        if at_once and (share is not None or by_hand):
            raise CliError("--at-once does not go with --share and --by-hand")
        who, endpoint = opt.author(by), find("health", health, token)
    with reporting(as_json, str(endpoint)):
        states = run(_states(endpoint, provider, timeout))
        present = next((state for state in states if state.model == model), None)
        mode = present.mode if present is not None else ""
        if present is not None and mode == "rehabilitating" and share is None and not at_once:
            raise CliError(f"{target} is rehabilitated, at {present.ramp:.0%}: say --share or --at-once")
        in_steps = not at_once and (mode == "blocked" or share is not None)
        state, change = _call(
            endpoint,
            timeout,
            lambda c: c.set_mode(
                *(provider, model, "rehabilitating" if in_steps else "automatic", who, reason),
                share=_STEPS[share] if share is not None else None,
                by_hand=by_hand,
                version=present.mode_version if present is not None else None,
            ),
        )
    _show(state, change, as_json)


def failover(
    target: opt.Target,
    reason: opt.Reason,
    duration: For = "10m",
    to: To = "",
    tenant: Tenants = None,
    content_type: ContentTypes = None,
    by: opt.By = "",
    yes: opt.Yes = False,
    timeout: opt.Timeout = 10.0,
    health: opt.Health = "",
    token: opt.Token = "",
    as_json: opt.Json = False,
) -> None:
    """Make calls leave a provider or a model for a time: all, or those of some tenants and content types."""
    with reporting(as_json):
        provider, model = opt.split_target(target, "TARGET")
        seconds = opt.parse_duration(duration, "--for")
        other = opt.split_target(to, "--to") if to else None
        some = "those calls" if tenant or content_type else "all calls"
        opt.confirm(f"Make {some} leave {target} for {duration}?", yes=yes)
        who, endpoint = opt.author(by), find("health", health, token)
    with reporting(as_json, str(endpoint)):
        state, change = _call(
            endpoint,
            timeout,
            lambda c: c.fail_over(
                *(provider, model, who, reason),
                seconds=seconds,
                to=other,
                tenants=tenant or (),
                content_types=content_type or (),
            ),
        )
    _show(state, change, as_json)


def _stop(
    target: str,
    mode: str,
    reason: str,
    by: str,
    yes: bool,
    timeout: float,
    health: str,
    token: str,
    as_json: bool,
) -> None:
    with reporting(as_json):
        provider, model = opt.split_target(target, "TARGET")
        opt.confirm(f"Send no new calls to {target}?", yes=yes)
        who, endpoint = opt.author(by), find("health", health, token)
    with reporting(as_json, str(endpoint)):
        state, change = _call(endpoint, timeout, lambda c: c.set_mode(provider, model, mode, who, reason))
    _show(state, change, as_json)


def _show(state: ProviderState, change: Change, as_json: bool) -> None:
    if as_json:
        write_json({"provider": to_builtins(state), "change": to_builtins(change)})
        return
    name = f"{state.provider}/{state.model}" if state.model else state.provider
    out = console()
    out.print(printable(f"{name}: {state.reason}"))
    out.print(printable(f"To take it back: pointsman undo {change.change_id}"))


async def _states(endpoint: Endpoint, provider: str, timeout: float) -> tuple[ProviderState, ...]:
    async with client(HealthClient, endpoint, timeout) as connected:
        return await connected.list_providers(provider)


def _call(endpoint: Endpoint, timeout: float, ask: Callable[[ControlClient], Awaitable[_Result]]) -> _Result:
    return run(call_control(endpoint, timeout, ask))


async def call_control(
    endpoint: Endpoint, timeout: float, ask: Callable[[ControlClient], Awaitable[_Result]]
) -> _Result:
    """Asks the health monitor for a change."""
    async with client(ControlClient, endpoint, timeout) as connected:
        return await ask(connected)
