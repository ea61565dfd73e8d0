"""Damage to the files of the spool: what is intact is found again, nothing is invented, what is lost is counted."""

from __future__ import annotations

import os
import random
import struct
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from libs.clock import SystemClock
from libs.telemetry import Metrics
from services.router.ledger.file_frames import BEGIN, END, HEAD_BYTES, MARK, frames, head_of, old_frames
from services.router.ledger.file_spool import FileSpool
from services.router.ledger.usage_record import Outcome, UsageRecord
from tests.unit.router.ledger.test_spool_metrics import record

#: The sequence number of a frame inside a payload: one that no frame of a test bears by its place.
INNER = 1000
#: Kind and payload of some frames; payloads may hold the mark, and whole frames.
FRAMES = st.lists(
    st.tuples(
        st.sampled_from([BEGIN, END]),
        st.binary(max_size=60)
        | st.binary(max_size=9).map(lambda junk: junk + MARK + junk)
        | st.binary(max_size=9).map(lambda payload: head_of(INNER, END, payload) + payload),
    ),
    min_size=1,
    max_size=12,
)


def written(kept: Sequence[tuple[bytes, bytes]]) -> tuple[bytes, list[tuple[int, int]]]:
    """The bytes of frames, and where each stands."""
    data, places = b"", []
    for sequence, (kind, payload) in enumerate(kept):
        start = len(data)
        data += head_of(sequence, kind, payload) + payload
        places.append((start, len(data)))
    return data, places


def old_frame(kind: bytes, payload: bytes) -> bytes:
    """As an earlier version wrote it."""
    return struct.pack("<IIc", len(payload), zlib.crc32(payload), kind) + payload


def read(data: bytes) -> list[tuple[int | None, bytes, bytes]]:
    """Sequence number, kind and payload of what is found."""
    return [(f.sequence, f.kind, data[f.payload : f.end]) for f in frames(data, 0, len(data))]


@settings(deadline=None)
@given(FRAMES, st.data())
def test_whatever_bytes_are_changed_every_intact_frame_is_found_and_no_other(
    kept: list[tuple[bytes, bytes]], draw: st.DataObject
) -> None:
    """Bits flipped anywhere, a part zeroed, the end cut off, junk put in between, all at once."""
    data, places = written(kept)
    intact = list(range(len(kept)))
    changed = bytearray(data)
    for place in draw.draw(st.lists(st.integers(0, len(data) - 1), max_size=6, unique=True)):
        changed[place] ^= draw.draw(st.integers(1, 255))
        intact = [i for i in intact if not places[i][0] <= place < places[i][1]]
    cut = draw.draw(st.integers(0, len(data)))
    intact = [i for i in intact if places[i][1] <= cut]
    pieces, at = [], 0
    for place in sorted(draw.draw(st.lists(st.integers(0, cut), max_size=3))):
        junk = draw.draw(st.binary(max_size=40) | st.just(bytes(50)) | st.just(MARK * 9))
        pieces += [bytes(changed[at:place]), junk]
        at = place
        intact = [i for i in intact if not junk or not places[i][0] < place < places[i][1]]
    result = b"".join([*pieces, bytes(changed[at:cut])])
    found = [frame for frame in read(result) if frame in [(i, *kept[i]) for i in range(len(kept))]]
    assert [frame for frame in found if frame[0] in intact] == [(i, *kept[i]) for i in intact]
    # A payload that holds a frame shows it once its own frame is broken: it was written, and nothing else is.
    inner = {payload[HEAD_BYTES:] for _, payload in kept if payload.startswith(MARK)}
    assert all(f in found or (f[:2] == (INNER, END) and f[2] in inner) for f in read(result))


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from([BEGIN, END]), st.text(max_size=300)), max_size=12), st.data())
def test_an_earlier_versions_frames_are_found_behind_damage_too(
    kept: list[tuple[bytes, str]], draw: st.DataObject
) -> None:
    """All that no changed byte touches, which is all that could be read before."""
    payloads = [(kind, msgspec.msgpack.encode([text, *([0] * 21)])) for kind, text in kept]
    data = b"".join(old_frame(*frame) for frame in payloads) + bytes(100)
    changed = bytearray(data)
    place = draw.draw(st.integers(0, len(data) - 1))
    changed[place] ^= draw.draw(st.integers(1, 255))
    intact, start = [], 0
    for kind, payload in payloads:
        end = start + 9 + len(payload)
        if not start <= place < end:
            intact.append((kind, payload))
        start = end
    result = bytes(changed)
    found = [(f.kind, result[f.payload : f.end]) for f in old_frames(result, 0, len(result))]
    # The kind was under no checksum.
    assert [frame for frame in found if frame in intact or frame[1] not in {p for _, p in payloads}] == intact


