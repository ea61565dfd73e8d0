"""The form of usage records on disk: frames that are found again behind damage.

A frame is a head (mark, sequence number, length, CRC-32 of the payload, kind, CRC-32 of the head so far; 21 bytes)
and a payload. The mark's first and last byte occur in no UTF-8 text and open no MessagePack value. Behind bytes that
are no intact frame, the next mark with an intact head and payload is where reading goes on, so a damaged frame costs
itself alone, and the sequence numbers tell how many were lost. Only a head whose own checksum holds has its payload
checked, so reading stays linear in the bytes whatever they are. Zeros, as a new file is filled with, hold no mark.

An earlier version's frame had length, CRC-32 of the payload and kind for a head. Its files are read in the same way,
each payload known by the MessagePack array that it is.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

#: The kinds: an attempt before its call, an attempt after it, a request.
BEGIN, END, REQUEST = b"B", b"E", b"R"
MARK = b"\xc1PU\xc1"
_HEAD = struct.Struct("<4sIIIc")
_CHECK = struct.Struct("<I")
_CHECKED_HEAD = struct.Struct(f"{_HEAD.format}I")
_LENGTH_AND_KIND = struct.Struct("<8xI4xc")
HEAD_BYTES = _CHECKED_HEAD.size
#: Sequence numbers begin again at 0 after 2^32 - 1.
_SEQUENCES = 2**32

_OLD_HEAD = struct.Struct("<IIc")
#: A MessagePack array of 16 to 255 elements, two bytes of three: what every old payload began with.
_OLD_PAYLOAD = b"\xdc\x00"
#: No record is larger: it holds at most 16 labels of 128 characters twice, and names.
_OLD_MOST_BYTES = 64 * 1024


#: A mapped file, or bytes.
Bytes = bytes | mmap.mmap


class Frame(NamedTuple):
    """An intact frame: its payload is `data[payload:end]`. `sequence` is None where the old form has none."""

    kind: bytes
    start: int
    payload: int
    end: int
    sequence: int | None


def head_of(sequence: int, kind: bytes, payload: bytes) -> bytes:
    """Returns the head of a payload; only the lowest 32 bits of `sequence` are kept."""
    head = _HEAD.pack(MARK, sequence % _SEQUENCES, len(payload), crc32(payload), kind)
    return head + _CHECK.pack(crc32(head))


def ends(data: Bytes, start: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yields kind, beginning and end of the payload of each frame but those of kind BEGIN, of frames that this
    process has written itself, one behind the other from `start` on: nothing is checked again."""
    while start < end:
        length, kind = _LENGTH_AND_KIND.unpack_from(data, start)
        start += HEAD_BYTES
        if kind != BEGIN:
            yield kind, start, start + length
        start += length


def frames(data: Bytes, start: int, end: int) -> Iterator[Frame]:
    """Yields every intact frame in a part of the bytes, in order."""
    while (start := data.find(MARK, start, end)) >= 0:
        payload = start + HEAD_BYTES
        if payload <= end:
            _, sequence, length, crc, kind, check = _CHECKED_HEAD.unpack_from(data, start)
            after = payload + length
            if (
                after <= end
                and crc32(data[start : start + _HEAD.size]) == check
                and crc32(data[payload:after]) == crc
            ):
                yield Frame(kind, start, payload, after, sequence)
                start = after
                continue
        start += 1


def old_frames(data: Bytes, start: int, end: int) -> Iterator[Frame]:
    """Yields every intact frame of an earlier version's file, in order."""
    while True:
        frame = _old_frame_at(data, start, end)
        if frame is None:
            # The next frame is found by its payload, whose head stands before it.
            found = data.find(_OLD_PAYLOAD, start + _OLD_HEAD.size + 1, end)
            if found < 0:
                return
            start = found - _OLD_HEAD.size
            continue
        start = frame.end
        yield frame


def _old_frame_at(data: Bytes, start: int, end: int) -> Frame | None:
    payload = start + _OLD_HEAD.size
    if payload > end:
        return None
    length, crc, kind = _OLD_HEAD.unpack(data[start:payload])
    after = payload + length
    if not 0 < length <= _OLD_MOST_BYTES or kind not in (BEGIN, END) or after > end:
        return None
    return Frame(kind, start, payload, after, None) if crc32(data[payload:after]) == crc else None


class Losses:
    """The number of frames that are missing between those that are given to it in order, and behind the last."""

    def __init__(self) -> None:
        self.frames = 0
        self._next: int | None = None

    @property
    def next(self) -> int:
        """The sequence number that follows."""
        return self._next or 0

    def add_frame(self, frame: Frame, follows: bool) -> None:
        """Counts the frames missing before this one. `follows`: it stands right behind the one before, or at the
        beginning of its file."""
        if frame.sequence is None or self._next is None:
            # Nobody knows how many were before it: at least one.
            self.frames += not follows
        else:
            missing = (frame.sequence - self._next) % _SEQUENCES
            if missing >= _SEQUENCES // 2:
                return  # A frame from further up, copied here.
            self.frames += missing
        if frame.sequence is not None:
            self._next = (frame.sequence + 1) % _SEQUENCES

    def add_tail(self, data: Bytes, end: int) -> None:
        """Counts a frame that stands damaged behind the last one. A payload without a head is no loss: the process
        died before it had written it."""
        if any(data[end : end + HEAD_BYTES]):
            self.frames += 1
            self._next = None if self._next is None else (self._next + 1) % _SEQUENCES
