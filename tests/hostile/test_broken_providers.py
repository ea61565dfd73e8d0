"""Some providers of the catalog that `make run` takes are broken and one serves, as tests/e2e has it of the other."""

from __future__ import annotations

from pathlib import Path

from tests.e2e import test_broken_providers as broken


async def test_whatever_is_broken_who_serves_is_reached(tmp_path: Path) -> None:
    """Every call is answered, and a silent provider is not called again after its first callers."""
    await broken.test_whatever_is_broken_who_serves_is_reached(tmp_path, "simulator.yaml")
