"""Usage records on disk until analytics has acknowledged them.

A directory of segments `<number>.spool`, each a run of frames: length (4 bytes), CRC-32 (4 bytes), kind (1 byte: B
or E), then the record in MessagePack. Writes reach the kernel before the call that they account for goes on, so they
survive the death of this process (not of the machine). A segment is deleted once all its records are acknowledged
and none of its attempts is still running. After a crash, an attempt that began and did not end is sent as it began:
outcome unknown, usage uncertain.

Bounded: beyond `max_bytes` new records are dropped, counted and logged, because refusing work would turn a broken
dashboard into an outage.
"""

from __future__ import annotations

import fcntl
import os
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from libs.telemetry import Metrics, get_logger
from services.router.domain.events import UsageRecord

_HEAD = struct.Struct("<IIc")
_BEGIN, _END = b"B", b"E"
SEGMENT_BYTES = 8 * 1024 * 1024
MAX_BYTES = 512 * 1024 * 1024
#: One batch read for sending; far more bytes than its records have.
BATCH_RECORDS = 500
READ_BYTES = 1024 * 1024

log = get_logger(__name__)


class SpoolLocked(Exception):
    """Another process uses the directory."""


@dataclass(frozen=True, slots=True)
class Position:
    """Right behind a frame."""

    segment: int
    offset: int


class FileSpool:
    """Satisfies `ports.UsageSpool`; the sender reads with `read` and confirms with `acknowledge`. Raises OSError
    where the directory cannot be written, SpoolLocked where it is taken."""

    def __init__(
        self,
        directory: Path,
        metrics: Metrics,
        *,
        segment_bytes: int = SEGMENT_BYTES,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._segment_bytes = segment_bytes
        self._max_bytes = max_bytes
        self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._lock)
            raise SpoolLocked(f"another router uses the spool directory {directory}") from error
        self._encode = msgspec.msgpack.Encoder().encode
        self._decode = msgspec.msgpack.Decoder(UsageRecord).decode
        self._written = metrics.counter("spool_records", "Usage records written to the spool", ("kind",))
        self._dropped = metrics.counter(
            "spool_dropped_records", "Usage records lost because the spool was full"
        )
        self._bytes = metrics.gauge("spool_bytes", "Bytes of usage records not yet acknowledged")
        #: attempt id → segment in which it began, while it runs.
        self._running: dict[str, int] = {}
        self._sizes: dict[int, int] = {}
        recovered = self._recover()
        last = max(self._sizes, default=0)
        self._file = -1
        self._open(last + 1)
        self._read = Position(min(self._sizes), 0)
        self._acknowledged = self._read
        # Asked for by the scrape, so that a growing backlog shows while nothing is acknowledged.
        self._bytes.set_function(lambda: self.backlog_bytes)
        for record in recovered:
            self._append(_END, self._encode(record))
        if recovered:
            log.warning("spool_recovered_unfinished_attempts", count=len(recovered))

    @property
    def backlog_bytes(self) -> int:
        """Bytes not yet acknowledged."""
        return sum(self._sizes.values()) - self._acknowledged.offset

    def begin(self, record: UsageRecord) -> None:
        """Before a call."""
        self._running[record.attempt_id] = self._current
        self._append(_BEGIN, self._encode(record))

    def end(self, record: UsageRecord) -> None:
        """After it."""
        self._append(_END, self._encode(record))
        self._running.pop(record.attempt_id, None)

    def read(self) -> tuple[list[UsageRecord], Position]:
        """The next ended attempts, at most BATCH_RECORDS, and the position behind them to acknowledge."""
        records: list[UsageRecord] = []
        position = self._read
        while len(records) < BATCH_RECORDS:
            before = position
            for kind, payload, behind in self._frames(position, READ_BYTES):
                position = behind
                record = self._decoded(payload) if kind == _END else None
                if record is not None:
                    records.append(record)
                    if len(records) == BATCH_RECORDS:
                        break
            if position == before:
                following = [n for n in self._sizes if n > position.segment]
                if not following:
                    break
                position = Position(min(following), 0)
        self._read = position
        return records, position

    def rewind(self) -> None:
        """Reads again from the last acknowledgement: the stream that carried the rest broke."""
        self._read = self._acknowledged

    def acknowledge(self, position: Position) -> None:
        """Everything before `position` is in the ledger."""
        self._acknowledged = position
        held = min(self._running.values(), default=self._current)
        for number in sorted(self._sizes):
            if number >= min(position.segment, held):
                break
            self._path(number).unlink(missing_ok=True)
            del self._sizes[number]

    def close(self) -> None:
        """Closes the files. What is not acknowledged stays for the next process; a spool with nothing left is
        emptied."""
        if self._read == self._acknowledged and not self._running and not self.read()[0]:
            for number in list(self._sizes):
                self._path(number).unlink(missing_ok=True)
        os.close(self._file)
        os.close(self._lock)

    def _recover(self) -> list[UsageRecord]:
        """Cuts torn tails off, and returns attempts that began and never ended."""
        unfinished: dict[str, UsageRecord] = {}
        for path in sorted(self._directory.glob("*.spool")):
            number = int(path.stem)
            size = path.stat().st_size
            self._sizes[number] = size
            good = 0
            for kind, payload, behind in self._frames(Position(number, 0), size):
                good = behind.offset
                record = self._decoded(payload)
                if record is None:
                    continue
                if kind == _BEGIN:
                    unfinished[record.attempt_id] = record
                else:
                    unfinished.pop(record.attempt_id, None)
            if good < size:
                log.warning("spool_torn_tail", segment=number, bytes=size - good)
                os.truncate(path, good)
                self._sizes[number] = good
        return list(unfinished.values())

    def _decoded(self, payload: bytes) -> UsageRecord | None:
        try:
            return self._decode(payload)
        except msgspec.DecodeError as error:
            # Another version's record: the frame is whole, its content is not ours to read.
            self._dropped.inc()
            log.error("spool_unreadable_record", error=str(error))
            return None

    def _frames(self, position: Position, limit: int) -> Iterator[tuple[bytes, bytes, Position]]:
        """The whole frames of the next `limit` bytes of a segment."""
        size = self._sizes[position.segment]
        if position.offset >= size:
            return
        with self._path(position.segment).open("rb") as file:
            file.seek(position.offset)
            data = file.read(min(limit, size - position.offset))
        at = 0
        while at + _HEAD.size <= len(data):
            length, crc, kind = _HEAD.unpack_from(data, at)
            payload = data[at + _HEAD.size : at + _HEAD.size + length]
            if len(payload) < length or zlib.crc32(payload) != crc:
                return
            at += _HEAD.size + length
            yield kind, payload, Position(position.segment, position.offset + at)

    def _append(self, kind: bytes, payload: bytes) -> None:
        if self.backlog_bytes + len(payload) > self._max_bytes:
            self._dropped.inc()
            log.error("spool_full", bytes=self.backlog_bytes, max_bytes=self._max_bytes)
            return
        if self._sizes[self._current] >= self._segment_bytes:
            self._open(self._current + 1)
        frame = _HEAD.pack(len(payload), zlib.crc32(payload), kind) + payload
        os.write(self._file, frame)
        self._sizes[self._current] += len(frame)

    def _open(self, number: int) -> None:
        if self._file >= 0:
            os.close(self._file)
        self._current = number
        self._sizes[number] = 0
        self._file = os.open(self._path(number), os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)

    def _path(self, number: int) -> Path:
        return self._directory / f"{number:08d}.spool"
