"""Savings and costs of failovers, by looking at one request after the other."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from services.analytics.ledger.attempt import Attempt, Outcome
from services.analytics.ledger.request import RequestRecord
from services.analytics.reports.query import Group
from services.analytics.reports.report import FailoverRow, Quantiles


def failover_row(
    group: Group, requests: Sequence[Sequence[Attempt]], records: Collection[RequestRecord]
) -> FailoverRow:
    """Returns the row of requests whose first attempt failed; each has its attempts in order."""
    saved, in_vain, failed_cost, dearer = 0, 0, 0, []
    added: list[float] = []
    for attempts in requests:
        failed = [a for a in attempts if a.outcome is Outcome.FAILURE]
        answer = next((a for a in attempts if a.outcome is Outcome.SUCCESS), None)
        targets = {_target(a) for a in failed}
        if answer is None and len(targets) > 1:
            in_vain += 1
            failed_cost += sum(a.cost_micro_usd for a in failed if a is not attempts[0])
        if answer is None or _target(answer) in targets:
            continue
        saved += 1
        failed_cost += sum(a.cost_micro_usd for a in failed)
        added.append(answer.started - attempts[0].started)
        estimates = _estimates(attempts[0], records)
        there, here = (estimates.get(_target(a), 0) for a in (attempts[0], answer))
        if there and here:
            dearer.append(answer.cost_micro_usd - answer.cost_micro_usd * there / here)
    ranked = sorted(added)
    shares = (
        (ranked[math.ceil(share * len(ranked)) - 1] for share in (0.5, 0.9, 0.95, 0.99)) if ranked else ()
    )
    return FailoverRow(
        group,
        len(requests),
        saved,
        in_vain,
        failed_cost,
        sum(added),
        Quantiles(*shares) if ranked else None,
        round(sum(dearer)),
        len(dearer),
    )


def _target(attempt: Attempt) -> str:
    return f"{attempt.provider}/{attempt.model}"


def _estimates(first: Attempt, records: Collection[RequestRecord]) -> dict[str, int]:
    """Returns the estimate for each model when the request was decided."""
    decided = [
        record
        for record in records
        if (record.request_id, record.tenant) == (first.request_id, first.tenant)
        and record.started <= first.started
    ]
    last = max(decided, key=lambda record: record.started, default=None)
    return {} if last is None else {one.model: one.estimated_micro_usd for one in last.candidates}