class Counted(bytes):
    """Bytes that count how many of them are taken out to be checked: the work that could grow faster than they do."""

    taken = 0

    def __getitem__(self, part: Any) -> Any:
        got = super().__getitem__(part)
        self.taken += len(got) if isinstance(got, bytes) else 1
        return got


@pytest.mark.parametrize("search", [frames, old_frames])
@pytest.mark.parametrize(
    "junk",
    [
        MARK,
        MARK + b"\xff\xff\xff\x00" * 4,
        head_of(1, END, bytes(200)),
        b"\xc1",
        b"\xdc\x00",
        b"\xff\x00\x00\x00\x00\x00\x00\x00E\xdc\x00",
    ],
)
def test_the_search_is_linear(search: Any, junk: bytes) -> None:
    """Twice the junk takes twice the checks, at most, whatever the junk."""
    once, twice = Counted(junk * 2000), Counted(junk * 4000)
    for data in (once, twice):
        list(search(data, 0, len(data)))
    assert twice.taken <= 2.1 * once.taken + 1000


def opened(directory: Path) -> tuple[FileSpool, Metrics]:
    metrics = Metrics()
    return FileSpool(directory, metrics, SystemClock(), segment_bytes=2**18), metrics


def sent(spool: FileSpool) -> list[str]:
    """The attempts that are sent, all acknowledged."""
    names: list[str] = []
    while True:
        records, position = spool.read()
        spool.acknowledge(position)
        if not records:
            return names
        names += [r.attempt_id for r in records if isinstance(r, UsageRecord)]


def count(metrics: Metrics, name: str) -> float | None:
    return metrics.registry.get_sample_value(f"pointsman_{name}")


@pytest.fixture(scope="module")
def nine_hundred(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[int]]:
    """A file of the spool, and where each of its records ends."""
    directory = tmp_path_factory.mktemp("spool")
    spool, _ = opened(directory)
    ends = [0]
    for i in range(900):
        spool.end(record(str(i)))
        ends.append(spool.backlog_bytes)
    spool.close()
    (path,) = directory.glob("*.usage")
    return path.read_bytes(), ends


@settings(deadline=None, max_examples=20)
@given(number=st.integers(0, 899), bit=st.integers(0, 7), place=st.integers(0, 10**6))
@example(number=0, bit=0, place=0)
@example(number=899, bit=7, place=-1)
def test_one_bit_loses_one_record_and_says_so(
    nine_hundred: tuple[bytes, list[int]], number: int, bit: int, place: int
) -> None:
    """It used to lose the 899 behind it, in silence."""
    data, ends = bytearray(nine_hundred[0]), nine_hundred[1]
    data[ends[number] + place % (ends[number + 1] - ends[number])] ^= 1 << bit
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / f"{1:08d}.usage").write_bytes(data)
        spool, metrics = opened(Path(folder))
        assert sent(spool) == [str(i) for i in range(900) if i != number]
        assert count(metrics, "spool_damaged_records_total") == 1
        assert [path.name for path in Path(folder).glob("*.usage")] == [f"{2:08d}.usage"]
        spool.close()


def die(spool: FileSpool) -> None:
    """Lets go of the directory without the tidy end of `close`."""
    os.close(cast(int, spool._lock))


