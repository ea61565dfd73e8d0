"""Usage records on disk until analytics has acknowledged them.

A directory of segments `<number>.spool`, each a run of frames: length (4 bytes), CRC-32 (4 bytes), kind (1 byte: B
or E), then the record in MessagePack; a length of 0 ends the run. Segments are mapped into memory: a record is in
the kernel's hands as soon as it is copied there, so it survives the death of this process (not of the machine), and
no system call is made for it, which on a virtual machine costs more than the rest of an attempt's account. A segment
is deleted once all its records are acknowledged and none of its attempts is still running. After a crash, an attempt
that began and did not end is sent as it began: outcome unknown, usage uncertain.

Bounded: beyond `max_bytes`, or on a full disk, new records are dropped, counted and logged, because refusing work
would turn a broken dashboard into an outage.
"""

from __future__ import annotations

import fcntl
import mmap
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
SEGMENT_BYTES = 4 * 1024 * 1024
MAX_BYTES = 512 * 1024 * 1024
#: One batch read for sending.
BATCH_RECORDS = 500

log = get_logger(__name__)


class SpoolLocked(Exception):
    """Another process uses the directory."""


@dataclass(frozen=True, slots=True)
class Position:
    """Right behind a frame."""

    segment: int
    offset: int


class _Segment:
    """One file, mapped. `size`: bytes of whole frames; `capacity`: of the file."""

    def __init__(self, path: Path, capacity: int) -> None:
        """Opens a file, or makes one with all its blocks, so that a full disk is an error now and not a SIGBUS
        later. Raises OSError."""
        self.path = path
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(file).st_size == 0:
                os.posix_fallocate(file, 0, capacity)
            self.map = mmap.mmap(file, 0)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        finally:
            os.close(file)
        self.capacity = len(self.map)
        self.size = 0

    def append(self, kind: bytes, payload: bytes) -> bool:
        """Adds a frame; False: it does not fit. The head goes last, so half a frame is never read."""
        length = len(payload)
        start = self.size + _HEAD.size
        end = start + length
        if end + _HEAD.size > self.capacity:
            return False
        self.map[start:end] = payload
        _HEAD.pack_into(self.map, self.size, length, zlib.crc32(payload), kind)
        self.size = end
        return True

    def recover(self) -> Iterator[tuple[bytes, bytes]]:
        """Kind and payload of each frame that a process before this one has left whole, which `size` then spans."""
        while self.size + _HEAD.size <= self.capacity:
            length, crc, kind = _HEAD.unpack_from(self.map, self.size)
            start = self.size + _HEAD.size
            payload = self.map[start : start + length]
            if length == 0 or len(payload) < length or zlib.crc32(payload) != crc:
                return
            self.size = start + length
            yield kind, payload

    def ends(self, offset: int) -> Iterator[tuple[bytes, int]]:
        """Payloads of ended attempts from `offset` on, and the offset behind each."""
        while offset < self.size:
            length, _, kind = _HEAD.unpack_from(self.map, offset)
            start = offset + _HEAD.size
            offset = start + length
            if kind == _END:
                yield self.map[start:offset], offset

    def delete(self) -> None:
        """Gives the space back."""
        self.map.close()
        self.path.unlink(missing_ok=True)


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
        self._dropped = metrics.counter(
            "spool_dropped_records", "Usage records lost because the spool was full"
        )
        self._bytes = metrics.gauge("spool_bytes", "Bytes of usage records not yet acknowledged")
        #: attempt id → segment in which it began, while it runs.
        self._running: dict[str, int] = {}
        self._segments: dict[int, _Segment] = {}
        self._written_bytes = 0
        recovered = self._recover()
        self._open(max(self._segments, default=0) + 1)
        self._read = Position(min(self._segments), 0)
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
        return self._written_bytes - self._acknowledged.offset

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
        segment, offset = self._read.segment, self._read.offset
        while len(records) < BATCH_RECORDS:
            for payload, behind in self._segments[segment].ends(offset):
                offset = behind
                record = self._decoded(payload)
                if record is not None:
                    records.append(record)
                    if len(records) == BATCH_RECORDS:
                        break
            else:
                if segment == self._current:
                    offset = self._segments[segment].size
                    break
                segment, offset = min(n for n in self._segments if n > segment), 0
        self._read = Position(segment, offset)
        return records, self._read

    def rewind(self) -> None:
        """Reads again from the last acknowledgement: the stream that carried the rest broke."""
        self._read = self._acknowledged

    def acknowledge(self, position: Position) -> None:
        """Everything before `position` is in the ledger."""
        self._acknowledged = position
        held = min(self._running.values(), default=self._current)
        for number in sorted(self._segments):
            if number >= min(position.segment, held):
                break
            segment = self._segments.pop(number)
            self._written_bytes -= segment.size
            segment.delete()

    def close(self) -> None:
        """Closes the files. What is not acknowledged stays for the next process; a spool with nothing left is
        emptied."""
        if self._read == self._acknowledged and not self._running and not self.read()[0]:
            for segment in self._segments.values():
                segment.delete()
        os.close(self._lock)

    def _recover(self) -> list[UsageRecord]:
        """Cuts torn tails off, and returns attempts that began and never ended."""
        unfinished: dict[str, UsageRecord] = {}
        for path in sorted(self._directory.glob("*.spool")):
            if path.stat().st_size == 0:
                path.unlink()
                continue
            segment = self._segments[int(path.stem)] = _Segment(path, 0)
            for kind, payload in segment.recover():
                record = self._decoded(payload)
                if record is None:
                    continue
                if kind == _BEGIN:
                    unfinished[record.attempt_id] = record
                else:
                    unfinished.pop(record.attempt_id, None)
            self._written_bytes += segment.size
        return list(unfinished.values())

    def _decoded(self, payload: bytes) -> UsageRecord | None:
        try:
            return self._decode(payload)
        except msgspec.DecodeError as error:
            # Another version's record: the frame is whole, its content is not ours to read.
            self._dropped.inc()
            log.error("spool_unreadable_record", error=str(error))
            return None

    def _append(self, kind: bytes, payload: bytes) -> None:
        size = _HEAD.size + len(payload)
        backlog = self.backlog_bytes
        if backlog + size > self._max_bytes or not (
            self._segment.append(kind, payload) or self._fits_new(kind, payload)
        ):
            self._dropped.inc()
            log.error("spool_full", bytes=backlog, max_bytes=self._max_bytes)
            return
        self._written_bytes += size

    def _fits_new(self, kind: bytes, payload: bytes) -> bool:
        try:
            self._open(self._current + 1)
        except OSError as error:
            log.error("spool_disk_full", error=str(error))
            return False
        return self._segment.append(kind, payload)

    def _open(self, number: int) -> None:
        path = self._directory / f"{number:08d}.spool"
        self._segment = self._segments[number] = _Segment(path, self._segment_bytes)
        self._current = number
