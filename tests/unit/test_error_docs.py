"""docs/errors.md is the table of all reasons: it is held against the code that raises them and the two doors."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from libs import errors
from libs.errors import LASTING, FieldViolation, InvalidArgument, PointsmanError, Unavailable
from libs.http.errors import HttpError
from libs.rpc.status import code_of
from services.router.api.openai.errors import DO_NOT_RETRY, from_failure

ROOT = Path(__file__).resolve().parents[2]
ERRORS = ROOT / "docs" / "errors.md"
KINDS = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and issubclass(kind, PointsmanError)
}
#: The wrong field of a request refused for that reason; of all others some field of the conversation.
FIELDS = {"UNKNOWN_MODEL": "model", "INVALID_REQUEST": "generation"}
RETRIES = {"no", "with backoff", "with backoff, once", "at once", "after the time given"}


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table. `http` "—": no HTTP caller meets it."""

    grpc: str
    http: str
    retry: str
    advice: str


def rows() -> dict[str, Row]:
    """The table's rows by reason."""
    found: dict[str, Row] = {}
    for line in ERRORS.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("| `"):
            assert len(cells) == 5, line
            reason = cells[0].strip("`")
            assert reason not in found, f"{reason} stands there twice"
            found[reason] = Row(*cells[1:])
    return found


def texts(node: ast.AST) -> set[str]:
    """The texts that an expression may be, as far as they stand in it."""
    if isinstance(node, ast.IfExp):
        return texts(node.body) | texts(node.orelse)
    return {node.value} if isinstance(node, ast.Constant) and isinstance(node.value, str) else set()


def nodes(*places: str) -> Iterator[ast.AST]:
    """All syntax of the Python files in the folders."""
    for place in places:
        for path in sorted((ROOT / place).rglob("*.py")):
            yield from ast.walk(ast.parse(path.read_text()))


def raised() -> set[tuple[type[PointsmanError], str]]:
    """Every kind of error that the code makes, with each of its reasons."""
    found: set[tuple[type[PointsmanError], str]] = set()
    for node in nodes("libs", "services"):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in KINDS:
            kind = KINDS[node.func.id]
            reason = next((k.value for k in node.keywords if k.arg == "reason"), None)
            reasons = {kind.default_reason} if reason is None else texts(reason)
            found |= {(kind, text) for text in reasons}
    # Reasons that the loop of attempts hands on: the others become an Unavailable.
    given = {text for node in nodes("services/router/generate") for text in texts(node)}
    handed = {text for text in given if re.fullmatch(r"[A-Z]+(_[A-Z]+)+", text)} | LASTING
    return found | {(Unavailable, text) for text in handed - {text for _, text in found}}


def made(kind: type[PointsmanError], reason: str) -> PointsmanError:
    """An error of that kind and reason, without a time to come back."""
    if kind is InvalidArgument:
        field = FIELDS.get(reason, "generation.messages")
        return InvalidArgument([FieldViolation(field, "is wrong")], reason=reason)
    return kind("It failed", reason=reason)


def shown(error: HttpError) -> str:
    """Status and code as the table writes them."""
    return f"{error.status} `{error.code}`" if error.code else str(error.status)


def test_every_reason_is_in_the_table_and_nothing_else() -> None:
    """Whoever adds a reason says there what callers should do; a reason that is gone goes from there too."""
    assert {reason for _, reason in raised()} == rows().keys()


@pytest.mark.parametrize(
    ("kind", "reason"), sorted(raised(), key=str), ids=lambda value: getattr(value, "__name__", value)
)
def test_a_row_has_the_status_of_both_doors(kind: type[PointsmanError], reason: str) -> None:
    """The gRPC status and, where HTTP callers meet it, the HTTP status and code are those that the doors give."""
    row, error = rows()[reason], made(kind, reason)
    assert row.grpc == code_of(error).name
    if row.http != "—":
        answer = from_failure(error, {})
        assert row.http.split(";")[0] == shown(answer)
        if answer.headers.items() >= DO_NOT_RETRY.items():
            assert row.retry.startswith("no")


def test_every_row_says_whether_to_retry_and_what_to_do() -> None:
    """In one of few words, so that a reader can act on it without reading further."""
    for reason, row in rows().items():
        assert row.retry.split(";")[0].removesuffix(", unless a time is given") in RETRIES, reason
        assert row.advice, reason


def test_lasting_failures_are_not_retried_without_a_time() -> None:
    """The reasons of `LASTING`, and no others, depend on a time being given."""
    assert {reason for reason, row in rows().items() if "unless a time" in row.retry} == LASTING


def test_every_code_of_http_is_documented() -> None:
    """A code that the HTTP door alone gives is in docs/http.md; the router's reasons have theirs in the table."""
    calls, places = [], {}
    for node in nodes("libs/http", "services/router/api"):
        if isinstance(node, ast.Call):
            calls.append(node)
        if isinstance(node, ast.FunctionDef) and "code" in (names := [arg.arg for arg in node.args.args]):
            places[node.name] = names.index("code")
    codes: set[str] = set()
    for call in calls:
        given = [k.value for k in call.keywords if k.arg == "code"]
        if isinstance(call.func, ast.Name) and (place := places.get(call.func.id)) is not None:
            given += call.args[place : place + 1]
        codes |= {text for value in given for text in texts(value)}
    table = " ".join(row.http for row in rows().values())
    documented = set(re.findall(r"`([a-z_]+)`", (ROOT / "docs" / "http.md").read_text() + table))
    assert {"invalid_json", "missing_required_parameter"} <= codes
    assert codes <= documented