def test_losses_are_counted_over_files(tmp_path: Path) -> None:
    """A file that is gone or overwritten shows in the numbers of the next, once."""
    spool = FileSpool(tmp_path, Metrics(), SystemClock(), segment_bytes=2000)
    for i in range(200):
        spool.end(record(str(i)))
    die(spool)
    files = sorted(tmp_path.glob("*.usage"))
    files[2].write_bytes(b"\x99" * 2000)
    files[4].unlink()
    spool, metrics = opened(tmp_path)
    names = sent(spool)
    assert count(metrics, "spool_damaged_records_total") == 200 - len(names) > 20
    spool.end(record("new"))
    die(spool)
    spool, metrics = opened(tmp_path)
    assert sent(spool) == ["new"]
    assert count(metrics, "spool_damaged_records_total") == 0


def test_an_earlier_versions_spool_is_sent(tmp_path: Path) -> None:
    """Ended attempts, and those that were cut off, then the directory is this version's alone."""
    encode = msgspec.msgpack.encode
    cut = record("cut")
    cut.outcome = Outcome.UNKNOWN
    data = b"".join(
        old_frame(kind, encode(r))
        for kind, r in ((BEGIN, record("a")), (BEGIN, cut), (END, record("a")), (END, record("b")))
    )
    (tmp_path / f"{7:08d}.spool").write_bytes(data + bytes(1000))
    spool, metrics = opened(tmp_path)
    spool.end(record("c"))
    assert sent(spool) == ["cut", "a", "b", "c"]
    assert count(metrics, "spool_damaged_records_total") == 0
    assert [path.name for path in tmp_path.glob("*.*")] == [f"{8:08d}.usage"]
    spool.close()


def test_a_kind_is_never_mistaken() -> None:
    """A begin that became an end would be sent as one: the kind is under the checksum too."""
    payload = msgspec.msgpack.encode(record("a"))
    data = bytearray(head_of(0, BEGIN, payload) + payload)
    data[data.index(BEGIN, 12)] = END[0]
    assert read(bytes(data)) == []
    assert isinstance(msgspec.msgpack.decode(payload, type=UsageRecord), UsageRecord)


@pytest.mark.parametrize("tail", ["zeros", "nothing", "ones", "noise"])
def test_a_tail_torn_at_any_byte_loses_what_was_not_whole_and_says_so(tmp_path: Path, tail: str) -> None:
    """In the last two frames, with whatever stands behind: every frame before is read, no other, and half a frame
    is reported as one."""
    spool, _ = opened(tmp_path / "whole")
    ends = [0]
    for i in range(4):
        spool.end(record(str(i)))
        ends.append(spool.backlog_bytes)
    die(spool)
    (path,) = (tmp_path / "whole").glob("*.usage")
    data, rng = path.read_bytes()[: ends[-1] + 100], random.Random(1)
    for place in range(ends[2], ends[4] + 1):
        rest = len(data) - place
        behind = {"zeros": bytes(rest), "nothing": b"", "ones": b"\xff" * rest, "noise": rng.randbytes(rest)}
        directory = tmp_path / str(place)
        directory.mkdir()
        torn = data[:place] + behind[tail]
        (directory / f"{1:08d}.usage").write_bytes(torn)
        # The last bytes of a frame may be zeros themselves.
        whole = next(
            i for i in range(5) if i == 4 or torn[ends[i] : ends[i + 1]] != data[ends[i] : ends[i + 1]]
        )
        spool, metrics = opened(directory)
        assert sent(spool) == [str(i) for i in range(whole)]
        assert count(metrics, "spool_damaged_records_total") == any(torn[ends[whole] :])
        spool.close()


def test_a_stray_file_keeps_no_router_from_starting(tmp_path: Path) -> None:
    """A copy that somebody made has no number: it is named in the log and left alone."""
    (tmp_path / "00000001 (copy).usage").write_bytes(b"x" * 100)
    spool, _ = opened(tmp_path)
    spool.end(record("a"))
    assert sent(spool) == ["a"]
    spool.close()
    assert [path.name for path in tmp_path.glob("*.usage")] == ["00000001 (copy).usage"]
