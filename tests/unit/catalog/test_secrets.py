"""Keys come from the environment or a file, and their absence is explained without showing anything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from libs.catalog.model import Provider
from libs.catalog.secrets import Keys


def _provider(env: str = "", file: str | Path = "") -> Provider:
    return Provider("p", "openai", "https://x", api_key_env=env, api_key_file=str(file))


def test_reads_the_environment() -> None:
    """The variable's value, without the spaces that a paste leaves."""
    assert Keys({"K": " sk-1\n"})(_provider("K")) == "sk-1"


def test_a_provider_without_keys_has_an_empty_one() -> None:
    """None means missing; a server that takes no key is not missing one."""
    keys = Keys({})
    assert keys(_provider()) == ""
    assert keys.why_missing(_provider()) is None


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({}, "the environment variable K is not set"),
        ({"K": "  "}, "the environment variable K is not set"),
        ({"K": "sk-\r\nx-evil: 1"}, "the environment variable K holds characters that no key has"),
        ({"K": "sk-\u00e9"}, "the environment variable K holds characters that no key has"),
    ],
)
def test_a_missing_key_is_explained_without_its_value(environ: dict[str, str], reason: str) -> None:
    """The sentence names the variable and never repeats what is in it."""
    keys = Keys(environ)
    assert keys(_provider("K")) is None
    assert keys.why_missing(_provider("K")) == reason


def test_a_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """A rotated key is used at the next call, also when the file is swapped by a symbolic link as Kubernetes
    does."""
    for name, key in (("one", "sk-1"), ("two", "sk-2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "key").write_text(key + "\n")
    (tmp_path / "data").symlink_to("one")
    provider, keys = _provider(file=tmp_path / "data" / "key"), Keys({})
    assert keys(provider) == "sk-1"
    (tmp_path / "new").symlink_to("two")
    os.replace(tmp_path / "new", tmp_path / "data")
    assert keys(provider) == "sk-2"
    (tmp_path / "two" / "key").write_text("sk-three")
    assert keys(provider) == "sk-three"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "cannot be read: No such file or directory"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"\xff\xfe", "is not text"),
        (b"sk\x001", "holds characters that no key has"),
        (b"{sk\nx-evil: 1}", "holds characters that no key has"),
        (b"x" * 70_000, "is larger than 64 KiB"),
    ],
)
def test_a_bad_file_is_explained(tmp_path: Path, content: bytes | None, reason: str) -> None:
    """The sentence names the file and the reason."""
    path = tmp_path / "key"
    if content is not None:
        path.write_bytes(content)
    keys = Keys({})
    assert keys(_provider(file=path)) is None
    assert keys.why_missing(_provider(file=path)) == f"the key file {path} {reason}"


def test_a_service_account_keeps_its_lines(tmp_path: Path) -> None:
    """A JSON document is a key too."""
    path = tmp_path / "account.json"
    path.write_text('{\n  "type": "service_account"\n}\n')
    assert Keys({})(_provider(file=path)) == '{\n  "type": "service_account"\n}'


def test_a_keys_version_changes_with_it_and_does_not_show_it(tmp_path: Path) -> None:
    """The same for the same key, another for another, none where there is no key."""
    path = tmp_path / "key"
    provider, keys = _provider(file=path), Keys({})
    assert keys.version(provider) == ""
    seen = []
    for key in ("sk-one-of-these", "sk-two-of-those", "sk-one-of-these"):
        new = tmp_path / "new"
        new.write_text(key)
        new.rename(path)
        seen.append(keys.version(provider))
        assert seen[-1] == keys.version(provider)
        assert key not in seen[-1]
    assert seen[0] == seen[2] != seen[1]
