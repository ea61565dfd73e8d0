"""Addresses, amounts, instants, errors and what a person sees."""

from __future__ import annotations

import fcntl
import io
import json
import random
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
import typer
from msgspec import structs
from rich.console import Console

from cli.addresses import Endpoint, client, find
from cli.batch import LONGEST_BACKOFF, retry_delay
from cli.failure import CliError, reporting
from cli.options import micro_usd, parse_time
from cli.question import parse_zone
from cli.render import money, printable, render_result, seconds, tokens
from libs.client import Attempt, Client, Degradation, Result, Selection, SelectionReason
from libs.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    FieldViolation,
    InvalidArgument,
    PointsmanError,
    QuotaViolation,
    ResourceExhausted,
    Unavailable,
)
from libs.types import ErrorClass, FinishReason, Usage, UsageAccuracy

STATE = {
    "router": "127.0.0.1:7700",
    "health": "127.0.0.1:7701",
    "tenant_key": "dev-key",
    "service_token": "dev-token",
}


def stack(path: Path, content: str | None = None) -> tuple[Path, ...]:
    (path / "stack.json").write_text(json.dumps(STATE) if content is None else content)
    return (path,)


def test_the_local_stack_is_found(tmp_path: Path) -> None:
    """Address and key, the tenant's for the router and the service token inside."""
    places = stack(tmp_path)
    assert find("router", None, None, places=places) == Endpoint("router", "127.0.0.1:7700", "dev-key")
    assert find("health", "", "", places=places) == Endpoint("health", "127.0.0.1:7701", "dev-token")


