"""One sentence on an alert, for people."""

from __future__ import annotations

from collections.abc import Callable

from services.analytics.alerts.alert import PPM, Alert, AlertKind, Mover

_PPM_OF_PERCENT = 10_000


def sentence(alert: Alert) -> str:
    """Returns a sentence that tells of whom, what, how much and, where it is known, by whom."""
    return _SENTENCES[alert.kind](alert)


def _money(micro_usd: int) -> str:
    sign, cents = ("-" if micro_usd < 0 else ""), (abs(micro_usd) + 5_000) // 10_000
    return f"{sign}${cents // 100:,}.{cents % 100:02d}"


def _amount(amount: int, unit: str) -> str:
    if unit == "micro_usd":
        return _money(amount)
    if unit == PPM:
        return f"{amount / _PPM_OF_PERCENT:.1f} %"
    return f"{amount:,} {unit.replace('_', ' ')}"


def _subject(alert: Alert) -> str:
    """Returns the subject without the unit and period of a quota."""
    named = [f"{name} {value}" for name, value in alert.subject if name not in ("unit", "period")]
    return ", ".join(named).replace("_", " ") if named else "all traffic"


def _quota(alert: Alert) -> str:
    labels = dict(alert.subject)
    limit = _amount(alert.limit or 0, alert.unit)
    return f"{_subject(alert)}: {limit} a {labels.get('period', 'window')}"


def _threshold(alert: Alert) -> str:
    return f"{_quota(alert)} is used to {alert.percent} % ({_amount(alert.amount, alert.unit)})"


def _burn(alert: Alert) -> str:
    return f"{_quota(alert)} is used {alert.burn_rate or 0:.1f} times as fast as would last"


def _likely(alert: Alert) -> str:
    return (
        f"{_quota(alert)} will not last, with a probability of {100 * (alert.probability or 0):.0f} % "
        f"({_amount(alert.amount, alert.unit)} used)"
    )


def _exhausted(alert: Alert) -> str:
    return f"{_quota(alert)} is used up"


def _difference(alert: Alert) -> str:
    word = "more" if alert.amount >= 0 else "less"
    return f"{_quota(alert)} counts {_amount(abs(alert.amount), alert.unit)} {word} than the ledger holds"


def _spend(alert: Alert) -> str:
    hours = round((alert.span or 0) / 3600)
    span = "hour" if hours == 1 else f"{hours} hours"
    usual = alert.expected.amount if alert.expected is not None else 0
    return (
        f"{_subject(alert)}: the last {span} cost {_money(alert.amount)} where {_money(usual)} is usual"
        f"{_moved(alert)}"
    )


def _errors(alert: Alert) -> str:
    usual = alert.expected.amount if alert.expected is not None else 0
    return (
        f"{_subject(alert)}: {_amount(alert.amount, PPM)} of attempts failed in {_minutes(alert)} where "
        f"{_amount(usual, PPM)} is usual{_moved(alert)}"
    )


def _drop(alert: Alert) -> str:
    return (
        f"{_subject(alert)}: callers got an error for {_amount(alert.amount, PPM)} of requests in {_minutes(alert)}, "
        f"{alert.burn_rate or 0:.0f} times what the objective allows"
    )


def _minutes(alert: Alert) -> str:
    return f"{round((alert.span or 0) / 60)} minutes"


def _moved(alert: Alert) -> str:
    if not alert.movers:
        return ""
    return f"; {' and '.join(map(_mover, alert.movers[:2]))}"


def _mover(mover: Mover) -> str:
    named = mover.value or "(none)"
    return f"{mover.dimension.replace('_', ' ')} {named} is {100 * mover.share:.0f} % of the rise"


_SENTENCES: dict[AlertKind, Callable[[Alert], str]] = {
    AlertKind.BUDGET_THRESHOLD: _threshold,
    AlertKind.BURN_FAST: _burn,
    AlertKind.BURN_SLOW: _burn,
    AlertKind.EXHAUSTION_LIKELY: _likely,
    AlertKind.EXHAUSTED: _exhausted,
    AlertKind.RECONCILIATION_DIFFERENCE: _difference,
    AlertKind.SPEND_ANOMALY: _spend,
    AlertKind.ERROR_ANOMALY: _errors,
    AlertKind.RELIABILITY_DROP: _drop,
}
