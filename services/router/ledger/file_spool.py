"""Usage records on disk until analytics has acknowledged them.

A directory of segments `<number>.usage`, each a run of frames (`spool_frames`) of one record in MessagePack: a begin
before a call and an end after it. Segments are mapped into memory: a record is in the kernel's hands as soon as it is
copied there, so it survives the death of this process (not of the machine), and no system call is made for it, which
on a virtual machine costs more than the rest of an attempt's account. A segment is deleted once all its records are
acknowledged and none of its attempts is still running. After a crash, an attempt that began and did not end is sent
as it began: outcome unknown, usage uncertain. Segments `<number>.spool` are of an earlier version, and only read.

Bounded: beyond `max_bytes`, or on a full disk, new records are dropped, counted and logged, because refusing work
would turn a broken dashboard into an outage. A disk that is full at the start keeps nobody from starting either: what
is there is read and sent, which makes room, and once there is room records are kept again.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from libs.clock import Clock
from libs.telemetry import Metrics, get_logger
from libs.throttle import Throttle
from services.router.ledger.file_frames import BEGIN, END, HEAD_BYTES, Frame, Losses
from services.router.ledger.file_segment import Segment
from services.router.ledger.usage_record import UsageRecord

SEGMENT_BYTES = 4 * 1024 * 1024
MAX_BYTES = 512 * 1024 * 1024
#: One batch read for sending.
BATCH_RECORDS = 500
#: Seconds between two tries to make a segment on a full disk.
RETRY = 1.0
#: What a disk says that has no room: the device, or this user's part of it.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

log = get_logger(__name__)


class SpoolLocked(OSError):
    """Another process uses the directory."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """Right behind a frame."""

    segment: int
    offset: int


class FileSpool:
    """Satisfies `UsageSpool`; the sender reads with `read` and confirms with `acknowledge`. Raises OSError
    where the directory cannot be written for another reason than a full disk, SpoolLocked where it is taken."""

    def __init__(
        self,
        directory: Path,
        metrics: Metrics,
        clock: Clock,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._segment_bytes = segment_bytes
        self._max_bytes = max_bytes
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(UsageRecord).decode
        self._dropped = metrics.counter(
            "spool_dropped_records", "Usage records lost because the spool was full or could not be written"
        )
        self._damaged = metrics.counter(
            "spool_damaged_records", "Usage records lost because a fault of the disk made them unreadable"
        )
        self._bytes = metrics.gauge("spool_bytes", "Bytes of usage records not yet acknowledged")
        self._writable_gauge = metrics.gauge(
            "spool_writable", "0 while the disk has no room for usage records"
        )
        self._writable = True
        self._full, self._no_room = Throttle(clock), Throttle(clock)
        #: attempt id → segment in which it began, while it runs.
        self._running: dict[str, int] = {}
        #: Attempts of an earlier life that never ended.
        self._cut: frozenset[str] = frozenset()
        self._segments: dict[int, Segment] = {}
        #: The one that is written; None while the disk is full.
        self._segment: Segment | None = None
        self._last = 0
        self._sequence = 0
        self._written_bytes = 0
        self._lock: int | None = None
        self._retry = 0.0
        self._read = self._acknowledged = Position(0, 0)
        try:
            self._take_over()
            self._open()
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            self._wait_for_room(error)
        # Asked for by the scrape, so that a growing backlog shows while nothing is acknowledged.
        self._bytes.set_function(lambda: self.backlog_bytes)

    @property
    def backlog_bytes(self) -> int:
        """Bytes not yet acknowledged."""
        return self._written_bytes - self._acknowledged.offset

    def begin(self, record: UsageRecord) -> None:
        """Before a call."""
        if self._append(BEGIN, self._encode(record)):
            self._running[record.attempt_id] = self._last

    def end(self, record: UsageRecord) -> None:
        """After it."""
        self._append(END, self._encode(record))
        self._running.pop(record.attempt_id, None)

    def read(self) -> tuple[list[UsageRecord], Position]:
        """The next attempts to send, at most BATCH_RECORDS, and the position behind them to acknowledge."""
        records: list[UsageRecord] = []
        for number in sorted(n for n in self._segments if n >= self._read.segment):
            offset = self._read.offset if number == self._read.segment else 0
            for record, behind in self._to_send(self._segments[number], offset):
                records.append(record)
                if len(records) == BATCH_RECORDS:
                    self._read = Position(number, behind)
                    return records, self._read
            self._read = Position(number, self._segments[number].size)
        return records, self._read

    def rewind(self) -> None:
        """Reads again from the last acknowledgement: the stream that carried the rest broke."""
        self._read = self._acknowledged

    def acknowledge(self, position: Position) -> None:
        """Everything before `position` is in the ledger."""
        self._acknowledged = max(position, self._acknowledged)
        held = min(self._running.values(), default=self._last + 1)
        for number in sorted(n for n in self._segments if n <= position.segment and n < held):
            segment = self._segments[number]
            if segment is self._segment or (number == position.segment and position.offset < segment.size):
                break
            del self._segments[number]
            self._written_bytes -= segment.size
            segment.delete()
            self._retry = 0.0  # There may be room now.
            if number == position.segment:
                self._acknowledged = Position(number + 1, 0)
        self._read = max(self._read, self._acknowledged)

    def close(self) -> None:
        """Closes the files. What is not acknowledged stays for the next process; a spool with nothing left is
        emptied."""
        if self._read == self._acknowledged and not self._running and not self.read()[0]:
            for segment in self._segments.values():
                segment.delete()
        if self._lock is not None:
            os.close(self._lock)

    def _to_send(self, segment: Segment, offset: int) -> Iterator[tuple[UsageRecord, int]]:
        """Ended attempts, and those that were cut off, with the offset behind each."""
        for frame in segment.frames(offset):
            if frame.kind == END or self._cut:
                record = self._decoded(segment, frame)
                if record is not None and (frame.kind == END or record.attempt_id in self._cut):
                    yield record, frame.end

    def _take_over(self) -> None:
        """Makes the directory this process's, and finds in it what another has left. Raises OSError."""
        self._directory.mkdir(parents=True, exist_ok=True)
        lock = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(lock)
            raise SpoolLocked(f"another router uses the spool directory {self._directory}") from error
        self._lock = lock
        self._recover()

    def _recover(self) -> None:
        """Finds the records that were left, and the attempts among them that began and never ended."""
        unfinished: dict[str, None] = {}
        losses, unreadable = Losses(), 0
        paths = [path for pattern in ("*.spool", "*.usage") for path in sorted(self._directory.glob(pattern))]
        for path in paths:
            if path.stat().st_size == 0:
                path.unlink()
                continue
            segment = Segment(path, 0)
            self._last = int(path.stem)
            self._segments[self._last] = segment
            for frame in segment.recover(losses):
                record = self._decoded(segment, frame)
                if record is None:
                    unreadable += 1
                elif frame.kind == BEGIN:
                    unfinished[record.attempt_id] = None
                else:
                    unfinished.pop(record.attempt_id, None)
            self._written_bytes += segment.size
            if segment.old or path == paths[-1]:
                losses.behind(segment.map, segment.size)
        self._sequence = losses.next
        self._cut = frozenset(unfinished)
        if losses.frames:
            self._damaged.inc(losses.frames)
            log.error("spool_damaged", records=losses.frames)
        if unreadable:
            # Another version's records: the frames are intact, their content is not ours to read.
            self._dropped.inc(unreadable)
            log.error("spool_unreadable_records", count=unreadable)
        if unfinished:
            log.warning("spool_recovered_unfinished_attempts", count=len(unfinished))

    def _decoded(self, segment: Segment, frame: Frame) -> UsageRecord | None:
        try:
            return self._decode(segment.map[frame.payload : frame.end])
        except msgspec.DecodeError:
            return None

    def _append(self, kind: bytes, payload: bytes) -> bool:
        """Keeps a frame; False: it is lost."""
        size = HEAD_BYTES + len(payload)
        if self.backlog_bytes + size > self._max_bytes:
            if times := self._full.due():
                log.error("spool_full", bytes=self.backlog_bytes, max_bytes=self._max_bytes, records=times)
        elif self._fits(kind, payload) or (self._open_next() and self._fits(kind, payload)):
            self._sequence += 1
            self._written_bytes += size
            return True
        self._dropped.inc()
        return False

    def _fits(self, kind: bytes, payload: bytes) -> bool:
        return self._segment is not None and self._segment.append(self._sequence, kind, payload)

    def _open_next(self) -> bool:
        """Makes another segment; False: the disk has no room for one."""
        if self._clock.monotonic() < self._retry:
            return False
        try:
            if self._lock is None:
                self._take_over()
            self._open()
        except OSError as error:
            self._wait_for_room(error)
            return False
        return True

    def _open(self) -> None:
        made = Segment(self._directory / f"{self._last + 1:08d}.usage", self._segment_bytes)
        self._last += 1
        self._segment = self._segments[self._last] = made
        if not self._writable:
            log.info("spool_writable_again")
        self._tell_writable(True)

    def _wait_for_room(self, error: OSError) -> None:
        """Does without a segment to write for a while."""
        self._segment = None
        self._retry = self._clock.monotonic() + RETRY
        self._tell_writable(False)
        if times := self._no_room.due():
            log.error("spool_not_writable", error=str(error), tries=times)

    def _tell_writable(self, writable: bool) -> None:
        self._writable = writable
        self._writable_gauge.set(writable)
