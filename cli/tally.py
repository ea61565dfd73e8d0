"""The figures of a batch, and its closing table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from cli.layout import Column, Facts, Kind, Table
from cli.record import Outcome
from cli.render import money, seconds
from libs.client import Result
from libs.errors import PointsmanError
from libs.types import FinishReason


@dataclass(slots=True)
class ProviderTally:
    """One provider's part. Cost and tokens are of its attempts, failed ones included."""

    answered: int = 0
    failed_attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_micro_usd: int = 0


@dataclass(slots=True)
class Tally:
    """Counts of one run. `failovers`: rows answered after more than one attempt, but for those by another key or
    endpoint of a provider. `incomplete`: answered, but cut short (by the token limit or a filter)."""

    succeeded: int = 0
    failed: int = 0
    failovers: int = 0
    incomplete: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_micro_usd: int = 0
    providers: dict[str, ProviderTally] = field(default_factory=dict)
    errors: Counter[str] = field(default_factory=Counter)

    def add(self, outcome: Outcome) -> None:
        """Counts one row."""
        answer = outcome.answer
        if isinstance(answer, PointsmanError):
            self.failed += 1
            self.errors[answer.reason] += 1
            return
        self.succeeded += 1
        self.failovers += any(attempt.switched is None for attempt in answer.attempts[1:])
        self.incomplete += answer.finish_reason not in {FinishReason.STOP, FinishReason.TOOL_CALLS}
        self.input_tokens += answer.usage.input_tokens
        self.output_tokens += answer.usage.output_tokens
        self.cost_micro_usd += answer.cost_micro_usd
        self._add_providers(answer)

    def _add_providers(self, answer: Result) -> None:
        self._of(answer.selection.provider).answered += 1
        for attempt in answer.attempts:
            provider = self._of(attempt.provider)
            provider.failed_attempts += attempt.error_class is not None
            provider.cost_micro_usd += attempt.cost_micro_usd or 0
            if attempt.usage is not None:
                provider.input_tokens += attempt.usage.input_tokens
                provider.output_tokens += attempt.usage.output_tokens

    def _of(self, provider: str) -> ProviderTally:
        return self.providers.setdefault(provider, ProviderTally())


@dataclass(frozen=True, slots=True)
class Run:
    """A run that ended: its figures and its frame. `skipped` rows were done by earlier runs, `kept_failures` of them
    as failures; `elapsed` in seconds."""

    tally: Tally
    rows: int
    skipped: int
    kept_failures: int
    elapsed: float
    run_id: str
    output: str

    @property
    def remaining(self) -> int:
        """Returns the rows without a line in the output."""
        return self.rows - self.skipped - self.tally.succeeded - self.tally.failed

    def to_json(self) -> dict[str, Any]:
        """Returns the closing table for a program."""
        tally = self.tally
        return {
            "run_id": self.run_id,
            "output": self.output,
            "rows": self.rows,
            "skipped": self.skipped,
            "succeeded": tally.succeeded,
            "failed": tally.failed,
            "remaining": self.remaining,
            "failovers": tally.failovers,
            "incomplete": tally.incomplete,
            "input_tokens": tally.input_tokens,
            "output_tokens": tally.output_tokens,
            "cost_micro_usd": tally.cost_micro_usd,
            "elapsed_seconds": round(self.elapsed, 3),
            "providers": {
                name: {
                    "answered": part.answered,
                    "failed_attempts": part.failed_attempts,
                    "input_tokens": part.input_tokens,
                    "output_tokens": part.output_tokens,
                    "cost_micro_usd": part.cost_micro_usd,
                }
                for name, part in sorted(tally.providers.items())
            },
            "errors": dict(sorted(tally.errors.items())),
        }

    def render(self) -> RenderableType:
        """Renders the closing table for a person."""
        parts: list[RenderableType] = [_totals(self)]
        if self.tally.providers:
            parts.append(_by_provider(self.tally.providers))
        return Group(*parts)


def _totals(run: Run) -> Facts:
    tally = run.tally
    facts = Facts(right=True)
    facts.add("succeeded", Text(f"{tally.succeeded:,}", "green"))
    facts.add("failed", Text(f"{tally.failed:,}", "red" if tally.failed else ""))
    for reason, count in tally.errors.most_common():
        facts.add(f"  {reason}", f"{count:,}")
    facts.add("failovers", f"{tally.failovers:,}")
    if tally.incomplete:
        facts.add("cut short", Text(f"{tally.incomplete:,}", "yellow"))
    if run.skipped:
        facts.add("done before", f"{run.skipped:,}")
    if run.remaining:
        facts.add("not done", Text(f"{run.remaining:,}", "yellow"))
    facts.add("tokens in", f"{tally.input_tokens:,}")
    facts.add("tokens out", f"{tally.output_tokens:,}")
    facts.add("cost", Text(money(tally.cost_micro_usd), "green"))
    facts.add("elapsed", seconds(run.elapsed))
    return facts


def _by_provider(providers: Mapping[str, ProviderTally]) -> Table:
    figures = ("answered", "failed attempts", "tokens in", "tokens out", "cost")
    table = Table(Column("provider", Kind.NAME), *(Column(name, Kind.FIGURE) for name in figures))
    for name, part in sorted(providers.items()):
        table.add_row(
            name,
            f"{part.answered:,}",
            f"{part.failed_attempts:,}",
            f"{part.input_tokens:,}",
            f"{part.output_tokens:,}",
            money(part.cost_micro_usd),
        )
    return table
