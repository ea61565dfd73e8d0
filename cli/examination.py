"""Judges what services say about themselves: settings, catalogs, stores, clocks. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from statistics import median_low

from libs.connectivity import StepVerdict
from libs.diagnosis import ServiceDiagnosis, SettingRemark, StoreDiagnosis

#: Seconds that a clock may be apart from the others before somebody should look, and before it does harm: leases last
#: some seconds, and so do circuits.
APART, FAR_APART = 1.0, 5.0


class Area(Enum):
    """The parts of the examination, in the order in which they are shown."""

    SERVICE = "service"
    SETTINGS = "settings"
    STORE = "store"
    CLOCK = "clock"
    PROVIDER = "provider"


class Ailment(Enum):
    """The cause of a verdict other than PASSED."""

    NO_ANSWER = "no_answer"
    NO_SERVICE_TOKEN = "no_service_token"  # noqa: S105 -- the name of a cause
    NO_TLS = "no_tls"
    CATALOGS_DIFFER = "catalogs_differ"
    STORE_UNREACHABLE = "store_unreachable"
    SCHEMA_BEHIND = "schema_behind"
    CLOCK_APART = "clock_apart"
    NOT_TESTED = "not_tested"


@dataclass(frozen=True, slots=True)
class Answered:
    """One service's answer: between `sent` and `received`, epoch seconds of this machine's clock. `diagnosis` None:
    there was no answer, and `reason` and `message` are the error's."""

    service: str
    target: str
    sent: float
    received: float
    diagnosis: ServiceDiagnosis | None
    reason: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the examination. `duration` in seconds; `offset`: seconds by which a clock is ahead of the middle
    one, known to `uncertainty`; `versions` of catalogs, by service. Unset where it says nothing of that."""

    area: Area
    name: str
    verdict: StepVerdict
    ailment: Ailment | None = None
    duration: float | None = None
    version: str = ""
    schema: int | None = None
    schema_wanted: int | None = None
    offset: float | None = None
    uncertainty: float | None = None
    versions: tuple[tuple[str, str], ...] = ()
    reason: str = ""
    message: str = ""


def examine(answers: Sequence[Answered]) -> list[Check]:
    """Returns the checks of all that services said, by area."""
    return [*map(_service, answers), *_settings(answers), *_stores(answers), *_clocks(answers)]


def _service(answer: Answered) -> Check:
    seconds = max(0.0, answer.received - answer.sent)
    if answer.diagnosis is None:
        return Check(
            Area.SERVICE,
            f"{answer.service} {answer.target}",
            StepVerdict.FAILED,
            Ailment.NO_ANSWER,
            reason=answer.reason,
            message=answer.message,
        )
    return Check(Area.SERVICE, f"{answer.service} {answer.target}", StepVerdict.PASSED, duration=seconds)


_REMARKS = {
    SettingRemark.NO_SERVICE_TOKEN: Ailment.NO_SERVICE_TOKEN,
    SettingRemark.NO_TLS: Ailment.NO_TLS,
}


def _settings(answers: Sequence[Answered]) -> Iterable[Check]:
    found = [answer.diagnosis for answer in answers if answer.diagnosis is not None]
    for diagnosis in found:
        for remark in diagnosis.remarks:
            yield Check(Area.SETTINGS, diagnosis.service, StepVerdict.WARNING, _REMARKS[remark])
    versions = tuple((each.service, each.catalog_version) for each in found if each.catalog_version)
    if versions:
        same = len({version for _, version in versions}) == 1
        yield Check(
            Area.SETTINGS,
            "catalog",
            StepVerdict.PASSED if same else StepVerdict.WARNING,
            None if same else Ailment.CATALOGS_DIFFER,
            version=versions[0][1] if same else "",
            versions=() if same else versions,
        )


def _stores(answers: Sequence[Answered]) -> Iterable[Check]:
    for answer in answers:
        if answer.diagnosis is not None:
            yield from (_store(answer.service, store) for store in answer.diagnosis.stores)


def _store(service: str, store: StoreDiagnosis) -> Check:
    name = _store_name(service, store)
    if store.answer is None:
        return Check(Area.STORE, name, StepVerdict.FAILED, Ailment.STORE_UNREACHABLE, duration=store.duration)
    return Check(
        Area.STORE,
        name,
        StepVerdict.PASSED if store.ready else StepVerdict.FAILED,
        None if store.ready else Ailment.SCHEMA_BEHIND,
        store.duration,
        store.answer.version,
        store.answer.schema,
        store.schema_wanted,
    )


def _store_name(service: str, store: StoreDiagnosis) -> str:
    return f"{service} {store.name}"


def _clocks(answers: Sequence[Answered]) -> Iterable[Check]:
    """Compares all clocks with the middle one, so that one that is wrong is named, and not all others, whichever it
    is. This machine's does no harm to services."""
    offsets: list[tuple[str, float, float]] = []
    for answer in answers:
        diagnosis = answer.diagnosis
        if diagnosis is None:
            continue
        # The service read its clock at the end of its work; the way back took half of what was not work.
        on_the_way = max(0.0, answer.received - answer.sent - diagnosis.duration)
        offset = diagnosis.now - (answer.received - on_the_way / 2)
        offsets.append((answer.service, offset, on_the_way / 2))
        for store in diagnosis.stores:
            if store.answer is not None:
                ahead = offset + store.answer.clock_offset
                offsets.append(
                    (_store_name(answer.service, store), ahead, on_the_way / 2 + store.duration / 2)
                )
    if not offsets:
        return
    middle = median_low(offset for _, offset, _ in offsets)
    for name, offset, uncertainty in [*offsets, ("this machine", 0.0, 0.0)]:
        apart = abs(offset - middle) - uncertainty
        harmless = name == "this machine" or apart <= FAR_APART
        worst = StepVerdict.WARNING if harmless else StepVerdict.FAILED
        yield Check(
            Area.CLOCK,
            name,
            StepVerdict.PASSED if apart <= APART else worst,
            None if apart <= APART else Ailment.CLOCK_APART,
            offset=offset - middle,
            uncertainty=uncertainty,
        )
