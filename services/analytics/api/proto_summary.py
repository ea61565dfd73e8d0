"""The summary → proto."""

from __future__ import annotations

from typing import TypeVar

from pointsman.analytics.v1 import analytics_pb2 as pb

from libs.rpc.convert import timestamp_to_proto
from services.analytics.api.proto_reports import (
    GROUP_BY,
    basis_to_proto,
    cost_to_proto,
    performance_to_proto,
    reliability_to_proto,
)
from services.analytics.summary.summary import SummaryKey, SummaryRow, SummaryUpdate

_Message = TypeVar("_Message", pb.Cost, pb.Performance, pb.Reliability)


class SummaryMessages:
    """Keeps the last message: watchers who are told the same update share it."""

    def __init__(self) -> None:
        self._last: tuple[SummaryUpdate, pb.WatchSummaryResponse] | None = None

    def to_proto(self, update: SummaryUpdate) -> pb.WatchSummaryResponse:
        """Returns the update's message."""
        if self._last is None or self._last[0] is not update:
            self._last = (update, _message(update))
        return self._last[1]


def _message(update: SummaryUpdate) -> pb.WatchSummaryResponse:
    summary, periods = update.summary, update.summary.periods
    return pb.WatchSummaryResponse(
        snapshot=update.snapshot,
        as_of=timestamp_to_proto(summary.as_of),
        today_from=timestamp_to_proto(periods.today),
        month_from=timestamp_to_proto(periods.month),
        hour_from=timestamp_to_proto(periods.hour),
        time_zone=summary.time_zone,
        month=_without_group(cost_to_proto(summary.month)),
        standing_alerts=summary.standing_alerts,
        basis=basis_to_proto(summary.basis),
        rows=[_row(key, row) for key, row in update.rows.items()],
        gone=[_key(key) for key in update.gone],
    )


def _key(key: SummaryKey) -> pb.SummaryKey:
    return pb.SummaryKey(by=None if key.by is None else GROUP_BY[key.by], name=key.name)


def _row(key: SummaryKey, row: SummaryRow) -> pb.SummaryRow:
    speed, success = row.performance, row.reliability
    return pb.SummaryRow(
        key=_key(key),
        today=None if row.today is None else _without_group(cost_to_proto(row.today)),
        performance=None if speed is None else _without_group(performance_to_proto(speed)),
        reliability=None if success is None else _without_group(reliability_to_proto(success)),
    )


def _without_group(message: _Message) -> _Message:
    message.ClearField("group")
    return message
