"""`pointsman request`: all that the ledger holds of one request."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer
from msgspec import to_builtins
from rich.text import Text

from cli import options as opt
from cli.addresses import Endpoint, client, find
from cli.csv_table import write_table
from cli.failure import reporting
from cli.layout import Column, Facts, Kind, Table, Value
from cli.loop import run
from cli.render import count_cell, money, money_cell, seconds, seconds_cell, tokens, words
from cli.terminal import console, write_json
from libs.client import CostClient, RecordedAttempt, RecordedCandidate, RecordedRequest, RequestAccount

_FIGURES = (
    *("request", "tenant", "campaign", "content type", "number", "attempt", "provider", "model", "started"),
    *("outcome", "error", "http status", "hedge", "latency", "first token", "input", "output", "from cache"),
    *("to cache", "reasoning", "cost", "price"),
)
RequestId = Annotated[str, typer.Argument(help="The id that the caller gave, or that its answer told.")]
Attempt = Annotated[bool, typer.Option("--attempt", help="The id is that of an attempt.")]
Tenant = Annotated[str, typer.Option(help="Only this tenant's.", show_default=False)]


def request(
    request_id: RequestId,
    attempt: Attempt = False,
    tenant: Tenant = "",
    timeout: opt.Timeout = 10.0,
    analytics: opt.Analytics = "",
    token: opt.Token = "",
    as_csv: opt.Csv = False,
    as_json: opt.Json = False,
) -> None:
    """Show what was decided for a request, its attempts, waits and prices; as CSV its attempts."""
    with reporting(as_json):
        opt.check_format(as_csv=as_csv, as_json=as_json)
        endpoint = find("analytics", analytics, token)
    with reporting(as_json, str(endpoint)):
        found = run(_call(endpoint, request_id, attempt, tenant, timeout))
        if as_json:
            write_json({"requests": [to_builtins(account) for account in found]})
            return
        if as_csv:
            write_table(figures(found), as_csv=True)
            return
        for number, account in enumerate(found):
            if number:
                console().print()
            show(account)


async def _call(
    endpoint: Endpoint, request_id: str, of_attempt: bool, tenant: str, timeout: float
) -> tuple[RequestAccount, ...]:
    async with client(CostClient, endpoint, timeout) as connected:
        if of_attempt:
            return await connected.get_request(attempt_id=request_id)
        return await connected.get_request(request_id, tenant=tenant)


def show(account: RequestAccount) -> None:
    """Writes one account: the facts, the models considered, the attempts."""
    console().print(facts(account))
    if account.record is not None and account.record.candidates:
        console().print()
        console().print(candidates(account.record.candidates))
    if account.attempts:
        console().print()
        console().print(attempts(account.attempts))
        console().print()
        console().print(prices(account.attempts))


def facts(account: RequestAccount) -> Facts:
    """Returns who asked, what its caller saw and what was decided."""
    found = Facts()
    found.add("request", account.request_id)
    found.add("tenant", account.tenant)
    for name, value in (("campaign", account.campaign), ("content type", account.content_type)):
        if value:
            found.add(name, value)
    if account.labels:
        found.add("labels", ", ".join(f"{key}={value}" for key, value in sorted(account.labels.items())))
    record = account.record
    if record is None:
        found.add("decided", "not known: its router died, it still runs, or an earlier version served it")
        return found
    found.add("started", f"{datetime.fromtimestamp(record.started, UTC):%Y-%m-%d %H:%M:%S} UTC")
    found.add("outcome", _outcome(record))
    found.add("took", seconds(record.latency) + _waits(record))
    if record.time_to_first_token is not None:
        found.add("first token", seconds(record.time_to_first_token))
    found.add("cost", money(record.cost_micro_usd))
    found.add(
        "estimated", f"{record.estimated_input_tokens:,} tokens in, at most {record.max_output_tokens:,} out"
    )
    found.add("policy", f"{record.policy} of catalog {record.policy_version}, {words(record.strategy)}")
    if record.capabilities:
        found.add("needed", ", ".join(record.capabilities))
    if record.probability is not None:
        found.add("chance of the choice", f"{record.probability:.4g}")
    if record.trace_id:
        found.add("trace", record.trace_id)
    return found


def _outcome(record: RecordedRequest) -> Text:
    text = Text(record.outcome, "green" if record.outcome == "success" else "red")
    if record.error_reason:
        text.append(f" {record.error_reason}")
    if record.provider:
        text.append(f" by {record.provider}/{record.model}")
    extras = [
        name
        for name, true in (
            ("streamed", record.streamed),
            ("after a failover", record.failed_over),
            ("an answer given before", record.cached),
        )
        if true
    ]
    if record.degradation:
        extras.append(words(record.degradation))
    return text.append(f" ({', '.join(extras)})") if extras else text


def _waits(record: RecordedRequest) -> str:
    waits = [
        f"{seconds(value)} {name}"
        for name, value in (("in the queue", record.queued), ("waiting for providers", record.paused))
        if value
    ]
    return f", of it {' and '.join(waits)}" if waits else ""


def candidates(found: Sequence[RecordedCandidate]) -> Table:
    """Returns the table of models considered."""
    grid = Table(
        Column("model", Kind.NAME),
        Column("tier", Kind.FIGURE),
        Column("score", Kind.FIGURE),
        Column("cost", Kind.FIGURE),
        Column("speed", Kind.FIGURE),
        Column("works", Kind.FIGURE),
        Column("fits", Kind.FIGURE),
        Column("at most", Kind.FIGURE),
        Column("passed over", Kind.SENTENCE),
    )
    for model in found:
        scores = (
            model.total_score,
            model.cost_score,
            model.performance_score,
            model.reliability_score,
            model.suitability_score,
        )
        grid.add_row(
            Text(model.model, "cyan"),
            str(model.tier + 1),
            # What was passed over before it was scored has no scores.
            *(f"{score:.2f}" if any(scores) else "—" for score in scores),
            money(model.estimated_micro_usd),
            model.passed_over,
        )
    return grid


def attempts(found: Sequence[RecordedAttempt]) -> Table:
    """Returns the table of attempts."""
    grid = Table(
        Column("#", Kind.FIGURE),
        Column("model", Kind.NAME),
        Column("outcome", Kind.NAME),
        Column("took", Kind.FIGURE),
        Column("tokens", Kind.SENTENCE),
        Column("cost", Kind.FIGURE),
    )
    for attempt in found:
        outcome = attempt.outcome if attempt.error_class is None else str(attempt.error_class)
        status = f" {attempt.http_status}" if attempt.http_status else ""
        grid.add_row(
            str(attempt.number),
            Text(f"{attempt.provider}/{attempt.model}", "cyan"),
            Text(words(outcome) + status, "" if attempt.outcome == "success" else "red")
            + Text(" hedge" if attempt.hedge else "")
            + Text(f" by another {attempt.switched}" if attempt.switched else ""),
            seconds(attempt.latency),
            tokens(attempt.usage),
            money(attempt.cost_micro_usd),
        )
    return grid


def figures(found: Sequence[RequestAccount]) -> Table:
    """Returns the table of the requests' attempts for programs."""
    grid = Table(*map(Column, _FIGURES))
    for account in found:
        for attempt in account.attempts:
            usage = attempt.usage
            started = datetime.fromtimestamp(attempt.started, UTC).isoformat()
            grid.add_row(
                *(account.request_id, account.tenant, account.campaign, account.content_type),
                *(Value("", attempt.number), attempt.attempt_id, attempt.provider, attempt.model, started),
                *(attempt.outcome, attempt.error_class or "", Value("", attempt.http_status or None)),
                Value("", int(attempt.hedge)),
                *map(seconds_cell, (attempt.latency, attempt.time_to_first_token)),
                *map(count_cell, (usage.input_tokens, usage.output_tokens)),
                *map(count_cell, (usage.cache_read_tokens, usage.cache_write_tokens, usage.reasoning_tokens)),
                money_cell(attempt.cost_micro_usd),
                attempt.price_version,
            )
    return grid


def prices(found: Sequence[RecordedAttempt]) -> Table:
    """Returns the table of the attempts' ids and prices."""
    grid = Table(Column("#", Kind.FIGURE), Column("attempt", Kind.NAME), Column("price", Kind.SENTENCE))
    for attempt in found:
        unpriced = "not known" if attempt.cost_micro_usd else "nothing was used"
        grid.add_row(str(attempt.number), attempt.attempt_id, attempt.price_version or unpriced)
    return grid
