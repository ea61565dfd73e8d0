"""Shows tests of providers as a checklist: each step with its verdict, its duration and a sentence of the finding."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.text import Text

from cli.layout import Column, Kind, Table, Value
from cli.render import printable, seconds_cell, words
from libs.connectivity import (
    AddressesDetail,
    Cause,
    CertificateDetail,
    ConnectionDetail,
    Detail,
    EndpointTest,
    HttpDetail,
    ModelFinding,
    ModelsDetail,
    ModelState,
    Step,
    StepName,
    StepVerdict,
)

COLORS = {
    StepVerdict.PASSED: "green",
    StepVerdict.WARNING: "yellow",
    StepVerdict.FAILED: "red",
    StepVerdict.SKIPPED: "dim",
}
_DAY = 86_400

_STEPS = {name: "TLS" if name is StepName.TLS else words(name.value) for name in StepName}
_SENTENCES = {
    Cause.EARLIER_STEP_FAILED: "not tried, because of the step before",
    Cause.NOT_OFFERED: "the vendor has no free endpoint for this; --generate tells",
    Cause.NO_KEY_NEEDED: "the catalog names no key",
    Cause.NOT_COMPARABLE: "the vendor's list has other names than calls do",
    Cause.TIMED_OUT: "no answer in time",
    Cause.NAME_UNKNOWN: "nobody knows a host of this name",
    Cause.CONNECTION_REFUSED: "nothing listens there",
    Cause.UNREACHABLE: "there is no way to the address",
    Cause.CERTIFICATE_EXPIRED: "the certificate is not in force",
    Cause.CERTIFICATE_UNTRUSTED: "nobody who is trusted here has signed the certificate",
    Cause.CERTIFICATE_FOR_ANOTHER_HOST: "the certificate is another host's",
    Cause.CERTIFICATE_ENDS_SOON: "the certificate ends soon",
    Cause.TLS_FAILED: "the server does not speak TLS as it should",
    Cause.CONNECTION_LOST: "the connection ended without a whole answer",
    Cause.KEY_REFUSED: "the vendor refuses the key",
    Cause.KEY_NOT_SET: "the key is not set where the health monitor runs",
    Cause.KEY_NOT_PROVEN: "everybody is answered, so the key is not proven; --generate tells",
    Cause.LIST_FORBIDDEN: "the key may not list models; --generate tells whether calls are taken",
    Cause.RATE_LIMITED: "too many requests at present",
    Cause.SERVER_FAULT: "the server is at fault",
    Cause.UNEXPECTED_ANSWER: "not the answer that the vendor describes; check base_url",
    Cause.MODELS_MISSING: "the vendor does not have them all",
    Cause.MODELS_RETIRING: "the vendor gives some of them up",
}


def verdict_cell(verdict: StepVerdict | None) -> Value:
    """Returns the cell of a verdict; None is one of a later version."""
    if verdict is None:
        return Value(Text("unknown", "yellow"), None)
    return Value(Text(verdict.value, COLORS[verdict]), verdict.value)


def table(tests: Sequence[tuple[str, EndpointTest]], now: float) -> Table:
    """Returns the checklist of tests, each with its provider's name. `now`: epoch seconds."""
    grid = Table(
        Column("provider / step", Kind.NAME),
        Column("verdict"),
        Column("time", Kind.FIGURE),
        Column("found", Kind.SENTENCE),
    )
    for provider, tested in tests:
        key = f", key {tested.key_name}" if tested.key_name else ""
        grid.add_row(Text(provider, "bold cyan"), "", "", Text(printable(f"{tested.base_url}{key}"), "dim"))
        for step in tested.steps:
            name = _STEPS[step.name] if step.name is not None else "unknown"
            ran = step.verdict is not StepVerdict.SKIPPED
            grid.add_row(
                Value(f"  {name}", f"{provider}/{name}"),
                verdict_cell(step.verdict),
                seconds_cell(step.duration if ran else None),
                Text(printable(sentence(step, now)), "" if ran else "dim"),
            )
    return grid


def sentence(step: Step, now: float) -> str:
    """Returns what a step found, for a person."""
    cause = "" if step.cause is None else _SENTENCES[step.cause]
    if step.cause is Cause.NOT_OFFERED and step.name is StepName.TLS:
        cause = "the address is one of plain HTTP"
    found = _found(step.detail, now)
    return f"{cause}: {found}" if cause and found else cause or found


def _found(detail: Detail | None, now: float) -> str:
    match detail:
        case AddressesDetail(addresses):
            return ", ".join(addresses)
        case ConnectionDetail(address):
            return address
        case CertificateDetail(ends, issuer, protocol):
            parts = [_end(ends, now), f"issued by {issuer}" if issuer else "", protocol]
            return ", ".join(part for part in parts if part)
        case HttpDetail(status):
            return f"HTTP status {status}"
        case ModelsDetail(listed, looked_for, findings):
            lines = [
                f"{looked_for:,} of the catalog, {listed:,} listed",
                *(_line(each, now) for each in findings),
            ]
            return "\n".join(lines)
        case _:
            return ""


def _end(ends: float | None, now: float) -> str:
    if ends is None:
        return ""
    day = date(ends)
    days = int((ends - now) // _DAY)
    return f"ended on {day}" if ends < now else f"ends on {day}, in {days:,} days"


def date(instant: float) -> str:
    """Returns the day (UTC) of an instant; the instant itself where it is of no year that has a name."""
    try:
        return datetime.fromtimestamp(instant, UTC).date().isoformat()
    except (ValueError, OverflowError, OSError):
        return f"{instant:g} s"


def _line(finding: ModelFinding, now: float) -> str:
    name = finding.model if finding.model == finding.wire_name else f"{finding.model} ({finding.wire_name})"
    if finding.state is ModelState.MISSING:
        return f"missing: {name}"
    return f"retiring: {name}" + (f", {_end(finding.ends, now)}" if finding.ends is not None else "")
