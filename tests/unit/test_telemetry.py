"""What logs hold, and what they never do."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from libs.telemetry import configure_logging
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


def test_what_callers_send_as_trace_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    """A line at WARNING held the malformed `tracestate` of each call, so anybody could flood the log or write in it.
    It is dropped; the trace goes on. What other libraries warn of is still logged."""
    configure_logging("router")
    for state in ("injected line", "a=1,a=2", "=", "x" * 600, "k=v\n{}"):
        parent = parent_of(TRACEPARENT, state)
        assert parent is not None
        assert not parent.trace_state
    assert parent_of("0" * 600, "") is None
    logging.getLogger("another").warning("seen")
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["event"] == "seen"


def test_a_sound_tracestate_goes_along() -> None:
    """As its vendor wrote it."""
    parent = parent_of(TRACEPARENT, "vendor=1,other=2")
    assert parent is not None
    assert parent.trace_state.to_header() == "vendor=1,other=2"
