"""The contract of every usage spool, on the fake and on real files; then what files alone can show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import structlog

from libs.clock import SystemClock
from libs.request_record import decode_request, encode_request
from libs.telemetry import Metrics
from libs.types import Usage, UsageAccuracy
from services.router.ledger.file_spool import FileSpool, SpoolLocked
from services.router.ledger.usage_record import Outcome, UsageRecord
from tests.support.clock import ManualClock
from tests.support.requests import sent_request
from tests.support.routing import MemorySpool

Ended = Callable[[], list[UsageRecord]]


def record(attempt_id: str, outcome: Outcome = Outcome.SUCCESS, size: int = 0) -> UsageRecord:
    """A record; `size` pads it."""
    return UsageRecord(
        attempt_id=attempt_id,
        request_id="r",
        attempt_number=1,
        tenant="acme",
        campaign="",
        content_type="general",
        provider="a",
        model="m",
        started=1.5,
        latency=0.25,
        time_to_first_token=None,
        outcome=outcome,
        error_class=None,
        http_status=200,
        usage=Usage(3, 4, accuracy=UsageAccuracy.EXACT),
        cost_micro_usd=7,
        finish_reason=None,
        streamed=False,
        hedge=False,
        labels={"k": "v" * size},
        trace_id="",
    )


def open_spool(directory: Path, **more: int) -> FileSpool:
    return FileSpool(directory, Metrics(), SystemClock(), **more)


def attempts(spool: FileSpool) -> list[UsageRecord]:
    """The attempts that are read next."""
    return [record for record in spool.read()[0] if isinstance(record, UsageRecord)]


@pytest.fixture(params=["memory", "files"])
def spool(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[MemorySpool | FileSpool, Ended]:
    """A spool, and how to see what ended."""
    if request.param == "memory":
        memory = MemorySpool()
        return memory, lambda: memory.ended
    files = open_spool(tmp_path)
    seen: list[UsageRecord] = []

    def ended() -> list[UsageRecord]:
        seen.extend(attempts(files))
        return seen

    return files, ended


def test_what_ends_is_kept_in_order_as_it_was(spool: tuple[MemorySpool | FileSpool, Ended]) -> None:
    """Ended attempts come out once each, equal in every field and in the order in which they ended; begun ones do
    not."""
    kept, ended = spool
    for name in ("1", "2", "3"):
        kept.begin(record(name, Outcome.UNKNOWN))
    kept.end(record("2"))
    kept.end(record("1", Outcome.FAILURE))
    assert ended() == [record("2"), record("1", Outcome.FAILURE)]


def test_requests_come_out_as_they_were_beside_attempts(tmp_path: Path) -> None:
    """Also from the files of a process that died, with an attempt of it that never ended."""
    asked = sent_request()
    first = open_spool(tmp_path)
    first.begin(record("cut", Outcome.UNKNOWN))
    first.begin(record("done", Outcome.UNKNOWN))
    first.end(record("done"))
    first.add_request(asked)
    assert first.read()[0] == [record("done"), encode_request(asked)]
    assert decode_request(encode_request(asked)) == asked
    abandon(first)
    assert open_spool(tmp_path).read()[0] == [
        record("cut", Outcome.UNKNOWN),
        record("done"),
        encode_request(asked),
    ]


def test_an_attempt_cut_off_by_a_crash_is_sent_as_it_began(tmp_path: Path) -> None:
    """After a process death, what was acknowledged is gone, what was not comes again, and what never ended comes as
    unknown."""
    first = open_spool(tmp_path)
    first.begin(record("done", Outcome.UNKNOWN))
    first.end(record("done"))
    first.begin(record("cut", Outcome.UNKNOWN))
    abandon(first)
    second = open_spool(tmp_path)
    assert [(r.attempt_id, r.outcome) for r in attempts(second)] == [
        ("done", Outcome.SUCCESS),
        ("cut", Outcome.UNKNOWN),
    ]
    second.acknowledge(second.read()[1])
    second.close()
    third = open_spool(tmp_path)
    assert third.read()[0] == []


def test_a_torn_tail_loses_only_itself(tmp_path: Path) -> None:
    """Half a frame at the end, as a crash in the middle of a copy leaves it, is not read; the rest is whole."""
    first = open_spool(tmp_path)
    first.end(record("whole"))
    end = first.backlog_bytes
    abandon(first)
    (segment,) = tmp_path.glob("*.usage")
    data = bytearray(segment.read_bytes())
    data[end : end + 8] = b"\x50\x00\x00\x00half"
    segment.write_bytes(data)
    assert [r.attempt_id for r in attempts(open_spool(tmp_path))] == ["whole"]


def test_what_is_not_acknowledged_is_read_again(tmp_path: Path) -> None:
    """`rewind` goes back to the last acknowledgement, not to the beginning."""
    spool = open_spool(tmp_path)
    spool.end(record("1"))
    _, position = spool.read()
    spool.acknowledge(position)
    spool.end(record("2"))
    assert [r.attempt_id for r in attempts(spool)] == ["2"]
    spool.rewind()
    assert [r.attempt_id for r in attempts(spool)] == ["2"]


def test_acknowledged_segments_go_unless_an_attempt_that_began_there_still_runs(tmp_path: Path) -> None:
    """Disk space comes back, but never the begin record that a crash would need."""
    spool = open_spool(tmp_path, segment_bytes=2000)
    spool.begin(record("long", Outcome.UNKNOWN))
    for number in range(40):
        spool.end(record(str(number), size=50))
    segments = len(list(tmp_path.glob("*.usage")))
    assert segments > 3
    drain(spool)
    assert len(list(tmp_path.glob("*.usage"))) == segments
    spool.end(record("long"))
    drain(spool)
    assert len(list(tmp_path.glob("*.usage"))) <= 2


def test_a_full_spool_drops_and_counts(tmp_path: Path) -> None:
    """Beyond its bound the spool drops new records, says so in a metric, and keeps the old ones."""
    metrics = Metrics()
    spool = FileSpool(tmp_path, metrics, SystemClock(), max_bytes=3000)
    for number in range(50):
        spool.end(record(str(number)))
    kept = len(spool.read()[0])
    dropped = metrics.registry.get_sample_value("pointsman_spool_dropped_records_total")
    assert 0 < kept < 50
    assert dropped == 50 - kept


def test_what_is_lost_for_each_record_is_not_said_for_each(tmp_path: Path) -> None:
    """A line at once, then one in ten seconds with how many there were; it was a line for every record."""
    clock = ManualClock()
    spool = FileSpool(tmp_path, Metrics(), clock, max_bytes=3000)
    with structlog.testing.capture_logs() as said:
        for number in range(1000):
            spool.end(record(str(number)))
        clock.advance(10.0)
        spool.end(record("later"))
    lines = [line for line in said if line["event"] == "spool_full"]
    assert [line["records"] for line in lines] == [1, 1001 - len(spool.read()[0]) - 1]


def test_two_processes_cannot_share_a_directory(tmp_path: Path) -> None:
    """The second gets SpoolLocked, and can have the directory once the first is gone."""
    first = open_spool(tmp_path)
    with pytest.raises(SpoolLocked):
        open_spool(tmp_path)
    first.close()
    open_spool(tmp_path).close()


def drain(spool: FileSpool) -> None:
    """Acknowledges everything."""
    while True:
        records, position = spool.read()
        spool.acknowledge(position)
        if not records:
            return


def abandon(spool: FileSpool) -> None:
    """Lets go of the lock as a death does, without the tidy end of `close`."""
    import os

    assert spool._lock is not None
    os.close(spool._lock)
