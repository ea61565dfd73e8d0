"""The documents are true to the code: what they name exists."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer.main
from pydantic import AliasChoices, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from cli.app import build
from libs.settings import ServiceSettings

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
SERVICES = sorted(path.parent.name for path in ROOT.glob("services/*/settings.py"))
CODE = [path for top in ("libs", "services", "cli", "dev", "config") for path in (ROOT / top).rglob("*.*")]
CODE = [path for path in CODE if path.suffix in {".py", ".lua", ".yaml"}]
COMMON = set(ServiceSettings.model_fields) - {"listen"}
#: What no service reads: the command line's and the local stack's.
TOOLS = ("cli", "dev")

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def settings(service: str) -> type[ServiceSettings]:
    """The settings class of a service."""
    module = import_module(f"services.{service}.settings")
    (only,) = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, ServiceSettings) and value is not ServiceSettings
    ]
    return only


def variables(service: str) -> Iterator[tuple[str, FieldInfo]]:
    """Every variable the service reads; those that each service has under its own name as POINTSMAN_<SERVICE>_…"""
    kind = settings(service)
    prefix = str(kind.model_config.get("env_prefix", "")).upper()
    for name, field in kind.model_fields.items():
        if isinstance(field.validation_alias, AliasChoices):
            yield from ((str(choice), field) for choice in field.validation_alias.choices)
        elif name in COMMON:
            yield f"POINTSMAN_<SERVICE>_{name.upper()}", field
        else:
            yield f"{prefix}{name.upper()}", field


def default(field: FieldInfo) -> str:
    """As the table in docs/operations.md writes it."""
    value = field.default
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float):
        return f"`{value:g}`"
    return "empty" if value in (None, "") else f"`{value}`"


def table(document: Path) -> dict[str, str]:
    """Variable → default of the tables with three columns."""
    row = re.compile(r"^\| `((?:POINTSMAN|OTEL)_[A-Z_<>]+)` \| ([^|]+) \| [^|]*\|$", re.MULTILINE)
    return {name: value.strip() for name, value in row.findall(document.read_text())}


def blocks(document: Path, language: str) -> list[str]:
    """Code blocks of a language, without the indent of the list they stand in."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", document.read_text(), re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", body, flags=re.MULTILINE) for indent, body in found]


def links(document: Path) -> Iterator[tuple[str, str]]:
    """Text and target of every link that does not leave the project."""
    prose = re.sub(r"^ *```.*?^ *```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    for text, target in re.findall(r"\[([^\]\[]*)\]\(([^)\s]+)\)", prose):
        if "://" not in target:
            yield text, target


def headings(document: Path) -> set[str]:
    """Anchors of a document, as GitHub makes them."""
    lines = re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in lines}


