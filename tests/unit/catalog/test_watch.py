"""The catalog in use follows its file, and survives a bad one."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
import structlog

from libs.catalog.catalog import Catalog
from libs.catalog.faults import CatalogError
from libs.catalog.watch import CatalogHolder
from tests.unit.catalog.samples import GOOD, changed

BETTER = changed("domain: test", "domain: better")
BAD = changed("priority: bulk", "priority: urgent")


class _Watched:
    """A holder, its file, and all that it said."""

    def __init__(self, folder: Path, text: str = GOOD) -> None:
        self.path = folder / "c.yaml"
        self.path.write_text(text)
        self.outcomes: list[bool] = []
        self.changes: list[tuple[str, str]] = []
        self.holder = CatalogHolder(
            self.path, environ={}, prices=False, interval=0.01, on_reload=self.outcomes.append
        )
        self.holder.subscribe(self._changed)

    def _changed(self, old: Catalog, new: Catalog) -> None:
        self.changes.append((old.domain, new.domain))

    async def settle(self) -> None:
        """Two looks: one to see a change, one to see that it is over."""
        await self.holder.check_file()
        await self.holder.check_file()


async def test_a_good_change_is_taken_over(tmp_path: Path) -> None:
    """Subscribers hear of old and new once, and `current` is the new one by then."""
    watched = _Watched(tmp_path)
    watched.path.write_text(BETTER)
    await watched.settle()
    await watched.settle()
    assert watched.holder.current.domain == "better"
    assert (watched.changes, watched.outcomes) == ([("test", "better")], [True])


async def test_a_bad_change_keeps_the_old_catalog_and_says_so_once(tmp_path: Path) -> None:
    """The refusal is logged with its faults, counted, and not repeated at every look; the repair is seen."""
    watched = _Watched(tmp_path)
    watched.path.write_text(BAD)
    with structlog.testing.capture_logs() as logs:
        await watched.settle()
        await watched.settle()
    assert watched.holder.current.domain == "test"
    assert watched.holder.refused is not None
    assert [log["event"] for log in logs] == ["catalog_refused"]
    assert any("urgent" in line for line in logs[0]["faults"])
    assert (watched.changes, watched.outcomes) == ([], [False])
    watched.path.write_text(BETTER)
    await watched.settle()
    assert watched.holder.refused is None
    assert watched.outcomes == [False, True]


async def test_going_back_clears_the_refusal(tmp_path: Path) -> None:
    """The file that is already in use is not taken over again."""
    watched = _Watched(tmp_path)
    watched.path.write_text(BAD)
    await watched.settle()
    watched.path.write_text(GOOD)
    await watched.settle()
    assert watched.holder.refused is None
    assert watched.changes == []


async def test_a_file_that_is_gone_is_a_bad_change(tmp_path: Path) -> None:
    """The old catalog stays in use, and the file's return is noticed."""
    watched = _Watched(tmp_path)
    watched.path.unlink()
    await watched.settle()
    assert watched.outcomes == [False]
    watched.path.write_text(BETTER)
    await watched.settle()
    assert watched.holder.current.domain == "better"


async def test_a_file_that_is_being_written_is_let_finish(tmp_path: Path) -> None:
    """Half a file can be a good catalog with half the tenants: nothing is read while the file still
    changes."""
    watched = _Watched(tmp_path)
    half = BETTER[: BETTER.index("  idle: {}")]
    watched.path.write_text(half)
    await watched.holder.check_file()
    watched.path.write_text(BETTER)
    await watched.settle()
    assert "idle" in watched.holder.current.tenants
    assert watched.changes == [("test", "better")]


async def test_a_config_map_swap_is_seen(tmp_path: Path) -> None:
    """Kubernetes replaces the folder behind a symbolic link; the file's own path and time may stay the
    same."""
    for name, text in (("v1", GOOD), ("v2", BETTER)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "c.yaml").write_text(text)
        os.utime(tmp_path / name / "c.yaml", (1, 1))
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "c.yaml").symlink_to("..data/c.yaml")
    holder = CatalogHolder(tmp_path / "c.yaml", environ={}, prices=False)
    (tmp_path / "..new").symlink_to("v2")
    os.replace(tmp_path / "..new", tmp_path / "..data")
    await holder.check_file()
    await holder.check_file()
    assert holder.current.domain == "better"


async def test_a_change_of_the_same_size_and_time_is_seen(tmp_path: Path) -> None:
    """An editor or a sync tool that restores the modification time does not hide a change."""
    watched = _Watched(tmp_path)
    before = watched.path.stat()
    other = changed("domain: test", "domain: tset")
    watched.path.write_text(other)
    os.utime(watched.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    await watched.settle()
    assert watched.holder.current.domain == "tset"


async def test_one_failing_subscriber_does_not_silence_the_others(tmp_path: Path) -> None:
    """A subscriber's bug is logged; the rest are told, and the catalog is in use."""
    watched = _Watched(tmp_path)
    heard: list[str] = []

    def fail(old: Catalog, new: Catalog) -> None:
        raise RuntimeError("a bug")

    end = watched.holder.subscribe(fail)
    watched.holder.subscribe(lambda old, new: heard.append(new.domain))
    watched.path.write_text(BETTER)
    with structlog.testing.capture_logs() as logs:
        await watched.settle()
    assert heard == ["better"]
    assert [log["event"] for log in logs] == ["catalog_replaced", "catalog_subscriber_failed"]
    end()
    watched.path.write_text(GOOD)
    await watched.settle()
    assert heard == ["better", "test"]


async def test_run_looks_by_itself(tmp_path: Path) -> None:
    """The loop sees a change without being asked, and ends when cancelled."""
    watched = _Watched(tmp_path)
    replaced = asyncio.Event()
    watched.holder.subscribe(lambda old, new: replaced.set())
    task = asyncio.create_task(watched.holder.run())
    watched.path.write_text(BETTER)
    await asyncio.wait_for(replaced.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_the_first_load_must_succeed(tmp_path: Path) -> None:
    """There is no catalog to keep yet, so a bad first file stops the start."""
    with pytest.raises(CatalogError, match="unknown priority"):
        _Watched(tmp_path, BAD)
