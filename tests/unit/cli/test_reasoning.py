"""A model's thoughts on the command line: shown where they are asked for, apart from the answer."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from cli.generate import StreamView
from cli.render import render_result
from cli.terminal import Flow
from libs.client import Delta, Reasoning, ReasoningDelta, Restarted, Result, Selection

THOUGHT = Delta(reasoning=(ReasoningDelta(0, Reasoning("hm")),))
RESTARTED = Restarted("a", Selection("b", "m"))


def _streamed(*events: Delta | Restarted, show: bool) -> str:
    out = io.StringIO()
    view = StreamView(Flow(Console(file=out, width=80)), show_reasoning=show)
    for event in events:
        view.show(event)
    return out.getvalue()


def test_thoughts_are_streamed_apart_from_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    """On standard error, and only where they are asked for."""
    assert "hm" not in _streamed(THOUGHT, Delta("said "), show=True)
    assert capsys.readouterr().err == "hm\n\n"
    _streamed(THOUGHT, Delta("said "), show=False)
    assert capsys.readouterr().err == ""


def test_a_new_beginning_is_told_only_where_something_was_shown() -> None:
    """Thoughts that nobody saw need not be disregarded."""
    assert "disregard" not in _streamed(THOUGHT, RESTARTED, show=False)
    assert "disregard" in _streamed(THOUGHT, RESTARTED, show=True)
    assert "disregard" in _streamed(Delta("said "), RESTARTED, show=False)


def test_thoughts_of_a_whole_answer_come_before_it() -> None:
    """In a frame of their own; a refusal is shown as the answer."""
    result = Result("r", "", Selection("a", "m"), reasoning=(Reasoning("hm"),), refusal="No.")
    shown = io.StringIO()
    Console(file=shown, width=80).print(render_result(result, show_reasoning=True))
    assert shown.getvalue().index("hm") < shown.getvalue().index("No.")
    hidden = io.StringIO()
    Console(file=hidden, width=80).print(render_result(result))
    assert "hm" not in hidden.getvalue()
