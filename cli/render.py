"""Renders one answer for a person, and money, time and tokens as all tables show them."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from decimal import Decimal

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.text import Text

from cli.layout import Facts, Value, wrap
from libs.client import Attempt, Result, Selection
from libs.types import FinishReason, Usage, UsageAccuracy

_WHOLE = {FinishReason.STOP, FinishReason.TOOL_CALLS}


def money(micro_usd: int | None) -> str:
    """Returns US dollars: to the millionth below one dollar, to the hundredth of a cent above; a dash where
    unknown."""
    if micro_usd is None:
        return "—"
    sign, amount = ("-" if micro_usd < 0 else ""), abs(micro_usd)
    if amount < 1_000_000:
        return f"{sign}$0.{amount:06d}"
    whole, rest = divmod((amount + 50) // 100, 10_000)
    return f"{sign}${whole:,}.{rest:04d}"


def seconds(value: float | None) -> str:
    """Returns a duration for a person; a dash where unknown."""
    if value is None:
        return "—"
    if value < 1:
        return f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.2f} s"
    minutes, rest = divmod(round(value), 60)
    return f"{minutes} min {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def money_cell(micro_usd: int | None) -> Value:
    """Returns the cell of an amount of money; its value is exact, in US dollars."""
    if micro_usd is None:
        return Value("—", None)
    return Value(money(micro_usd), Decimal(micro_usd).scaleb(-6))


def seconds_cell(value: float | None) -> Value:
    """Returns the cell of a duration."""
    return Value(seconds(value), value)


def count_cell(value: int) -> Value:
    """Returns the cell of a number."""
    return Value(f"{value:,}", value)


def share_cell(value: float | None) -> Value:
    """Returns the cell of a share from 0 to 1: a percentage that is 100 only where nothing is missing, and 0 only
    where there is nothing."""
    if value is None:
        return Value("—", None)
    shown = f"{value:.2%}"
    if shown == "100.00%" and value < 1:
        shown = "> 99.99%"
    return Value("< 0.01%" if shown == "0.00%" and value > 0 else shown.replace("100.00%", "100%"), value)


def tokens(usage: Usage) -> str:
    """Returns tokens in and out, with what is special about them."""
    extras = [
        f"{count:,} {name}"
        for count, name in (
            (usage.cache_read_tokens, "from cache"),
            (usage.cache_write_tokens, "to cache"),
            (usage.reasoning_tokens, "reasoning"),
        )
        if count
    ]
    if usage.accuracy is not UsageAccuracy.EXACT:
        extras.append(usage.accuracy.value)
    return f"{usage.input_tokens:,} in, {usage.output_tokens:,} out" + (
        f" ({', '.join(extras)})" if extras else ""
    )


def printable(text: str) -> str:
    """Returns the text without control characters, which a terminal would obey: a model's words may be anyone's."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in {"Cc", "Cs"})


def words(name: str) -> str:
    """Returns a name with spaces: `load_balance` → `load balance`."""
    return name.replace("_", " ")


def choice(selection: Selection) -> Text:
    """Returns provider and model."""
    return Text.assemble((selection.provider, "bold cyan"), f" / {selection.model}")


def why(selection: Selection) -> str:
    """Returns the reason, and the explanation where there is one."""
    reason = words(selection.reason) if selection.reason else ""
    return printable(" — ".join(part for part in (reason, selection.explanation) if part)) or "—"


def render_result(
    result: Result, *, title: str = "Answer", show_text: bool = True, show_reasoning: bool = False
) -> RenderableType:
    """Renders one answer with provider, reason, attempts, latency, tokens and cost. `show_text=False` where the text
    was already printed while it streamed. `show_reasoning`: the model's thoughts come first."""
    facts = Facts()
    facts.add("provider", choice(result.selection))
    facts.add("reason", why(result.selection))
    facts.add("attempts", _attempts(result.attempts))
    facts.add("latency", _latency(result))
    facts.add("tokens", tokens(result.usage))
    facts.add("cost", Text(money(result.cost_micro_usd), "green"))
    if result.cached:
        facts.add("cache", "answered from the cache")
    if result.degradation is not None:
        facts.add("degraded", Text(words(result.degradation), "yellow"))
    for notice in result.budgets:
        facts.add("budget", Text(printable(words(str(notice))), "yellow"))
    if result.finish_reason not in _WHOLE:
        reason = words(result.finish_reason) if result.finish_reason else "unknown"
        facts.add("incomplete", Text(f"the answer ended early: {reason}", "yellow"))
    facts.add("request", Text(result.request_id, "dim"))
    parts: list[RenderableType] = [facts]
    if show_text:
        body = [printable(text) for text in (result.text, result.refusal) if text]
        body += [printable(f"{call.name}({call.arguments_json})") for call in result.tool_calls]
        panel = Panel(_Wrapped(Text("\n".join(body))), title=title, title_align="left", box=box.ROUNDED)
        parts.insert(0, panel)
    thoughts = "\n\n".join([printable(thought.text) for thought in result.reasoning if thought.text])
    if show_reasoning and thoughts:
        thought = _Wrapped(Text(thoughts, "dim"))
        parts.insert(0, Panel(thought, title="Thoughts", title_align="left", box=box.ROUNDED))
    return Group(*parts)


class _Wrapped:
    """A text whose words are broken only where they are longer than a line."""

    def __init__(self, text: Text) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield from wrap(self._text, options.max_width)


def _attempts(attempts: Sequence[Attempt]) -> Text:
    text = Text(str(len(attempts)))
    if len(attempts) < 2:
        return text
    text.append("  ")
    for position, attempt in enumerate(attempts):
        text.append(" → " if position else "")
        text.append(f"{attempt.provider} ")
        if attempt.error_class is None:
            text.append("ok", "green")
        else:
            status = f" {attempt.http_status}" if attempt.http_status else ""
            text.append(f"{words(attempt.error_class)}{status}", "red")
    return text


def _latency(result: Result) -> str:
    first = result.time_to_first_token
    return seconds(result.latency) + ("" if first is None else f" (first token after {seconds(first)})")
