"""The spool as files: usage records on disk until analytics has acknowledged them (see the room's head).

A directory of segments `<number>.usage`, each a run of frames (`file_frames`) of one record in MessagePack: a begin
before a call and an end after it (with the record of the request, where it answers one; that of a request that no
attempt answers is a frame by itself). Segments are mapped into memory: a record is in the kernel's hands as soon as
it is copied there, so it survives the death of this process (not of the machine), and no system call is made for it,
which on a virtual machine costs more than the rest of an attempt's account. A segment is deleted once all its records
are acknowledged and none of its attempts is still running. Segments `<number>.spool` are of an earlier version, and
only read. A disk that is full at the start keeps no router from starting: what is there is read and sent, which makes
room, and then records are kept again.
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
from libs.request_record import RequestRecord, encode_request
from libs.telemetry import Metrics, get_logger
from libs.throttle import Throttle
from services.router.ledger.file_frames import BEGIN, END, HEAD_BYTES, REQUEST, Losses
from services.router.ledger.file_segment import Segment
from services.router.ledger.usage_record import UsageRecord

SEGMENT_BYTES = 4 * 1024 * 1024
MAX_BYTES = 512 * 1024 * 1024
#: Records that `read` returns at most, and bytes of theirs after which it adds no other: a message that is larger
#: than its receiver takes (`libs.rpc.receive`) would be sent again for ever.
BATCH_RECORDS, BATCH_BYTES = 500, 1024 * 1024
#: Seconds between two tries to make a segment on a full disk.
RETRY = 1.0
#: Errors of a disk without room: on the device, or in this user's part of it.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)

log = get_logger(__name__)

#: An attempt, or the record of a request as it is sent.
Record = UsageRecord | bytes


class SpoolLocked(OSError):
    """Another process uses the directory."""


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in the spool, right behind a frame."""

    segment: int
    offset: int


