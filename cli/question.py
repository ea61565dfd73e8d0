"""The options, columns and last line that the reports share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, tzinfo
from typing import Annotated
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer
from rich.text import Text

from cli import options as opt
from cli.failure import CliError
from cli.layout import Column, Kind, Value
from cli.render import seconds, words
from libs.client import CostGroup, CostInterval, ReportBasis, ReportQuestion
from libs.clock import Clock

By = Annotated[
    list[CostGroup] | None,
    typer.Option(help="Group by this; repeat for up to 3.", show_default="provider", case_sensitive=False),
]
ByLabel = Annotated[str, typer.Option(help="Also group by this label of callers.", show_default=False)]
Since = Annotated[str, typer.Option(help="From when: 24h, 7d, 2026-11-01 or 2026-11-01T08:00+01:00.")]
Until = Annotated[str, typer.Option(help="Until when, likewise.", show_default="now")]
Interval = Annotated[
    CostInterval | None, typer.Option(help="Also cut into time buckets.", show_default=False)
]
Zone = Annotated[str, typer.Option(help="IANA time zone of days, months and dates.")]
Tenant = Annotated[str, typer.Option(help="Only this tenant.", show_default=False)]
Provider = Annotated[str, typer.Option(help="Only this provider.", show_default=False)]
Model = Annotated[str, typer.Option(help="Only this model.", show_default=False)]
ContentType = Annotated[str, typer.Option(help="Only this content type.", show_default=False)]
Label = Annotated[
    list[str] | None,
    typer.Option(help="Only what has this label: KEY=VALUE; repeat for up to 4.", show_default=False),
]


@dataclass(frozen=True, slots=True)
class Question:
    """The question of a report: `groups` and `asked` go to the server, the rest is for its answer's table."""

    groups: list[CostGroup]
    asked: ReportQuestion
    zone: tzinfo
    fields: dict[str, object] = field(default_factory=dict)

    @property
    def interval(self) -> CostInterval | None:
        """Returns the width of buckets; None: there are none."""
        return self.asked.get("interval")

    def columns(self) -> list[Column]:
        """Returns the columns of bucket and groups."""
        bucket = [] if self.interval is None else [Column(words(self.interval))]
        label = self.asked.get("by_label")
        names = [*(words(group) for group in self.groups), *([label] if label else [])]
        return [*bucket, *(Column(name, Kind.NAME) for name in names)]

    def cells(self, group: Sequence[str], bucket: float | None) -> list[Value]:
        """Returns the cells of bucket and groups."""
        found = [] if self.interval is None else [self._bucket(bucket)]
        return [*found, *(Value(Text(value or "—", "cyan"), value) for value in group)]

    def _bucket(self, bucket: float | None) -> Value:
        if bucket is None:
            return Value("", None)
        moment = datetime.fromtimestamp(bucket, self.zone)
        if self.interval is CostInterval.MONTH:
            return Value(f"{moment:%Y-%m}", f"{moment:%Y-%m}")
        if self.interval is CostInterval.DAY:
            return Value(f"{moment:%Y-%m-%d}", f"{moment:%Y-%m-%d}")
        return Value(f"{moment:%Y-%m-%d %H:%M}", moment.isoformat())


def parse_question(
    by: Sequence[CostGroup] | None,
    by_label: str,
    since: str,
    until: str,
    interval: CostInterval | None,
    time_zone: str,
    now: float,
    *,
    labels: Sequence[str] | None = None,
    tenant: str = "",
    provider: str = "",
    model: str = "",
    content_type: str = "",
) -> Question:
    """Returns the question of the options. Raises CliError."""
    groups = list(by or ([] if by_label else [CostGroup.PROVIDER]))
    if len(groups) > 3:
        raise CliError("--by: at most 3 groups")
    zone = parse_zone(time_zone)
    begin = opt.parse_time(since, now, zone, "--since")
    end = opt.parse_time(until, now, zone, "--until") if until else None
    if begin >= (end if end is not None else now):
        raise CliError("--since must be before --until")
    asked = ReportQuestion(
        since=begin,
        until=end,
        interval=interval,
        time_zone=time_zone,
        tenant=tenant,
        provider=provider,
        model=model,
        content_type=content_type,
        labels=parse_labels(labels or []),
        by_label=by_label,
    )
    return Question(groups, asked, zone, {"by": groups, "since": begin, "until": end})


def parse_zone(name: str) -> ZoneInfo:
    """Returns the time zone. Raises CliError for one that does not exist."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise CliError(f"--time-zone: {name!r} is not an IANA time zone") from None


def parse_labels(texts: Sequence[str]) -> dict[str, str]:
    """Returns the labels of "KEY=VALUE" texts. Raises CliError."""
    found = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not key or not separator:
            raise CliError(f"--label: {text!r} is not of the form KEY=VALUE")
        if key in found:
            raise CliError(f"--label: {key!r} is given twice")
        found[key] = value
    return found


def freshness(basis: ReportBasis, clock: Clock) -> Text:
    """Returns the sentence on what an answer was computed from, and how fresh it is."""
    sources = ", ".join(words(source) for source in basis.computed_from) or "nothing"
    if basis.last_commit is None:
        return Text(f"Computed from {sources}; nothing was recorded yet.", "dim")
    ago = seconds(max(0.0, clock.now() - basis.last_commit))
    late = f", then {seconds(basis.lag)} behind" if basis.lag else ""
    return Text(f"Computed from {sources}; last recorded {ago} ago{late}.", "dim")
