"""Options that several commands share."""

from __future__ import annotations

import getpass
import math
import re
import sys
from datetime import datetime, tzinfo
from decimal import Decimal, InvalidOperation
from typing import Annotated

import typer

from cli.failure import CliError
from libs.client import DEFAULT_TIMEOUT, Options, Strategy
from libs.types import Priority

Json = Annotated[bool, typer.Option("--json", help="Write JSON for programs; errors too, on stderr.")]
Csv = Annotated[
    bool, typer.Option("--csv", help="Write CSV: dollars, seconds, shares of 1; without the total.")
]
Router = Annotated[
    str, typer.Option(envvar="POINTSMAN_ROUTER", help="The router, host:port.", show_default=False)
]
Key = Annotated[
    str,
    typer.Option(
        envvar="POINTSMAN_KEY",
        help="The tenant's key; better in the environment, where other users cannot see it.",
        show_default=False,
    ),
]
Token = Annotated[
    str,
    typer.Option(
        "--token",
        envvar="POINTSMAN_SERVICE_TOKEN",
        help="The service token, where internal services ask for one.",
        show_default=False,
    ),
]
Analytics = Annotated[
    str, typer.Option(envvar="POINTSMAN_ANALYTICS", help="Analytics, host:port.", show_default=False)
]
Health = Annotated[
    str, typer.Option(envvar="POINTSMAN_HEALTH", help="The health monitor, host:port.", show_default=False)
]
By = Annotated[str, typer.Option(help="Who; your user name unless said.", show_default=False)]
Reason = Annotated[str, typer.Option(help="Why, for those who come later.", show_default=False)]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
Target = Annotated[str, typer.Argument(help="A provider, or provider/model.", show_default=False)]
Timeout = Annotated[float, typer.Option(min=0.001, help="Deadline of each call, seconds.")]
ContentType = Annotated[str, typer.Option(help="A content type of the catalog.", show_default=False)]
Models = Annotated[
    list[str] | None,
    typer.Option(
        "--model", help="A model that may answer; repeat in order of preference.", show_default=False
    ),
]
StrategyOption = Annotated[Strategy | None, typer.Option(help="What to optimise.", show_default=False)]
System = Annotated[str, typer.Option(help="Instructions put before the prompt.", show_default=False)]
Images = Annotated[
    list[str] | None,
    typer.Option(
        "--image",
        help="An image that goes with the prompt: a file or an address; repeat for more.",
        show_default=False,
    ),
]
Files = Annotated[
    list[str] | None,
    typer.Option(
        "--file",
        help="A PDF that goes with the prompt: a file or an address; repeat for more.",
        show_default=False,
    ),
]
MaxOutputTokens = Annotated[
    int | None, typer.Option(min=1, help="The most tokens to generate.", show_default=False)
]
Temperature = Annotated[
    float | None, typer.Option(min=0, max=2, help="Sampling temperature.", show_default=False)
]
Campaign = Annotated[str, typer.Option(help="The campaign whose budget pays.", show_default=False)]
MaxCost = Annotated[
    str, typer.Option(help="The most one answer may cost, in US dollars, e.g. 0.005.", show_default=False)
]
PriorityOption = Annotated[
    Priority | None,
    typer.Option(help="Order of importance; bulk for --input unless said.", show_default=False),
]

TIMEOUT = DEFAULT_TIMEOUT
_AGO = re.compile(r"(\d{1,6})([smhdw])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def gather(
    *,
    content_type: str = "",
    system: str = "",
    models: list[str] | None = None,
    strategy: Strategy | None = None,
    max_output_tokens: int | None = None,
    temperature: float | None = None,
    campaign: str = "",
    max_cost: str = "",
    priority: Priority | None = None,
) -> Options:
    """Returns the client's options: what was not given is left out. Raises CliError for an amount of money that is
    none."""
    options = Options()
    if content_type:
        options["content_type"] = content_type
    if system:
        options["system"] = system
    if models:
        options["models"] = models
    if strategy is not None:
        options["strategy"] = strategy
    if max_output_tokens is not None:
        options["max_output_tokens"] = max_output_tokens
    if temperature is not None:
        if math.isnan(temperature):
            raise CliError("--temperature: not a number")
        options["temperature"] = temperature
    if campaign:
        options["campaign"] = campaign
    if max_cost:
        options["max_cost_micro_usd"] = micro_usd(max_cost)
    if priority is not None:
        options["priority"] = priority
    return options


def micro_usd(text: str) -> int:
    """Returns US dollars as written in millionths, exactly. Raises CliError unless it is at least one millionth."""
    try:
        amount = Decimal(text.removeprefix("$")) * 1_000_000
    except InvalidOperation:
        raise CliError(f"--max-cost: {text!r} is not an amount in US dollars") from None
    if not amount.is_finite() or amount != amount.to_integral_value() or not 1 <= amount < 2**53:
        raise CliError("--max-cost: must be a positive amount in whole millionths of a US dollar")
    return int(amount)


def author(by: str) -> str:
    """Returns the name of the person. Raises CliError where it cannot be found out."""
    try:
        return by or getpass.getuser()
    except (KeyError, OSError, ImportError):
        raise CliError("--by: say who you are") from None


def parse_duration(text: str, option: str) -> float:
    """Returns the seconds of a text like 90s, 30m, 2h or 1d. Raises CliError."""
    found = _AGO.fullmatch(text.strip().lower())
    if found is None:
        raise CliError(f"{option}: {text!r} is not like 90s, 30m, 2h or 1d")
    return float(int(found[1]) * _SECONDS[found[2]])


def split_target(text: str, option: str) -> tuple[str, str]:
    """Returns provider and model (empty: all of them) of provider or provider/model. Raises CliError."""
    provider, slash, model = text.partition("/")
    if not provider or (slash and not model):
        raise CliError(f"{option}: {text!r} is neither a provider nor provider/model")
    return provider, model


def confirm(question: str, *, yes: bool) -> None:
    """Asks a person before traffic is stopped. Raises CliError where there is nobody to ask, or who says no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise CliError(f"{question} Say --yes: there is nobody to ask")
    if not typer.confirm(question, err=True):
        raise CliError("nothing was changed")


def check_format(*, as_csv: bool, as_json: bool) -> None:
    """Raises CliError where two formats were asked for."""
    if as_csv and as_json:
        raise CliError("--csv does not go with --json")


def parse_time(text: str, now: float, zone: tzinfo, option: str) -> float:
    """Returns the epoch seconds of "7d" (before now), of a date (its midnight in `zone`) or of a date and time.
    Raises CliError."""
    if ago := _AGO.fullmatch(text.strip().lower()):
        return now - int(ago[1]) * _SECONDS[ago[2]]
    try:
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).timestamp()
    except (ValueError, OverflowError):
        raise CliError(f"{option}: {text!r} is neither like 24h or 7d nor an ISO date") from None
