"""The input of a batch: JSONL rows, checked as a whole before anything is spent."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli.attachments import is_address
from cli.failure import CliError
from cli.template import Template, TemplateError, default_prompt

#: The most wrong lines that are named one by one.
MAX_PROBLEMS = 20
#: The content type of a product row, unless the row or an option states another.
PRODUCT_CONTENT_TYPE = "product_description"


@dataclass(frozen=True, slots=True)
class Row:
    """One thing to generate. `index` counts rows from 0 and is the row's identity: ids may repeat. `fingerprint`
    tells whether an earlier output belongs to this row."""

    index: int
    line: int
    id: str
    prompt: str
    content_type: str = ""
    #: A path or an address; empty: none.
    image: str = ""

    @property
    def fingerprint(self) -> str:
        """Returns 16 hex digits of what is asked."""
        asked = json.dumps(
            [self.id, self.content_type, self.prompt, *([self.image] if self.image else [])],
            ensure_ascii=True,
        )
        return hashlib.sha256(asked.encode()).hexdigest()[:16]


def read_rows(
    path: Path, template: Template | None = None, content_type: str = "", image_field: str = ""
) -> list[Row]:
    """Reads every row of the file; blank lines are skipped. A row is `{"prompt": …}` or a product with a "name"; "id"
    and "content_type" are optional. `image_field`: the field that holds a row's image, a path from the file's folder
    or an address; empty: rows have none. Raises CliError naming each wrong line."""
    rows: list[Row] = []
    problems: list[str] = []
    try:
        with path.open("rb") as file:
            for line, raw in enumerate(file, 1):
                content = raw.removeprefix(b"\xef\xbb\xbf").strip() if line == 1 else raw.strip()
                if not content:
                    continue
                try:
                    row = _parse(content)
                    image = _image(row, image_field, path.parent) if image_field else ""
                    rows.append(_row(len(rows), line, row, template, content_type, image))
                except ValueError as error:
                    problems.append(f"line {line}: {error}")
    except OSError as error:
        raise CliError(f"cannot read {path}: {error.strerror or error}") from None
    if problems:
        shown = tuple(problems[:MAX_PROBLEMS])
        more = len(problems) - len(shown)
        raise CliError(
            f"{path}: {len(problems)} line{'s' if len(problems) > 1 else ''} cannot be used; nothing was sent",
            problems=shown + ((f"and {more} more",) if more else ()),
        )
    if not rows:
        raise CliError(f"{path} has no rows")
    return rows


def _row(
    index: int, line: int, row: Mapping[str, Any], template: Template | None, content_type: str, image: str
) -> Row:
    """Reads one row. Raises ValueError with a sentence on what is wrong."""
    identity = row.get("id", index)
    if isinstance(identity, bool) or not isinstance(identity, str | int):
        raise ValueError('"id" must be a string or an integer')
    own_type = row.get("content_type", "")
    if not isinstance(own_type, str):
        raise ValueError('"content_type" must be a string')
    prompt, kind = _prompt(row, template)
    parsed = Row(index, line, str(identity), prompt, own_type or content_type or kind, image)
    try:
        f"{parsed.id}{parsed.prompt}{parsed.content_type}{image}".encode()
    except UnicodeEncodeError:
        raise ValueError("holds half of a surrogate pair: not Unicode") from None
    return parsed


def _image(row: Mapping[str, Any], field: str, folder: Path) -> str:
    """Returns the row's image. Raises ValueError where it has none."""
    source = row.get(field)
    if not isinstance(source, str) or not source:
        raise ValueError(f'"{field}" must name an image')
    if is_address(source):
        return source
    if "\0" in source or not (folder / source).is_file():
        raise ValueError(f"there is no image {source!r}")
    return str(folder / source)


def _prompt(row: Mapping[str, Any], template: Template | None) -> tuple[str, str]:
    """Returns the prompt, and the content type it suggests."""
    if "prompt" in row:
        prompt = row["prompt"]
        if not isinstance(prompt, str):
            raise ValueError('"prompt" must be a string')
        if not prompt.strip():
            raise ValueError("the prompt is empty")
        return prompt, ""
    if template is None:
        prompt = default_prompt(row)
        if not prompt:
            raise ValueError('has neither a "prompt" nor a "name"')
        return prompt, PRODUCT_CONTENT_TYPE
    try:
        prompt = template.fill(row)
    except TemplateError as error:
        raise ValueError(str(error)) from None
    if not prompt:
        raise ValueError("the prompt is empty")
    return prompt, PRODUCT_CONTENT_TYPE


def _parse(content: bytes) -> dict[str, Any]:
    try:
        row = json.loads(content)
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(row, dict):
        raise ValueError("not a JSON object")
    return row
