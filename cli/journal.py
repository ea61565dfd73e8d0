"""The output of a batch: a JSONL file that is also the memory of what is done.

One line per row of the input, appended whole and flushed as soon as the row has its answer. A later run reads it
back: rows that succeeded are skipped, failed ones are tried again, and a last line torn by a crash is dropped. The
run's id is kept in every line, so that a resumed run asks with the same request ids as the run that it continues.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from cli.failure import CliError
from cli.rows import Row


class Journal:
    """The open output file. Made by `Journal.open`; holds an exclusive lock until `close`."""

    def __init__(
        self, path: Path, descriptor: int, run_id: str, records: Sequence[Mapping[str, Any]]
    ) -> None:
        self._path = path
        self._descriptor = descriptor
        self.run_id = run_id
        #: Indices of rows that need no more work.
        self.done = frozenset(int(record["index"]) for record in records)
        #: The number of them that are failures and are left as they are.
        self.kept_failures = sum(1 for record in records if not record["ok"])

    @classmethod
    def open(cls, path: Path, rows: Sequence[Row], rng: random.Random, *, retry_failed: bool = True) -> Self:
        """Opens or makes the file and repairs it. Raises CliError where it cannot be written, is in use by another
        run, or belongs to another input."""
        path = path.resolve()
        try:
            descriptor = _open_locked(path)
        except OSError as error:
            raise CliError(f"cannot write {path}: {error.strerror or error}") from None
        try:
            lines, torn = _read(path, rows)
            kept, dropped = _choose(lines, retry_failed)
            if torn or dropped:
                descriptor = _replace(path, descriptor, [raw for raw, _ in kept])
        except OSError as error:
            os.close(descriptor)
            raise CliError(f"cannot write {path}: {error.strerror or error}") from None
        except CliError:
            os.close(descriptor)
            raise
        run_id = str(lines[0][1]["run_id"]) if lines else f"{rng.getrandbits(48):012x}"
        return cls(path, descriptor, run_id, [record for _, record in kept])

    def append(self, record: Mapping[str, Any]) -> None:
        """Writes one line with one call to the operating system, so that the death of this process cannot tear it.
        Raises CliError where the disk is full."""
        line = json.dumps(record, ensure_ascii=False).encode() + b"\n"
        try:
            written = os.write(self._descriptor, line)
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
        except OSError as error:
            raise CliError(f"cannot write {self._path}: {error.strerror or error}", code=1) from None

    def close(self) -> None:
        """Flushes to the disk and lets the next run in."""
        os.fsync(self._descriptor)
        os.close(self._descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _open_locked(path: Path) -> int:
    if path.exists() and not path.is_file():
        raise CliError(f"cannot write {path}: not a regular file")
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        _lock(path, descriptor)
    except CliError:
        os.close(descriptor)
        raise
    return descriptor


def _lock(path: Path, descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # The run that held the lock may have replaced the file in between.
        current = os.path.samestat(os.fstat(descriptor), path.stat())
    except (BlockingIOError, FileNotFoundError):
        current = False
    if not current:
        raise CliError(f"another run is writing {path}")


def _read(path: Path, rows: Sequence[Row]) -> tuple[list[tuple[bytes, dict[str, Any]]], bool]:
    """Returns every line with its record, and True if the last was torn."""
    lines: list[tuple[bytes, dict[str, Any]]] = []
    with path.open("rb") as file:
        raws = file.readlines()
    for number, raw in enumerate(raws, 1):
        whole = raw.endswith(b"\n")
        record = _parse(raw)
        if record is None:
            if number == len(raws) and not whole:
                return lines, True
            raise CliError(
                f"{path}, line {number}: not written by `pointsman generate`; choose another --output"
            )
        _check(path, number, record, rows)
        lines.append((raw if whole else raw + b"\n", record))
    return lines, bool(raws) and not raws[-1].endswith(b"\n")


def _parse(raw: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(raw)
    except (ValueError, RecursionError):
        return None
    if (
        isinstance(record, dict)
        and type(record.get("index")) is int
        and isinstance(record.get("ok"), bool)
        and isinstance(record.get("run_id"), str)
        and isinstance(record.get("fingerprint"), str)
    ):
        return record
    return None


def _check(path: Path, number: int, record: Mapping[str, Any], rows: Sequence[Row]) -> None:
    index = record["index"]
    if not 0 <= index < len(rows) or rows[index].fingerprint != record["fingerprint"]:
        raise CliError(
            f"{path}, line {number}: belongs to another input or template (row {index}, id "
            f"{record.get('id')!r}); choose another --output"
        )


def _choose(
    lines: Sequence[tuple[bytes, dict[str, Any]]], retry_failed: bool
) -> tuple[list[tuple[bytes, dict[str, Any]]], bool]:
    """Returns at most one line per row, a success before a failure; and True if any was left out."""
    best: dict[int, tuple[bytes, dict[str, Any]]] = {}
    for raw, record in lines:
        held = best.get(record["index"])
        if held is None or (record["ok"] and not held[1]["ok"]):
            best[record["index"]] = (raw, record)
    kept = [line for line in best.values() if line[1]["ok"] or not retry_failed]
    return kept, len(kept) != len(lines)


def _replace(path: Path, descriptor: int, lines: Sequence[bytes]) -> int:
    """Puts a repaired copy in the file's place in one step. Returns the copy's descriptor, locked."""
    fresh, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        os.fchmod(fresh, os.fstat(descriptor).st_mode & 0o777)
        with open(fresh, "wb", closefd=False) as file:
            file.writelines(lines)
        os.fsync(fresh)
        fcntl.fcntl(fresh, fcntl.F_SETFL, os.O_APPEND)
        fcntl.flock(fresh, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.replace(name, path)
    except OSError:
        os.close(fresh)
        os.unlink(name)
        raise
    os.close(descriptor)
    return fresh
