"""Paid trials of models: a few tokens from each, whole and streamed, through the router like any other call, so that
keys, wires, limits and the ledger are those of real calls, and the tenant's budget pays."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from rich.text import Text

from cli.checklist import verdict_cell
from cli.layout import Column, Kind, Table, Value
from cli.render import money_cell, printable, seconds_cell, tokens
from libs.client import Client, Completed, ListedModel, Options, Result
from libs.connectivity import StepVerdict
from libs.errors import PointsmanError
from libs.types import Usage

PROMPT = "Answer with the one word: ready"
#: The least that every vendor takes; OpenAI's Responses refuse less ("max_output_tokens").
MAX_TOKENS = 16
#: Kept with the usage record, so that trials can be told from real calls.
LABELS = {"purpose": "provider_test"}


@dataclass(frozen=True, slots=True)
class Trial:
    """One generation. `reason` and `message`: of the error, empty where it passed. The cost in micro-USD is that of
    all that was consumed; 0 with an error, whose cost the ledger alone knows."""

    model: str
    streamed: bool
    verdict: StepVerdict
    request_id: str = ""
    duration: float = 0.0
    time_to_first_token: float | None = None
    usage: Usage = field(default_factory=Usage)
    cost_micro_usd: int = 0
    reason: str = ""
    message: str = ""


async def try_models(
    client: Client, models: Sequence[ListedModel], campaign: str, max_cost_micro_usd: int | None
) -> tuple[Trial, ...]:
    """Tries each model, one after the other: a trial must not use up a limit that callers need."""
    trials: list[Trial] = []
    for model in models:
        options = Options(models=[model.id], max_output_tokens=MAX_TOKENS, max_attempts=1, labels=LABELS)
        if campaign:
            options["campaign"] = campaign
        if max_cost_micro_usd is not None:
            options["max_cost_micro_usd"] = max_cost_micro_usd
        trials.append(await _try(client, model.id, options, streamed=False))
        if "streaming" in model.capabilities:
            trials.append(await _try(client, model.id, options, streamed=True))
    return tuple(trials)


async def _try(client: Client, model: str, options: Options, *, streamed: bool) -> Trial:
    try:
        result = await (_streamed(client, options) if streamed else client.generate(PROMPT, **options))
    except PointsmanError as error:
        return Trial(model, streamed, StepVerdict.FAILED, reason=error.reason, message=error.message)
    return judge(model, streamed, result)


async def _streamed(client: Client, options: Options) -> Result:
    completed: Result | None = None
    async with aclosing(client.stream(PROMPT, **options)) as events:
        async for event in events:
            if isinstance(event, Completed):
                completed = event.result
    assert completed is not None  # the client raises where there is none
    return completed


def judge(model: str, streamed: bool, result: Result) -> Trial:
    """Returns the trial of an answer. One that was kept from before proves nothing."""
    fresh = not result.cached and result.selection.target == model
    return Trial(
        model,
        streamed,
        StepVerdict.PASSED if fresh else StepVerdict.FAILED,
        result.request_id,
        result.latency,
        result.time_to_first_token,
        result.usage,
        result.cost_micro_usd,
        "" if fresh else "NOT_FRESH",
        "" if fresh else "an old answer was given instead",
    )


def table(trials: Sequence[Trial]) -> Table:
    """Returns the checklist of trials, with the sum of their costs."""
    grid = Table(
        Column("generation", Kind.NAME),
        Column("verdict"),
        Column("time", Kind.FIGURE),
        Column("cost", Kind.FIGURE),
        Column("found", Kind.SENTENCE),
    )
    for trial in trials:
        way = "streamed" if trial.streamed else "whole"
        failed = trial.verdict is StepVerdict.FAILED
        grid.add_row(
            Value(f"{trial.model} {way}", f"{trial.model} {way}"),
            verdict_cell(trial.verdict),
            seconds_cell(None if failed else trial.duration),
            money_cell(None if failed else trial.cost_micro_usd),
            Text(printable(f"{trial.reason}: {trial.message}" if failed else tokens(trial.usage))),
        )
    grid.set_footer("total", "", "", money_cell(sum(trial.cost_micro_usd for trial in trials)), "")
    return grid
