"""Which catalog a stack runs on, and who may enter."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest

from dev.catalog import PUBLISHED_HASH, PUBLISHED_KEY, admit, choose
from dev.engines import EngineError

ROOT = Path(__file__).resolve().parents[3]


def test_without_a_key_the_simulator_answers_and_it_says_so() -> None:
    """Nothing is paid for by accident, and nobody takes made-up text for real."""
    choice = choose(ROOT, "", False, {})
    assert choice.simulate
    assert "simulator" in choice.why
    assert choice.path.name == "simulator.yaml"


def test_with_a_key_the_default_catalog_is_used_and_the_rest_is_named() -> None:
    """Which providers are called, and what is missing for the others, is one line; the key is not in it."""
    choice = choose(ROOT, "", False, {"OPENAI_API_KEY": "sk-secret"})
    assert not choice.simulate
    assert choice.path.name == "pointsman.yaml"
    assert "openai" in choice.why
    assert "ANTHROPIC_API_KEY" in choice.why
    assert "sk-secret" not in choice.why
    assert {"OPENAI_API_KEY", "ANTHROPIC_API_KEY"} <= choice.key_variables


def test_a_named_catalog_without_any_key_is_an_error_that_names_the_variables(tmp_path: Path) -> None:
    """The simulator does not step in for a catalog that was asked for."""
    with pytest.raises(EngineError, match="OPENAI_API_KEY"):
        choose(ROOT, str(ROOT / "config" / "pointsman.yaml"), False, {})
    with pytest.raises(EngineError, match="cannot be read"):
        choose(ROOT, str(tmp_path / "none.yaml"), False, {})


def test_the_published_key_opens_the_simulator_only(tmp_path: Path) -> None:
    """With paid providers the services read a private copy that admits this data directory's own key instead."""
    path, key = admit(choose(ROOT, "", False, {}), tmp_path, "random")
    assert (path, key) == (ROOT / "config" / "simulator.yaml", PUBLISHED_KEY)
    path, key = admit(choose(ROOT, "", False, {"OPENAI_API_KEY": "x"}), tmp_path, "random")
    text = path.read_text()
    assert key == "random"
    assert PUBLISHED_HASH not in text
    assert hashlib.sha256(b"random").hexdigest() in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_catalog_with_tenants_of_its_own_is_read_where_it_is(tmp_path: Path) -> None:
    """No copy, so its owner's edits reach the services directly; nobody but its owner knows a key."""
    own = tmp_path / "own.yaml"
    text = (ROOT / "config" / "simulator.yaml").read_text()
    own.write_text(text.replace(PUBLISHED_HASH, hashlib.sha256(b"mine").hexdigest()))
    assert admit(choose(ROOT, str(own), False, {}), tmp_path, "random") == (own, "")
