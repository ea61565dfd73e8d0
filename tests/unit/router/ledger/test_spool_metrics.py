"""The spool as an operator sees it."""

from __future__ import annotations

from pathlib import Path

from libs.clock import SystemClock
from libs.telemetry import Metrics
from services.router.ledger.file_spool import FileSpool
from services.router.ledger.usage_record import Outcome, UsageRecord


def record(attempt_id: str) -> UsageRecord:
    """A record of an attempt."""
    return UsageRecord(
        attempt_id=attempt_id,
        request_id="r",
        attempt_number=1,
        tenant="acme",
        campaign="",
        content_type="general",
        provider="p",
        model="m",
        started=1_790_000_000.0,
        latency=0.1,
        time_to_first_token=None,
        outcome=Outcome.SUCCESS,
        error_class=None,
        http_status=0,
        usage=None,
        cost_micro_usd=1,
        finish_reason=None,
        streamed=False,
        hedge=False,
        labels={},
        trace_id="",
    )


def test_the_backlog_shows_while_nothing_is_acknowledged(tmp_path: Path) -> None:
    """While analytics is gone `spool_bytes` grows with every record; it used to stay where the last
    acknowledgement had left it. After a restart it counts what the last process left."""
    metrics = Metrics()
    spool = FileSpool(tmp_path, metrics, SystemClock())
    assert metrics.registry.get_sample_value("pointsman_spool_bytes") == 0
    spool.begin(record("a"))
    spool.end(record("a"))
    waiting = metrics.registry.get_sample_value("pointsman_spool_bytes")
    assert waiting == spool.backlog_bytes > 0
    spool.close()

    metrics = Metrics()
    spool = FileSpool(tmp_path, metrics, SystemClock())
    assert metrics.registry.get_sample_value("pointsman_spool_bytes") == waiting
    _, position = spool.read()
    spool.acknowledge(position)
    assert metrics.registry.get_sample_value("pointsman_spool_bytes") == 0
    spool.close()
