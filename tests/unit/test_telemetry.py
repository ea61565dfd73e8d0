"""The contents of logs, and what never stands in them."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from libs.telemetry import configure_logging, get_logger
from libs.tracing import parent_of

TRACEPARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    """Logging is the process's: give it back as it was."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


def test_what_callers_send_as_trace_is_not_logged(capfd: pytest.CaptureFixture[str]) -> None:
    """A line at WARNING held the malformed `tracestate` of each call, so anybody could flood the log or write in it.
    It is dropped; the trace goes on. What other libraries warn of is still logged."""
    configure_logging("router")
    for state in ("injected line", "a=1,a=2", "=", "x" * 600, "k=v\n{}"):
        parent = parent_of(TRACEPARENT, state)
        assert parent is not None
        assert not parent.trace_state
    assert parent_of("0" * 600, "") is None
    logging.getLogger("another").warning("seen")
    (line,) = capfd.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "seen"


def test_a_log_that_cannot_be_written_fails_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a full disk behind stderr every line raised OSError where it was logged, in the middle of calls. It is
    lost and counted."""
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stderr", full)
        stream = configure_logging("router")
        get_logger("one").error("event", key=1)
        logging.getLogger("another").error("event")
    assert stream.lost == 2


def test_a_sound_tracestate_goes_along() -> None:
    """As its vendor wrote it."""
    parent = parent_of(TRACEPARENT, "vendor=1,other=2")
    assert parent is not None
    assert parent.trace_state.to_header() == "vendor=1,other=2"


@pytest.mark.parametrize(
    "header",
    [
        TRACEPARENT,
        TRACEPARENT[:-2] + "00",
        TRACEPARENT[:-2] + "ff",
        "00-" + "0" * 32 + "-b7ad6b7169203331-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01",
        "ff" + TRACEPARENT[2:],
        "01" + TRACEPARENT[2:],
        "01" + TRACEPARENT[2:] + "-more",
        TRACEPARENT + "-more",
        TRACEPARENT.upper(),
        TRACEPARENT[:-1],
        f" {TRACEPARENT} ",
        TRACEPARENT.replace("4", "٤", 1),
        TRACEPARENT + "\n",
        "",
    ],
)
def test_a_caller_is_understood_as_opentelemetry_understands_it(header: str) -> None:
    """Our short way for the plain header gives what its parser gives, for sound and unsound ones."""
    carried = trace.get_current_span(TraceContextTextMapPropagator().extract({"traceparent": header}))
    theirs = carried.get_span_context()
    assert parent_of(header) == (theirs if theirs.is_valid else None)
