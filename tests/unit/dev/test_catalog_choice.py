"""Which catalog a stack runs on, and who may enter."""

from __future__ import annotations

import asyncio
import hashlib
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from dev.catalog import PUBLISHED_HASH, PUBLISHED_KEY, choose, follow_changes, prepare
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


def test_one_of_several_keys_is_enough(tmp_path: Path) -> None:
    """A provider is called if any of its keys is there; all of them reach the services."""
    named = tmp_path / "pool.yaml"
    named.write_text(
        """\
version: 1
providers:
  openai: {keys: [{env: KEY_A}, {env: KEY_B}, {file: none.key}]}
models:
  openai/m: {context_window: 1000, max_output_tokens: 100, price: {input: 1, output: 1}}
content_types: {general: {max_output_tokens: 50}}
"""
    )
    choice = choose(ROOT, str(named), False, {"KEY_B": "sk-secret"})
    assert choice.key_variables == {"KEY_A", "KEY_B"}
    assert "openai" in choice.why
    assert "KEY_A" not in choice.why
    with pytest.raises(EngineError, match=r"KEY_A or KEY_B or the file .*none\.key"):
        choose(ROOT, str(named), False, {})


def test_the_published_key_opens_the_simulator_only(tmp_path: Path) -> None:
    """With paid providers the services read a private copy that admits this data directory's own key instead."""
    path, key = prepare(choose(ROOT, "", False, {}), tmp_path, "random")
    assert (path, key) == (ROOT / "config" / "simulator.yaml", PUBLISHED_KEY)
    path, key = prepare(choose(ROOT, "", False, {"OPENAI_API_KEY": "x"}), tmp_path, "random")
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
    assert prepare(choose(ROOT, str(own), False, {}), tmp_path, "random") == (own, "")


async def until(condition: Callable[[], bool]) -> None:
    """Returns once it holds."""
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.01)


async def test_a_changed_catalog_is_judged_in_one_line_and_never_ends_the_stack(tmp_path: Path) -> None:
    """A catalog that is no text killed the stack, and one with faults was refused in logs only."""
    own = tmp_path / "own.yaml"
    good = (ROOT / "config" / "pointsman.yaml").read_text()
    own.write_text(good)
    environ = {"OPENAI_API_KEY": "x"}
    choice = choose(ROOT, str(own), False, environ)
    copy, _ = prepare(choice, tmp_path, "random")
    admitted = copy.read_text()
    said: list[str] = []
    following = asyncio.create_task(
        follow_changes(choice, tmp_path, "random", environ, said.append, pause=0.01)
    )
    await asyncio.sleep(0)  # it has seen the file as it is

    own.write_bytes(good.encode() + b"# \xff\n")
    await until(lambda: len(said) == 1)
    assert "refused" in said[0]
    assert f"{own}:{good.count(chr(10)) + 1}: not UTF-8" in said[0]
    assert copy.read_text() == admitted

    own.write_text("version: 1\nmodels: {}\nnobody: 1\nknows: 2\n")
    await until(lambda: len(said) == 2)
    assert "refused" in said[1]
    assert "more" in said[1]
    assert "\n" not in said[1]

    own.write_text(good + "# the same\n")
    await until(lambda: len(said) == 3)
    assert said[2] == f"The changed catalog is taken over: {own}"
    assert copy.read_text() == admitted + "# the same\n"

    own.unlink()
    await until(lambda: len(said) == 4)
    assert "cannot be read" in said[3]
    assert not following.done()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
