"""`pointsman select`: the model that would be chosen, and the reason."""

from __future__ import annotations

from msgspec import to_builtins
from rich.text import Text

from cli import options as opt
from cli.addresses import Endpoint, client, find
from cli.attachments import read_files, read_images, with_parts
from cli.csv_table import write_table
from cli.failure import reporting
from cli.generate import Prompt, read_prompt
from cli.layout import Column, Kind, Table, Value
from cli.loop import run
from cli.render import choice, money_cell, seconds_cell, why
from cli.terminal import console, write_json, write_sentence
from libs.client import Client, Options, SelectResult
from libs.client import Prompt as Asked


def select(
    prompt: Prompt = "",
    image: opt.Images = None,
    file: opt.Files = None,
    content_type: opt.ContentType = "",
    system: opt.System = "",
    model: opt.Models = None,
    strategy: opt.StrategyOption = None,
    max_output_tokens: opt.MaxOutputTokens = None,
    campaign: opt.Campaign = "",
    max_cost: opt.MaxCost = "",
    priority: opt.PriorityOption = None,
    timeout: opt.Timeout = opt.TIMEOUT,
    router: opt.Router = "",
    key: opt.Key = "",
    as_csv: opt.Csv = False,
    as_json: opt.Json = False,
) -> None:
    """Say what generate would choose and why, without calling a provider."""
    with reporting(as_json):
        opt.check_format(as_csv=as_csv, as_json=as_json)
        endpoint = find("router", router, key)
        chosen = opt.gather(
            content_type=content_type,
            system=system,
            models=model,
            strategy=strategy,
            max_output_tokens=max_output_tokens,
            campaign=campaign,
            max_cost=max_cost,
            priority=priority,
        )
    with reporting(as_json, str(endpoint)):
        asked = with_parts(read_prompt(prompt), [*read_images(image or ()), *read_files(file or ())])
        result = run(_call(endpoint, asked, chosen, timeout))
        if as_json:
            write_json(to_builtins(result))
        elif as_csv:
            write_table(table(result), as_csv=True)
        else:
            out = console()
            write_sentence(out, Text.assemble(choice(result.selection), f": {why(result.selection)}"))
            confidence = f"confidence {result.selection.confidence:.0%}; cost and time are estimates"
            write_sentence(out, Text(confidence, "dim"))
            out.print(table(result))


async def _call(endpoint: Endpoint, prompt: Asked, options: Options, timeout: float) -> SelectResult:
    async with client(Client, endpoint, timeout) as connected:
        return await connected.select(prompt, **options)


def table(result: SelectResult) -> Table:
    """Returns the table of models: the choice, then the order of fallback, then those that may not be used."""
    grid = Table(
        Column(""),
        Column("provider / model", Kind.NAME),
        Column("cost", Kind.FIGURE),
        Column("time", Kind.FIGURE),
        Column("score", Kind.FIGURE),
        Column("why", Kind.SENTENCE),
    )
    excluded = 0
    for position, (selection, barred) in enumerate(
        [(result.selection, ""), *((c.selection, c.excluded_because) for c in result.alternatives)], 1
    ):
        excluded += bool(barred)
        grid.add_row(
            Value("—", None) if barred else Value(str(position - excluded), position - excluded),
            choice(selection),
            money_cell(selection.estimated_cost_micro_usd),
            seconds_cell(selection.estimated_latency),
            Value("—", None) if barred else Value(f"{selection.scores.total:.2f}", selection.scores.total),
            Text(barred, "yellow") if barred else Text(why(selection)),
            style="dim" if barred else "",
        )
    return grid