def test_a_stack_that_was_killed_is_not_called(tmp_path: Path) -> None:
    """Its state file stays; the lock that it held is free. Its addresses may be somebody else's by now, so neither
    they nor its keys are used."""
    places = stack(tmp_path)
    with (tmp_path / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert find("router", None, None, places=places).key == "dev-key"
    with pytest.raises(CliError, match=f"the local stack of {tmp_path} was killed: start"):
        find("router", None, None, places=places)
    assert find("router", "127.0.0.1:7700", None, places=places) == Endpoint("router", "127.0.0.1:7700", "")
    (running := tmp_path / "other").mkdir()
    assert find("router", None, None, places=(*places, *stack(running))).key == "dev-key"


def test_what_is_said_comes_before_the_local_stack(tmp_path: Path) -> None:
    """And the stack's key is not shown to a server elsewhere."""
    places = stack(tmp_path)
    assert find("router", "far:1", None, places=places) == Endpoint("router", "far:1", "")
    assert find("router", None, "mine", places=places).key == "mine"
    assert find("router", "127.0.0.1:7700", None, places=places).key == "dev-key"


@pytest.mark.parametrize("content", [None, "{}", '{"router": ""}'])
def test_without_an_address_one_sentence_says_how_to_start(tmp_path: Path, content: str | None) -> None:
    """It names `make run`."""
    places = (tmp_path,) if content is None else stack(tmp_path, content)
    with pytest.raises(CliError, match="make run"):
        find("router", None, None, places=places)


@pytest.mark.parametrize("content", ["", "[]", "{", '{"router": 5}'])
def test_a_broken_state_file_is_named(tmp_path: Path, content: str) -> None:
    """Not a traceback."""
    with pytest.raises(CliError, match=r"stack\.json"):
        find("router", None, None, places=stack(tmp_path, content))


def test_a_key_that_can_never_work_is_a_mistake_of_use() -> None:
    """And is not repeated in the message."""
    with pytest.raises(CliError) as caught:
        client(Client, Endpoint("router", "h:1", "schlüssel"), 1.0)
    assert "schlüssel" not in caught.value.message


@pytest.mark.parametrize(("text", "amount"), [("0.005", 5000), ("$1", 1_000_000), ("0.000001", 1)])
def test_dollars_become_millionths_exactly(text: str, amount: int) -> None:
    """No float in between."""
    assert micro_usd(text) == amount


@pytest.mark.parametrize("text", ["0", "-1", "0.0000001", "x", "nan", "inf", "1e30", ""])
def test_what_is_no_amount_is_refused(text: str) -> None:
    """Zero, negative, finer than a millionth, absurd."""
    with pytest.raises(CliError):
        micro_usd(text)


def test_instants() -> None:
    """Ago, a date in the zone, a date and time with its own offset."""
    zone = ZoneInfo("Europe/Vienna")
    assert parse_time("24h", 100_000.0, zone, "--since") == 100_000.0 - 86_400
    assert parse_time("2026-07-01", 0.0, zone, "--since") == 1_782_856_800.0
    assert parse_time("2026-07-01T00:00+00:00", 0.0, zone, "--since") == 1_782_864_000.0
    for wrong in ("", "yesterday", "5y", "-3d"):
        with pytest.raises(CliError, match="--since"):
            parse_time(wrong, 0.0, zone, "--since")
    for wrong in ("Mars/Olympus", "", "../etc/passwd"):
        with pytest.raises(CliError, match="--time-zone"):
            parse_zone(wrong)


def test_what_may_be_tried_again() -> None:
    """A named wait is never undercut; what waiting cannot help is not waited for."""
    rng = random.Random(7)
    assert 2.0 < (retry_delay(ResourceExhausted("", retry_after=2.0), 0, rng) or 0) <= 2.25
    assert 3.0 < (retry_delay(Unavailable("", retry_after=3.0), 0, rng) or 0) <= 3.25
    assert (retry_delay(Unavailable("", retry_after=0.0), 0, rng) or 0) > 0.1
    assert retry_delay(ResourceExhausted("never"), 0, rng) is None
    assert retry_delay(Unavailable("no time named", reason="ALL_PROVIDERS_FAILED"), 0, rng) is None
    assert retry_delay(Unavailable("", reason="TRANSPORT_UNAVAILABLE"), 0, rng) is not None
    assert retry_delay(AlreadyExists(""), 0, rng) is not None
    assert retry_delay(DeadlineExceeded(""), 0, rng) is None
    assert retry_delay(FailedPrecondition("", retry_after=1.0), 0, rng) is None
    long = retry_delay(Unavailable("", reason="TRANSPORT_UNAVAILABLE"), 10_000, rng)
    assert long is not None
    assert long <= LONGEST_BACKOFF


def test_figures_for_a_person() -> None:
    """Money to the millionth, time in its natural unit, tokens with what is special."""
    assert [money(v) for v in (None, 0, 50, 1_234_567, 2_000_000_049, -50)] == [
        "—",
        "$0.000000",
        "$0.000050",
        "$1.2346",
        "$2,000.0000",
        "-$0.000050",
    ]
    assert [seconds(v) for v in (None, 0.0004, 0.25, 1.5, 61, 7200)] == [
        "—",
        "0 ms",
        "250 ms",
        "1.50 s",
        "1 min 01 s",
        "2 h 00 min",
    ]
    usage = Usage(1200, 30, cache_read_tokens=1000, accuracy=UsageAccuracy.ESTIMATED)
    assert tokens(usage) == "1,200 in, 30 out (1,000 from cache, estimated)"


def rendered(result: Result) -> str:
    out = io.StringIO()
    Console(file=out, width=100).print(render_result(result))
    return out.getvalue()


RESULT = Result(
    request_id="req-1",
    text="A fine mug.",
    selection=Selection("alpha", "small", SelectionReason.LOAD_BALANCE, "equals share"),
    attempts=(
        Attempt("1", "beta", "large", ErrorClass.RATE_LIMITED, http_status=429),
        Attempt("2", "alpha", "small"),
    ),
    finish_reason=FinishReason.STOP,
    usage=Usage(10, 20),
    cost_micro_usd=50,
    latency=1.25,
    time_to_first_token=0.2,
)


def test_an_answer_shows_all_that_matters() -> None:
    """Provider, reason, attempts, latency, tokens and cost."""
    shown = rendered(RESULT)
    for text in (
        "A fine mug.",
        "alpha / small",
        "load balance — equals share",
        "2  beta rate limited 429 → alpha ok",
        "1.25 s (first token after 200 ms)",
        "10 in, 20 out",
        "$0.000050",
        "req-1",
    ):
        assert text in shown
    assert "incomplete" not in shown


def test_a_cut_answer_is_shown_as_such() -> None:
    """A truncated answer never looks like a whole one; a degraded one says so."""
    shown = rendered(
        structs.replace(
            RESULT, finish_reason=FinishReason.LENGTH, degradation=Degradation.STALE_CACHE, cached=True
        )
    )
    assert "ended early: length" in shown
    assert "stale cache" in shown


def test_a_models_words_cannot_drive_the_terminal() -> None:
    """Neither escape sequences nor rich markup are obeyed."""
    shown = rendered(structs.replace(RESULT, text="\x1b[31m[bold]x[/bold]\x07\r\x9b0m"))
    assert "\x1b" not in shown
    assert "[bold]x[/bold]" in shown
    assert printable("a\x1b\x9b\r\nb\tü") == "a\nb\tü"


@pytest.mark.parametrize(
    ("error", "code", "expected"),
    [
        (CliError("bad", problems=("p",)), 2, {"reason": "BAD_USE", "problems": ["p"]}),
        (
            InvalidArgument([FieldViolation("f", "d")]),
            1,
            {"violations": [{"field": "f", "description": "d"}]},
        ),
        (
            ResourceExhausted("full", [QuotaViolation("s", "d", limit=5)], retry_after=1.5),
            1,
            {"retry_after": 1.5, "violations": [{"subject": "s", "description": "d", "limit": 5}]},
        ),
        (PointsmanError("x", metadata={"k": "v"}), 1, {"type": "PointsmanError", "metadata": {"k": "v"}}),
    ],
)
def test_errors_as_json(
    capsys: pytest.CaptureFixture[str], error: Exception, code: int, expected: dict[str, object]
) -> None:
    """One object on stderr, with the exit status in it."""
    with pytest.raises(typer.Exit) as caught, reporting(True):
        raise error
    out, err = capsys.readouterr()
    assert (caught.value.exit_code, out) == (code, "")
    shown = json.loads(err)
    assert shown["exit_code"] == code
    assert shown["error"].items() >= expected.items()


def test_an_error_for_a_person_has_no_markup_and_all_details(capsys: pytest.CaptureFixture[str]) -> None:
    """Each violated dimension on its line, and when to come back."""
    error = ResourceExhausted("no [red]room", [QuotaViolation("tenant:acme", "100 of 100")], retry_after=2)
    with pytest.raises(typer.Exit), reporting(False, "the router"):
        raise error
    shown = capsys.readouterr().err
    for text in ("error: no [red]room", "tenant:acme: 100 of 100", "again in 2 s"):
        assert text in shown
