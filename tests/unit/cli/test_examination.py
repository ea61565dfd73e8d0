"""The doctor's judgement of what services say."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cli.examination import APART, FAR_APART, Ailment, Answered, Area, Check, examine
from libs.connectivity import StepVerdict
from libs.diagnosis import ServiceDiagnosis, SettingRemark, StoreAnswer, StoreDiagnosis, StoreKind

NOW = 1_800_000_000.0


def answered(
    service: str,
    *,
    ahead: float = 0.0,
    work: float = 0.0,
    way: float = 0.02,
    stores: tuple[StoreDiagnosis, ...] = (),
) -> Answered:
    """A service whose clock is `ahead`, which worked for `work` and is half of `way` away."""
    diagnosis = ServiceDiagnosis(service, "i", NOW + way / 2 + work + ahead, work, "abc", (), stores)
    return Answered(service, "host:1", NOW, NOW + way + work, diagnosis)


def store(answer: StoreAnswer | None, wanted: int | None = None) -> StoreDiagnosis:
    return StoreDiagnosis(StoreKind.POSTGRESQL, "ledger", 0.01, answer, wanted)


def of(checks: list[Check], area: Area) -> dict[str, tuple[StepVerdict, Ailment | None]]:
    return {check.name: (check.verdict, check.ailment) for check in checks if check.area is area}


def bad(checks: list[Check]) -> set[tuple[str, Ailment | None]]:
    return {(check.name, check.ailment) for check in checks if check.verdict is not StepVerdict.PASSED}


def test_a_sound_system() -> None:
    """Everything passes, however long a service worked for its answer."""
    one = store(StoreAnswer("PostgreSQL 15", 0.0, 7), 7)
    checks = examine([answered("router"), answered("analytics", work=4.0, stores=(one,))])
    assert not bad(checks)
    assert set(of(checks, Area.CLOCK)) == {"router", "analytics", "analytics ledger", "this machine"}


def test_a_service_without_an_answer_hides_nothing_of_the_others() -> None:
    """It fails with its reason; the others are examined."""
    gone = Answered("health", "host:2", NOW, NOW + 5, None, "UNREACHABLE", "nothing answers")
    checks = examine([gone, answered("router")])
    assert bad(checks) == {("health host:2", Ailment.NO_ANSWER)}
    assert checks[0].reason == "UNREACHABLE"
    assert of(examine([gone]), Area.CLOCK) == {}


@pytest.mark.parametrize(
    ("schema", "wanted", "good"),
    [(7, 7, True), (8, 7, True), (6, 7, False), (0, 7, False), (None, None, True)],
)
def test_schemas(schema: int | None, wanted: int | None, good: bool) -> None:
    """An older schema than the service's, or none, fails; a newer one is that of a newer replica."""
    checks = examine(
        [answered("analytics", stores=(store(StoreAnswer("PostgreSQL 15", 0.0, schema), wanted),))]
    )
    expected = (StepVerdict.PASSED, None) if good else (StepVerdict.FAILED, Ailment.SCHEMA_BEHIND)
    assert of(checks, Area.STORE) == {"analytics ledger": expected}


def test_a_store_that_does_not_answer() -> None:
    """It fails, and has no clock."""
    checks = examine([answered("analytics", stores=(store(None, 7),))])
    assert bad(checks) == {("analytics ledger", Ailment.STORE_UNREACHABLE)}
    assert set(of(checks, Area.CLOCK)) == {"analytics", "this machine"}


@pytest.mark.parametrize(
    ("ahead", "verdict"),
    [
        (APART * 0.9, StepVerdict.PASSED),
        (-APART * 1.1, StepVerdict.WARNING),
        (FAR_APART * 1.1, StepVerdict.FAILED),
        (-FAR_APART * 1.1, StepVerdict.FAILED),
    ],
)
def test_the_one_clock_that_is_apart_is_named(ahead: float, verdict: StepVerdict) -> None:
    """Against the middle one of all, in both directions."""
    checks = examine([answered("a"), answered("b"), answered("c", ahead=ahead)])
    clocks = of(checks, Area.CLOCK)
    assert clocks.pop("c")[0] is verdict
    assert {found[0] for found in clocks.values()} == {StepVerdict.PASSED}


def test_a_wrong_clock_of_this_machine_is_not_blamed_on_services() -> None:
    """It alone is named, and is no failure of the system."""
    checks = examine([answered(name, ahead=3600.0) for name in "abc"])
    assert of(checks, Area.CLOCK)["this machine"] == (StepVerdict.WARNING, Ailment.CLOCK_APART)
    assert bad(checks) == {("this machine", Ailment.CLOCK_APART)}


def test_a_stores_clock_counts_from_its_services() -> None:
    """The ledger is told apart from the service that asked it."""
    one = store(StoreAnswer("PostgreSQL 15", 20.0, 7), 7)
    checks = examine([answered("a"), answered("b"), answered("analytics", stores=(one,))])
    assert bad(checks) == {("analytics ledger", Ailment.CLOCK_APART)}


def test_a_slow_way_is_no_proof_of_a_wrong_clock() -> None:
    """A clock is not blamed for time that the way may have taken."""
    far = answered("c", ahead=4.0, way=8.0)
    assert not bad(examine([answered("a"), answered("b"), far]))


def test_settings_and_catalogs() -> None:
    """Remarks are warnings; services with different catalogs are named with their versions, and one without any says
    nothing."""
    one, two, three = answered("router"), answered("health"), answered("analytics")
    assert one.diagnosis is not None
    assert two.diagnosis is not None
    assert three.diagnosis is not None
    remarks = (SettingRemark.NO_SERVICE_TOKEN, SettingRemark.NO_TLS)
    one = replace(one, diagnosis=replace(one.diagnosis, remarks=remarks))
    three = replace(three, diagnosis=replace(three.diagnosis, catalog_version=""))
    checks = examine([one, two, three])
    assert bad(checks) == {("router", Ailment.NO_SERVICE_TOKEN), ("router", Ailment.NO_TLS)}
    two = replace(two, diagnosis=replace(two.diagnosis, catalog_version="def"))
    (differing,) = [check for check in examine([one, two, three]) if check.name == "catalog"]
    assert (differing.verdict, differing.versions) == (
        StepVerdict.WARNING,
        (("router", "abc"), ("health", "def")),
    )
