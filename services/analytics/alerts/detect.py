"""Decides from what was read of the ledger which alerts are raised, go on, and are over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from services.analytics.alerts.alert import PPM, Alert, AlertKind, Expectation, Mover, Severity, Subject
from services.analytics.alerts.anomaly import Baseline, Ordinary, Width
from services.analytics.alerts.shares import ERROR_WINDOW, Count, UsualShare, burning

#: An alert that is raised again within this time of its end is the same one, seconds: amounts that swing about the
#: threshold are one anomaly.
SAME_WITHIN = 86_400.0
_MILLION = 1_000_000
Condition = tuple[AlertKind, Subject]


@dataclass(frozen=True, slots=True)
class Finding:
    """A condition that holds now; the figures as in `Alert`."""

    kind: AlertKind
    subject: Subject
    severity: Severity
    amount: int
    unit: str
    span: float
    expected: Expectation
    burn_rate: float | None = None

    @property
    def condition(self) -> Condition:
        """The condition and its subject."""
        return self.kind, self.subject


@dataclass(frozen=True, slots=True)
class Watched:
    """The spend of one subject: for each width its baseline, and the amounts of its last span and of those that ended
    a `LOOK` earlier each, as many as it has looks."""

    subject: Subject
    spans: Sequence[tuple[Width, Baseline, Sequence[float]]]


def find_spend(watched: Watched, part: float, standing: float | None) -> Finding | None:
    """Returns the anomaly of a subject's spend; of two widths that of the shorter. `part`: the part of an hour that
    the spans end after the baselines' series; `standing`: the span of the alert that stands, None: none does."""
    for width, baseline, amounts in watched.spans:
        stands = standing == width.seconds
        ordinary = baseline.exceeded(amounts, part, baseline.end, standing=stands)
        if ordinary is not None:
            return Finding(
                AlertKind.SPEND_ANOMALY,
                watched.subject,
                Severity.WARNING,
                round(amounts[0]),
                "micro_usd",
                width.seconds,
                _expected(ordinary),
            )
    return None


def _expected(ordinary: Ordinary) -> Expectation:
    return Expectation(round(ordinary.expected), None, round(ordinary.high))


def find_errors(subject: Subject, now: Count, usual: UsualShare, *, standing: bool) -> Finding | None:
    """Returns the anomaly of a subject's failed attempts in the last ERROR_WINDOW."""
    if not usual.is_anomaly(now, standing=standing):
        return None
    expected = Expectation(round(usual.usual * _MILLION), None, round(usual.high * _MILLION))
    amount = round(now.share * _MILLION)
    return Finding(AlertKind.ERROR_ANOMALY, subject, Severity.WARNING, amount, PPM, ERROR_WINDOW, expected)


def find_drop(
    subject: Subject, counts: Sequence[tuple[Count, Count]], objective: float, *, standing: bool
) -> Finding | None:
    """Returns the drop in reliability that a subject's callers saw. `counts`: as `burning` has them."""
    found = burning(counts, objective, standing=standing)
    if found is None:
        return None
    pair, long, rate = found
    allowed = round((1 - objective) * _MILLION)
    expected = Expectation(allowed, None, min(_MILLION, round(pair.rate * (1 - objective) * _MILLION)))
    return Finding(
        *(AlertKind.RELIABILITY_DROP, subject, pair.severity, round(long.share * _MILLION), PPM),
        *(pair.long, expected, round(rate, 2)),
    )


def once(findings: Iterable[Finding], last: Mapping[Condition, Alert], now: float) -> list[Finding]:
    """Returns the findings without those that tell of the same again: that all traffic costs more where some tenant's
    does, and that some tenant's callers get errors where all callers do. What stands already goes on."""
    found = list(findings)
    narrow = {finding.kind for finding in found if finding.subject}
    broad = {finding.kind for finding in found if not finding.subject}

    def is_told(finding: Finding) -> bool:
        if finding.kind is AlertKind.SPEND_ANOMALY:
            return not finding.subject and finding.kind in narrow
        return finding.kind is AlertKind.RELIABILITY_DROP and bool(finding.subject) and finding.kind in broad

    return [finding for finding in found if not is_told(finding) or not is_raised(finding, last, now)]


def changes(
    findings: Sequence[Finding],
    last: Mapping[Condition, Alert],
    movers: Mapping[Condition, tuple[Mover, ...]],
    now: float,
) -> list[Alert]:
    """Returns the records to keep: of alerts that are raised, that go on with other figures, and that are over.
    `last`: the last alert of each condition, standing or over; `movers`: of those raised now."""
    held = {finding.condition for finding in findings}
    found = [_go_on(finding, last.get(finding.condition), movers, now) for finding in findings]
    over = [
        replace(alert, as_of=now, cleared=now)
        for condition, alert in last.items()
        if alert.stands(now) and condition not in held
    ]
    return found + over


def is_raised(finding: Finding, last: Mapping[Condition, Alert], now: float) -> bool:
    """Returns True if no alert of the finding's condition stands yet."""
    alert = last.get(finding.condition)
    return alert is None or not alert.stands(now)


def _go_on(
    finding: Finding, alert: Alert | None, movers: Mapping[Condition, tuple[Mover, ...]], now: float
) -> Alert:
    known = movers.get(finding.condition)
    if alert is None or (alert.cleared is not None and now - alert.cleared > SAME_WITHIN):
        return Alert(
            *(finding.kind, finding.severity, finding.subject, now, now, now, None),
            *(finding.amount, finding.unit),
            span=finding.span,
            expected=finding.expected,
            movers=known or (),
            burn_rate=finding.burn_rate,
        )
    # While it stands its severity does not fall, else one that swings would be announced at each rise.
    ranked = sorted((alert.severity, finding.severity), key=list(Severity).index)
    return replace(
        alert,
        severity=ranked[-1] if alert.cleared is None else finding.severity,
        as_of=now,
        cleared=None,
        amount=finding.amount,
        span=finding.span,
        expected=finding.expected,
        movers=alert.movers if known is None else known,
        burn_rate=finding.burn_rate,
    )
