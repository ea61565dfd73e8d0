"""One file of the usage spool, mapped into memory."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from services.router.ledger.file_frames import (
    BEGIN,
    HEAD_BYTES,
    Frame,
    Losses,
    ends,
    frames,
    head_of,
    old_frames,
)


class Segment:
    """A file of frames. `size`: bytes up to the end of its last frame; `capacity`: bytes of the file."""

    def __init__(self, path: Path, capacity: int) -> None:
        """Opens a file, or creates one with all its blocks, so that a full disk is an error now and not a SIGBUS
        later. Raises OSError."""
        self.path = path
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._created = os.fstat(file).st_size == 0
        try:
            if self._created:
                os.posix_fallocate(file, 0, capacity)
            self.map = mmap.mmap(file, 0)
        except OSError:
            if self._created:
                path.unlink(missing_ok=True)
            raise
        finally:
            os.close(file)
        self.capacity = len(self.map)
        self.size = 0

    @property
    def of_earlier_version(self) -> bool:
        """True if an earlier version of the router has written it: it is only read."""
        return self.path.suffix == ".spool"

    def append(self, sequence: int, kind: bytes, payload: bytes) -> bool:
        """Adds a frame. Returns False if it does not fit. The head goes last, so half a frame is never read."""
        size, mapped = self.size, self.map
        start = size + HEAD_BYTES
        end = start + len(payload)
        if end > self.capacity:
            return False
        mapped[start:end] = payload
        mapped[size:start] = head_of(sequence, kind, payload)
        self.size = end
        return True

    def recover(self, losses: Losses) -> Iterator[Frame]:
        """Yields each frame that a process before this one has left intact; `size` then spans them all."""
        for frame in self._intact_frames(0, self.capacity):
            losses.add_frame(frame, follows=frame.start == self.size)
            self.size = frame.end
            yield frame

    def frames(self, offset: int) -> Iterator[Frame]:
        """Yields its intact frames from `offset` on."""
        return self._intact_frames(offset, self.size)

    def ends(self, offset: int) -> Iterator[tuple[bytes, int, int]]:
        """Yields kind, beginning and end of the payloads of its frames from `offset` on but those of kind BEGIN."""
        if self._created:
            return ends(self.map, offset, self.size)
        return ((f.kind, f.payload, f.end) for f in self.frames(offset) if f.kind != BEGIN)

    def _intact_frames(self, offset: int, end: int) -> Iterator[Frame]:
        return (old_frames if self.of_earlier_version else frames)(self.map, offset, end)

    def delete(self) -> None:
        """Deletes the file."""
        self.map.close()
        self.path.unlink(missing_ok=True)
