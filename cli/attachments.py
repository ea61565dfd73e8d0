"""Images and documents that go with a prompt: files, or addresses that the provider fetches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from cli.failure import CliError
from libs.client import File, Image, Message, Part, Prompt, Role, Text

#: The most bytes of a file that are read: more than the router takes of all together.
MAX_BYTES = 8 * 1024 * 1024


def is_address(source: str) -> bool:
    """Returns True if it is an address rather than a path."""
    return source.startswith(("https://", "http://"))


def read_images(sources: Iterable[str], folder: Path = Path()) -> list[Part]:
    """Returns images; paths are relative to `folder`. Raises CliError where one cannot be read."""
    return [Image(url=s) if is_address(s) else Image(_read(folder / s)) for s in sources]


def read_files(sources: Iterable[str]) -> list[Part]:
    """Returns documents. Raises CliError where one cannot be read."""
    return [File(url=s) if is_address(s) else File(_read(Path(s)), name=Path(s).name) for s in sources]


def with_parts(prompt: str, parts: Sequence[Part]) -> Prompt:
    """Returns the prompt of a user who shows the parts."""
    return [Message(Role.USER, parts=(*parts, Text(prompt)))] if parts else prompt


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise CliError(f"cannot read {path}: {error.strerror or error}") from None
    if not data:
        raise CliError(f"{path} is empty")
    if len(data) > MAX_BYTES:
        raise CliError(f"{path} is larger than {MAX_BYTES // 2**20} MiB")
    return data