def names(path: Path) -> set[str]:
    """Returns the names that a Python file defines: functions, classes, `Class.method`, constants."""
    found: set[str] = set()

    def collect(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef):
                found.add(prefix + node.name)
                collect(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                found.add(prefix + node.name)
            elif isinstance(node, ast.Assign):
                found.update(prefix + target.id for target in node.targets if isinstance(target, ast.Name))
            elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                found.add(prefix + node.target.id)

    collect(ast.parse(path.read_text()).body, "")
    return found


@each_document
def test_every_link_leads_somewhere(document: Path) -> None:
    """Files and headings exist, and a name in a link's text is defined in the file it leads to."""
    for text, target in links(document):
        path, _, anchor = target.partition("#")
        file = (document.parent / path).resolve() if path else document
        assert file.exists(), f"{target} is not there"
        assert file.is_relative_to(ROOT), f"{target} leaves the project"
        if anchor:
            assert anchor in headings(file), f"{target}: no such heading"
        name = text.strip("`")
        if file.suffix == ".py" and re.fullmatch(r"`[A-Za-z_][\w.]*`", text) and not name.endswith(".py"):
            assert name in names(file), f"{name} is not in {path}"


@each_document
def test_every_path_in_code_type_exists(document: Path) -> None:
    """`libs/…`, `services/…` and the like name files that are there; placeholders have angle brackets."""
    prose = re.sub(r"^ *```.*?^ *```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    tops = "libs|services|cli|dev|config|docs|tests|bench|protos|k8s"
    for path in re.findall(rf"`((?:{tops})/[\w./-]*)`", prose):
        assert (ROOT / path).exists(), f"{path} is not there"


def test_no_docstring_begins_with_a_question_word() -> None:
    """Every docstring of the project begins with a verb, or names the thing or the fact."""
    tops = ("libs", "services", "cli", "dev", "bench", "tests")
    asking = [
        f"{path.relative_to(ROOT)}: {start}"
        for top in tops
        for path in sorted((ROOT / top).rglob("*.py"))
        for start in re.findall(
            r'^ *"""(?:What|Whether|Who|When|Where|How)\b.*', path.read_text(), re.MULTILINE
        )
    ]
    assert asking == []


@each_document
def test_every_variable_is_read_by_something(document: Path) -> None:
    """A name of the services' is in a settings class; any other is in the code of the command line, the stack or the
    tests."""
    known = {name for service in SERVICES for name, _ in variables(service)}
    known |= {n.replace("<SERVICE>", s.upper()) for n in known for s in SERVICES if "<SERVICE>" in n}
    paths = [path for path in CODE if path.relative_to(ROOT).parts[0] in TOOLS]
    tools = "".join(path.read_text() for path in [*paths, *(ROOT / "tests" / "support").glob("*.py")])
    for name in set(re.findall(r"POINTSMAN_[A-Z<][A-Z_<>]*[A-Z]\b", document.read_text())):
        assert name in known or re.search(rf"\b{name}\b", tools), f"nothing reads {name}"


def test_every_variable_is_documented_with_its_default() -> None:
    """docs/operations.md lists all that services read, and nothing else; the README's short table agrees."""
    documented = table(ROOT / "docs" / "operations.md")
    real = {name: default(field) for service in SERVICES for name, field in variables(service)}
    assert documented == real
    short = table(ROOT / "README.md")
    assert short
    assert short.items() <= real.items()


@each_document
def test_every_metric_exists(document: Path) -> None:
    """A metric that documents name is one that the code makes."""
    code = "".join(path.read_text() for path in CODE)
    for name in re.findall(r"`pointsman_([a-z_]+)`", document.read_text()):
        assert f'"{name.removesuffix("_total")}"' in code, f"nobody counts {name}"


def test_every_metric_is_documented() -> None:
    """docs/operations.md names each metric that a service or a library makes."""
    made: set[str] = set()
    places = (path for top in ("libs", "services") for path in (ROOT / top).rglob("*.py"))
    for path in places:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                suffix = {"counter": "_total", "gauge": "", "histogram": ""}.get(node.func.attr)
                name = node.args[0]
                if suffix is not None and isinstance(name, ast.Constant) and isinstance(name.value, str):
                    made.add(f"pointsman_{name.value}{suffix}")
    documented = set(re.findall(r"`(pointsman_[a-z_]+)`", (ROOT / "docs" / "operations.md").read_text()))
    assert made
    assert made <= documented


@each_document
def test_every_command_can_be_given(document: Path) -> None:
    """Commands and options of `pointsman`, and targets of make, are those there are."""
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    commands: dict[str, Any] = typer.main.get_command(build()).commands  # type: ignore[attr-defined]
    for block in blocks(document, "sh"):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["pointsman"]:
                options = {o for p in commands[words[1]].params for o in (*p.opts, *p.secondary_opts)}
                given = {word for word in words[2:] if word.startswith("-")}
                assert given <= options, f"{line}: no {given - options}"
            while "make" in words:
                words = words[words.index("make") + 1 :]
                assert not words or words[0] in targets, f"{line}: no target {words[0]}"
            if words[:2] == ["python", "-m"]:
                assert (ROOT / words[2].replace(".", "/")).with_suffix(".py").exists() or (
                    ROOT / words[2].replace(".", "/") / "__main__.py"
                ).exists(), f"{line}: no module {words[2]}"


@each_document
def test_python_in_documents_is_python(document: Path) -> None:
    """Examples parse, and what they import of ours is there."""
    for block in blocks(document, "python"):
        for node in ast.walk(ast.parse(block)):
            if (
                isinstance(node, ast.ImportFrom)
                and node.module
                and node.module.startswith(("libs", "pointsman"))
            ):
                module = import_module(node.module)
                for alias in node.names:
                    if not hasattr(module, alias.name):
                        import_module(f"{node.module}.{alias.name}")
