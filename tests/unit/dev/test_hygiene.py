"""The check that no tracked file names the machine it was written on."""

from __future__ import annotations

from pathlib import Path

from dev.hygiene import PLACES, faults, index_hosts


def test_private_index_hosts_are_found_wherever_pip_looks(tmp_path: Path) -> None:
    """Environment and configuration file alike; the public index is no secret."""
    config = tmp_path / "pip.conf"
    config.write_text("[global]\nindex-url = https://user:pw@packages.example.net/simple\n")
    environ = {"PIP_EXTRA_INDEX_URL": "https://mirror.example.org/a https://pypi.org/simple"}
    assert index_hosts(environ, [config]) == {"packages.example.net", "mirror.example.org"}


def test_a_line_that_names_this_machine_is_reported_with_its_place(tmp_path: Path) -> None:
    """Absolute places are faults; the same word inside another path, and binary files, are not."""
    (tmp_path / "a.txt").write_text("fine: src/work/x\nbad: /" + "work/x\n")
    (tmp_path / "b.bin").write_bytes(b"\0/" + b"work/x")
    assert list(faults(tmp_path, [Path("a.txt"), Path("b.bin")], PLACES)) == ["a.txt:2: /" + "work"]
