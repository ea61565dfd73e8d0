"""From findings to records: raised once, going on, over, and the same again."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from services.analytics.alerts.alert import Alert, AlertKind, Expectation, Mover, Severity, Subject
from services.analytics.alerts.detect import SAME_WITHIN, Condition, Finding, changes, is_raised, once
from services.analytics.alerts.sentence import sentence
from tests.support.alerts import BURN, SPEND
from tests.support.ledger import NOW

ACME: Subject = (("tenant", "acme"),)
MOVERS = (Mover("model", "openai/o3", 27_000_000, 0, 0.9),)


def a_finding(
    kind: AlertKind = AlertKind.SPEND_ANOMALY, subject: Subject = ACME, amount: int = 30_000_000
) -> Finding:
    return Finding(kind, subject, Severity.WARNING, amount, "micro_usd", 3600.0, Expectation(9_000_000))


def after(found: list[Alert], last: dict[Condition, Alert]) -> dict[Condition, Alert]:
    return last | {(alert.kind, alert.subject): alert for alert in found}


def test_a_condition_is_one_alert_from_its_raising_to_its_end() -> None:
    """With the movers of its raising, and figures that go on."""
    finding = a_finding()
    (raised,) = changes([finding], {}, {finding.condition: MOVERS}, NOW)
    assert (raised.raised, raised.cleared, raised.movers) == (NOW, None, MOVERS)
    last = after([raised], {})
    assert not is_raised(finding, last, NOW + 300)
    (on,) = changes([a_finding(amount=40_000_000)], last, {}, NOW + 300)
    assert (on.alert_id, on.amount, on.movers) == (raised.alert_id, 40_000_000, MOVERS)
    (over,) = changes([], after([on], last), {}, NOW + 600)
    assert (over.alert_id, over.cleared) == (raised.alert_id, NOW + 600)
    assert changes([], after([over], last), {}, NOW + 900) == []


def test_the_severity_of_what_stands_does_not_fall() -> None:
    """So one that swings is announced once; when it is over and raised again it is what it is then."""
    finding = a_finding(AlertKind.RELIABILITY_DROP)
    (raised,) = changes([finding], {}, {}, NOW)
    (worse,) = changes([replace(finding, severity=Severity.CRITICAL)], after([raised], {}), {}, NOW + 300)
    (again,) = changes([finding], after([worse], {}), {}, NOW + 600)
    assert [alert.severity for alert in (raised, worse, again)] == ["warning", "critical", "critical"]
    (over,) = changes([], after([again], {}), {}, NOW + 900)
    (back,) = changes([finding], after([over], {}), {}, NOW + 1200)
    assert back.severity is Severity.WARNING


@given(st.floats(1, 10 * SAME_WITHIN))
def test_the_same_within_a_day_is_the_same_alert_and_later_a_new_one(wait: float) -> None:
    ended = replace(SPEND, as_of=NOW + 60, cleared=NOW + 60)
    now = NOW + 60 + wait
    (again,) = changes([a_finding()], after([ended], {}), {}, now)
    assert again.cleared is None
    assert (again.alert_id == SPEND.alert_id) is (now - ended.as_of <= SAME_WITHIN)


@given(st.sets(st.sampled_from(["", "acme", "beta"]), max_size=3), st.booleans())
def test_one_thing_is_told_once(names: set[str], standing: bool) -> None:
    """Of spend the tenant's, of reliability everybody's; what stands already goes on."""
    for kind, dropped in ((AlertKind.SPEND_ANOMALY, {""}), (AlertKind.RELIABILITY_DROP, {"acme", "beta"})):
        findings = [a_finding(kind, (("tenant", name),) if name else ()) for name in names]
        last = {f.condition: replace(SPEND, kind=f.kind, subject=f.subject) for f in findings if standing}
        told = {dict(f.subject).get("tenant", "") for f in once(findings, last, NOW)}
        mixed = "" in names and len(names) > 1
        assert told == (names - dropped if mixed and not standing else names)


def test_sentences_say_of_whom_what_and_how_much() -> None:
    """One of each kind."""
    ppm = replace(SPEND, subject=(("provider", "openai"),), unit="ppm", amount=123_000, span=900.0)
    ppm = replace(ppm, expected=Expectation(5_000), movers=(Mover("error_class", "server", 40, 1, 0.95),))
    cases = {
        replace(
            BURN, kind=AlertKind.BUDGET_THRESHOLD, percent=80, limit=50_000_000, amount=41_000_000
        ): "tenant acme: $50.00 a day is used to 80 % ($41.00)",
        replace(BURN, limit=50_000_000): "tenant acme: $50.00 a day is used 15.5 times as fast as would last",
        replace(
            BURN, kind=AlertKind.EXHAUSTION_LIKELY, limit=50_000_000, amount=41_000_000
        ): "tenant acme: $50.00 a day will not last, with a probability of 90 % ($41.00 used)",
        replace(
            BURN, kind=AlertKind.EXHAUSTED, unit="total_tokens", limit=5000
        ): "tenant acme: 5,000 total tokens a day is used up",
        replace(
            BURN, kind=AlertKind.RECONCILIATION_DIFFERENCE, limit=50_000_000, amount=-120_000
        ): "tenant acme: $50.00 a day counts $0.12 less than the ledger holds",
        SPEND: "tenant acme: the last hour cost $31.00 where $9.00 is usual; "
        "model openai/gpt-4o is 100 % of the rise",
        replace(SPEND, subject=(), span=86_400.0, movers=()): "all traffic: the last 24 hours cost $31.00 "
        "where $9.00 is usual",
        replace(
            ppm, kind=AlertKind.ERROR_ANOMALY
        ): "provider openai: 12.3 % of attempts failed in 15 minutes "
        "where 0.5 % is usual; error class server is 95 % of the rise",
        replace(
            ppm, kind=AlertKind.RELIABILITY_DROP, subject=(), span=3600.0, burn_rate=26.7
        ): "all traffic: callers got an error for 12.3 % of requests in 60 minutes, 27 times what the objective "
        "allows",
    }
    assert {alert.kind for alert in cases} >= set(AlertKind) - {AlertKind.BURN_SLOW}
    assert {sentence(alert): text for alert, text in cases.items()} == {t: t for t in cases.values()}