class FileSpool:
    """Satisfies `UsageSpool`. The sender reads with `read` and confirms with `acknowledge`. Raises OSError
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
        #: Attempts of an earlier process that never ended.
        self._unfinished: frozenset[str] = frozenset()
        self._segments: dict[int, Segment] = {}
        #: The one that is written; None while the disk is full.
        self._segment: Segment | None = None
        self._last = 0
        self._sequence = 0
        self._written_bytes = 0
        self._lock: int | None = None
        self._retry = 0.0
        self._read = self._acknowledged = Position(0, 0)
        #: True if the last batch was as large as one may be: more may wait.
        self.more_waits = False
        #: Bytes written with which one more payload would make the backlog too large.
        self._fits = max_bytes - HEAD_BYTES
        try:
            self._lock_directory()
            self._open()
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            self._pause_writing(error)
        # Computed when it is scraped, so that a growing backlog shows while nothing is acknowledged.
        self._bytes.set_function(lambda: self.backlog_bytes)

    @property
    def backlog_bytes(self) -> int:
        """Bytes that are not acknowledged yet."""
        return self._written_bytes - self._acknowledged.offset

    def begin(self, record: UsageRecord) -> None:
        """See `UsageSpool.begin`."""
        if self._append(BEGIN, self._encode(record)):
            self._running[record.attempt_id] = self._last

    def end(self, record: UsageRecord) -> None:
        """See `UsageSpool.end`."""
        self._append(END, self._encode(record))
        self._running.pop(record.attempt_id, None)

    def add_request(self, record: RequestRecord) -> None:
        """See `UsageSpool.add_request`."""
        self._append(REQUEST, encode_request(record))

    def read(self) -> tuple[list[Record], Position]:
        """Returns the next records to send, as many as a batch may have, and the position behind them to
        acknowledge."""
        records: list[Record] = []
        size = 0
        self.more_waits = True
        for number in sorted(n for n in self._segments if n >= self._read.segment):
            offset = self._read.offset if number == self._read.segment else 0
            segment = self._segments[number]
            for kind, start, end in self._sendable(segment, offset):
                record = self._decoded(segment, kind, start, end)
                if record is None:
                    continue
                records.append(record)
                size += end - start
                if len(records) == BATCH_RECORDS or size >= BATCH_BYTES:
                    self._read = Position(number, end)
                    return records, self._read
            self._read = Position(number, segment.size)
        self.more_waits = False
        return records, self._read

    def rewind(self) -> None:
        """Lets `read` begin again at the last acknowledgement: the stream that carried the rest broke."""
        self._read = self._acknowledged

    def acknowledge(self, position: Position) -> None:
        """Deletes what stands before `position`: all of it is in the ledger."""
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
        self._fits = self._max_bytes + self._acknowledged.offset - HEAD_BYTES

    def close(self) -> None:
        """Closes the files. Records that are not acknowledged stay for the next process; a spool with nothing left is
        emptied."""
        if self._read == self._acknowledged and not self._running and not self.read()[0]:
            for segment in self._segments.values():
                segment.delete()
        if self._lock is not None:
            os.close(self._lock)

    def _sendable(self, segment: Segment, offset: int) -> Iterator[tuple[bytes, int, int]]:
        """Yields frames of attempts and requests that ended, and of attempts of an earlier process that never did:
        the kind, and where the payload begins and ends."""
        return self._with_unfinished(segment, offset) if self._unfinished else segment.ends(offset)

    def _with_unfinished(self, segment: Segment, offset: int) -> Iterator[tuple[bytes, int, int]]:
        for frame in segment.frames(offset):
            if frame.kind == BEGIN:
                record = self._decoded(segment, BEGIN, frame.payload, frame.end)
                if record is None or _attempt_id(record) not in self._unfinished:
                    continue
            yield frame.kind, frame.payload, frame.end

    def _lock_directory(self) -> None:
        """Locks the directory for this process, and recovers what another has left. Raises OSError."""
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
        """Finds the records that an earlier process left, and the attempts among them that never ended."""
        unfinished: dict[str, None] = {}
        losses, unreadable = Losses(), 0
        paths = [path for pattern in ("*.spool", "*.usage") for path in sorted(self._directory.glob(pattern))]
        for stray in [path for path in paths if not path.stem.isdecimal()]:
            log.warning("spool_file_not_read", file=stray.name)
            paths.remove(stray)
        for path in paths:
            if path.stat().st_size == 0:
                path.unlink()
                continue
            segment = Segment(path, 0)
            self._last = int(path.stem)
            self._segments[self._last] = segment
            for frame in segment.recover(losses):
                record = self._decoded(segment, frame.kind, frame.payload, frame.end)
                if record is None:
                    unreadable += 1
                elif frame.kind == BEGIN:
                    unfinished[_attempt_id(record)] = None
                elif frame.kind == END:
                    unfinished.pop(_attempt_id(record), None)
            self._written_bytes += segment.size
            if segment.of_earlier_version or path == paths[-1]:
                losses.add_tail(segment.map, segment.size)
        self._sequence = losses.next
        self._unfinished = frozenset(unfinished)
        if losses.frames:
            self._damaged.inc(losses.frames)
            log.error("spool_damaged", records=losses.frames)
        if unreadable:
            # Records of another version: the frames are intact, their content is unknown here.
            self._dropped.inc(unreadable)
            log.error("spool_unreadable_records", count=unreadable)
        if unfinished:
            log.warning("spool_recovered_unfinished_attempts", count=len(unfinished))

    def _decoded(self, segment: Segment, kind: bytes, start: int, end: int) -> Record | None:
        payload = segment.map[start:end]
        if kind == REQUEST:
            return payload
        try:
            return self._decode(payload)
        except msgspec.DecodeError:
            return None

    def _append(self, kind: bytes, payload: bytes) -> bool:
        """Writes a frame. Returns False if it is dropped."""
        segment = self._segment
        if (
            segment is None
            or self._written_bytes + len(payload) > self._fits
            or not segment.append(self._sequence, kind, payload)
        ):
            return self._append_elsewhere(kind, payload)
        self._sequence += 1
        self._written_bytes += HEAD_BYTES + len(payload)
        return True

    def _append_elsewhere(self, kind: bytes, payload: bytes) -> bool:
        """Writes a frame for which the present segment has no room. Returns False if it is dropped."""
        if self._written_bytes + len(payload) > self._fits:
            if times := self._full.due():
                log.error("spool_full", bytes=self.backlog_bytes, max_bytes=self._max_bytes, records=times)
        elif (
            self._open_next()
            and self._segment is not None
            and self._segment.append(self._sequence, kind, payload)
        ):
            self._sequence += 1
            self._written_bytes += HEAD_BYTES + len(payload)
            return True
        self._dropped.inc()
        return False

    def _open_next(self) -> bool:
        """Opens another segment to write. Returns False if the disk has no room for one."""
        if self._clock.monotonic() < self._retry:
            return False
        try:
            if self._lock is None:
                self._lock_directory()
            self._open()
        except OSError as error:
            self._pause_writing(error)
            return False
        return True

    def _open(self) -> None:
        segment = Segment(self._directory / f"{self._last + 1:08d}.usage", self._segment_bytes)
        self._last += 1
        self._segment = self._segments[self._last] = segment
        if not self._writable:
            log.info("spool_writable_again")
        self._set_writable(True)

    def _pause_writing(self, error: OSError) -> None:
        """Writes nothing until RETRY is over: the disk has no room."""
        self._segment = None
        self._retry = self._clock.monotonic() + RETRY
        self._set_writable(False)
        if times := self._no_room.due():
            log.error("spool_not_writable", error=str(error), tries=times)

    def _set_writable(self, writable: bool) -> None:
        self._writable = writable
        self._writable_gauge.set(writable)


def _attempt_id(record: Record) -> str:
    assert isinstance(record, UsageRecord), "frames of kind BEGIN and END hold attempts"
    return record.attempt_id
