"""One tenant attacks, another calls steadily beside it: what the first does costs the second no answer.

An attack is what a provider answers to one tenant's requests alone. The router is whole: real targets with their
circuits, patterns and retry budget, and fakes only for the providers and the services around it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

import pytest

from libs.catalog.catalog import Catalog
from libs.errors import LASTING, DeadlineExceeded, PointsmanError, Unavailable
from libs.resilience.retry_budget import RetryBudget
from libs.types import ErrorClass
from services.router.health.targets import Targets
from services.router.request.generation import Prompt, ProviderFailure
from services.router.set_aside.suspicion import UNRELATED
from tests.support.clock import ManualClock
from tests.support.routing import TENANT, Harness, NoHealthService, catalog, fail, generation, model

A, B, C = model("a/m"), model("b/m"), model("c/m")
SMALL, LARGE = model("a/small", window=5000), model("b/large", window=90_000)
ATTACK = "attack"
ACCOUNT = (ErrorClass.AUTHENTICATION, ErrorClass.QUOTA_EXHAUSTED)


def provoked(failure: ProviderFailure, answer: object = "fine") -> object:
    """Returns the script of a provider that fails for the attack and answers everybody else."""

    def answers(prompt: Prompt) -> object:
        return failure if prompt.messages[-1].text.startswith(ATTACK) else answer

    return answers


@dataclass
class Router:
    """A router whose providers do what `script` says."""

    known: Catalog
    script: dict[str, object]
    clock: ManualClock = field(default_factory=ManualClock)
    numbers: int = 0

    def __post_init__(self) -> None:
        self.harness = Harness(
            self.known,
            {name: [step] for name, step in self.script.items()},
            clock=self.clock,
            health=Targets(self.clock, Random(1), NoHealthService()),  # type: ignore[arg-type]
            budget=RetryBudget(0.08, 50),
        )
        self.harness.providers.seconds = 0.01

    async def ask(self, tenant: str, text: str) -> PointsmanError | None:
        """The error of one call; None: it was answered."""
        self.numbers += 1
        request = generation(
            text, tenant=tenant, request_id=f"r{self.numbers}", deadline=self.clock.monotonic() + 60
        )
        try:
            await self.harness.generate.whole(self.known, TENANT, request)
        except PointsmanError as error:
            return error
        return None

    async def attacked(self, bursts: int = 8, size: int = 12, *, same: bool = False) -> list[PointsmanError]:
        """A minute of attacks in bursts, with two calls of another tenant to each: that tenant's errors."""
        errors = []
        for burst in range(bursts):
            for number in range(size):
                await self.ask("evil", ATTACK if same else f"{ATTACK} {burst} {number}")
            for number in range(2):
                self.clock.advance(30 / bursts)
                if (error := await self.ask("good", f"{burst} {number}")) is not None:
                    errors.append(error)
        return errors


@pytest.mark.parametrize("wait", [None, 20.0])
@pytest.mark.parametrize("same", [False, True])
@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("error_class", [c for c in ErrorClass if c is not ErrorClass.CANCELLED])
async def test_regression_what_one_tenant_provokes_takes_no_model_from_others(
    error_class: ErrorClass, explicit: bool, same: bool, wait: float | None
) -> None:
    """Named regression: a tool's name in a refusal was read as a spent quota, and nine such calls on three models
    turned another tenant's steady traffic into 113 of 113 refusals. Whatever the class and the wait that is stated,
    and however often."""
    failure = fail(error_class, explicit=explicit, retry_same=True, retry_after=wait)
    router = Router(catalog([A], [B], [C]), {m.id: provoked(failure) for m in (A, B, C)})
    assert await router.ask("good", "before") is None
    assert await router.attacked(same=same) == []
    good = [p for p in router.harness.providers.prompts if not p.messages[-1].text.startswith(ATTACK)]
    assert len(good) == 17, "all by the first model"


async def test_a_rate_that_two_tenants_meet_cools_the_model_for_all() -> None:
    """The account's own: the second refusal confirms the first, and nobody calls until the stated wait is over."""
    refused = fail(ErrorClass.RATE_LIMITED, explicit=True, retry_same=True, retry_after=20.0)
    router = Router(catalog([A]), {A.id: provoked(refused)})
    assert await router.ask("good", "before") is None
    for tenant in ("evil", "good"):
        assert await router.ask(tenant, ATTACK) is not None
    asked = len(router.harness.providers.calls)
    assert await router.ask("third", "hello") is not None
    assert len(router.harness.providers.calls) == asked
    router.clock.advance(21.0)
    assert await router.ask("third", "hello") is None


@pytest.mark.parametrize("error_class", [*ACCOUNT, ErrorClass.MODEL_NOT_FOUND])
async def test_words_that_convinced_while_nobody_else_called_cost_the_next_tenant_nothing(
    error_class: ErrorClass,
) -> None:
    """A model that only words have set aside is called after all where no other is left, and put back by the
    answer."""
    failure = fail(error_class, explicit=False)
    router = Router(catalog([A], [B], [C]), {m.id: provoked(failure) for m in (A, B, C)})
    for number in range(9):
        await router.ask("evil", f"{ATTACK} {number}")
    assert len(router.harness.set_aside.entries()) >= 3
    for number in range(20):
        assert await router.ask("good", f"{number}") is None


@pytest.mark.parametrize("error_class", ACCOUNT)
async def test_two_tenants_words_are_evidence(error_class: ErrorClass) -> None:
    """A provider that has only words for it is set aside once unrelated requests have met them."""
    router = Router(catalog([A], [B]), {"a/m": fail(error_class, explicit=False), "b/m": "fine"})
    for tenant in ("one", "two"):
        assert await router.ask(tenant, "the same") is None
    assert [entry.combination.name for entry in router.harness.set_aside.entries()] == ["key:a/m"]


async def test_one_tenants_different_requests_are_evidence_where_nobody_else_calls() -> None:
    """One repeated request is none."""
    router = Router(
        catalog([A], [B]), {"a/m": fail(ErrorClass.AUTHENTICATION, explicit=False), "b/m": "fine"}
    )
    for _ in range(3 * UNRELATED):
        assert await router.ask("one", "the same") is None
    assert router.harness.set_aside.entries() == []
    for number in range(UNRELATED):
        assert await router.ask("one", f"another {number}") is None
    assert [entry.combination.name for entry in router.harness.set_aside.entries()] == ["key:a/m"]


async def test_a_key_that_all_models_refuse_is_found_out_from_any_of_them() -> None:
    """A third model of the provider is not asked in vain; one that has no quota of its own left hurts no other."""
    other, third = model("a/other"), model("a/third")
    refused = fail(ErrorClass.AUTHENTICATION)
    router = Router(
        catalog([A], [other], [third], [B]), dict.fromkeys(("a/m", "a/other"), refused) | {"b/m": "fine"}
    )
    for number in range(2):
        assert await router.ask("one", f"{number}") is None
    assert await router.ask("one", "x") is None
    assert await router.ask("one", "y") is None
    assert "a/third" not in router.harness.providers.calls
    assert {e.combination.name for e in router.harness.set_aside.entries()} >= {"key:a/m", "key:a"}


async def test_a_trial_that_fails_by_words_alone_keeps_nobody_out() -> None:
    """Set aside for good reason and mended since: the attacker's trial does not prolong it."""
    router = Router(catalog([A]), {"a/m": fail(ErrorClass.QUOTA_EXHAUSTED)})
    for number in range(2):
        assert isinstance(await router.ask("good", f"{number}"), Unavailable)
    [entry] = router.harness.set_aside.entries()
    router.harness.script["a/m"][:] = [provoked(fail(ErrorClass.QUOTA_EXHAUSTED, explicit=False))]
    router.clock.advance(entry.until - router.clock.now())
    assert isinstance(await router.ask("evil", ATTACK), Unavailable)
    assert await router.ask("good", "after") is None
    assert router.harness.set_aside.entries() == []


@pytest.mark.parametrize("error_class", ACCOUNT)
async def test_regression_another_key_is_used_at_once(error_class: ErrorClass) -> None:
    """Named regression: a refused key that was replaced in its file served again after 329 s."""
    router = Router(catalog([A]), {"a/m": fail(error_class)})
    for number in range(5):
        assert isinstance(await router.ask("one", f"{number}"), Unavailable)
    assert router.harness.providers.calls == ["a/m"] * 2
    router.harness.key = "another"
    router.harness.script["a/m"][:] = ["fine"]
    assert await router.ask("one", "after") is None
    assert router.harness.set_aside.entries() == []


async def test_evidence_of_two_keys_does_not_add_up() -> None:
    """Each key is judged by its own failures."""
    router = Router(catalog([A]), {"a/m": fail(ErrorClass.AUTHENTICATION)})
    for key in ("one", "two", "three"):
        router.harness.key = key
        assert isinstance(await router.ask("one", key), Unavailable)
    assert router.harness.set_aside.entries() == []


async def test_regression_oversized_prompts_cost_nobodys_retry_budget() -> None:
    """Named regression: forty oversized prompts of one tenant, and another's working fallback became
    FAILED_PRECONDITION, CONTEXT_TOO_LONG."""
    too_long = fail(ErrorClass.CONTEXT_TOO_LONG)
    router = Router(catalog([SMALL], [LARGE]), {"a/small": too_long, "b/large": provoked(too_long)})
    for number in range(40):
        error = await router.ask("evil", f"{ATTACK} {number}")
        assert error is not None
        assert error.reason == "CONTEXT_TOO_LONG"
    for number in range(200):
        assert await router.ask("good", f"{number}") is None


async def test_failures_of_one_tenant_leave_the_others_their_share() -> None:
    """Whatever one tenant's attempts in vain use up, another's fallback works."""
    down = fail(ErrorClass.SERVER_ERROR)
    router = Router(catalog([A], [B]), {"a/m": down, "b/m": provoked(down)})
    assert await router.ask("good", "before") is None
    for number in range(200):
        error = await router.ask("evil", f"{ATTACK} {number}")
        assert isinstance(error, Unavailable)
        if number % 10 == 9:
            assert await router.ask("good", f"{number}") is None


async def test_who_has_no_share_left_is_told_so() -> None:
    """UNAVAILABLE with its reason and when to come back, whatever the attempts before said of the request."""
    budget = RetryBudget(0.0, 0)
    down = fail(ErrorClass.OVERLOADED)
    h = Harness(catalog([A], [B]), {"a/m": [down], "b/m": ["fine"]}, budget=budget)
    with pytest.raises(Unavailable) as caught:
        await h.generate.whole(h.catalog, TENANT, generation())
    assert caught.value.reason == "RETRY_BUDGET_EXHAUSTED"
    assert caught.value.retry_after == 1.0
    h.assert_settled()


@pytest.mark.parametrize(
    ("error_class", "reason"),
    [
        (ErrorClass.AUTHENTICATION, "PROVIDER_KEY_REFUSED"),
        (ErrorClass.QUOTA_EXHAUSTED, "PROVIDER_QUOTA_EXHAUSTED"),
        (ErrorClass.MODEL_NOT_FOUND, "MODEL_RETIRED"),
    ],
)
async def test_regression_a_lone_lasting_failure_names_no_time(error_class: ErrorClass, reason: str) -> None:
    """Named regression: a retired model and a spent quota said "retry after 1 s". A time that the provider named, and
    a failure beside it that passes, still do."""
    h = Harness(catalog([A]), {"a/m": [fail(error_class)]})
    with pytest.raises(Unavailable) as caught:
        await h.generate.whole(h.catalog, TENANT, generation())
    assert (caught.value.reason, caught.value.retry_after) == (reason, None)
    assert reason in LASTING
    h = Harness(catalog([A]), {"a/m": [fail(error_class, retry_after=3600.0)]})
    with pytest.raises(Unavailable) as caught:
        await h.generate.whole(h.catalog, TENANT, generation())
    assert (caught.value.reason, caught.value.retry_after) == (reason, 3600.0)
    h = Harness(catalog([A], [B]), {"a/m": [fail(error_class)], "b/m": [fail(ErrorClass.OVERLOADED)]})
    with pytest.raises(Unavailable) as caught:
        await h.generate.whole(h.catalog, TENANT, generation())
    assert (caught.value.reason, caught.value.retry_after) == ("PROVIDERS_FAILED", 1.0)


@pytest.mark.parametrize(
    "error_class", [ErrorClass.TIMEOUT, ErrorClass.SERVER_ERROR, ErrorClass.RATE_LIMITED]
)
async def test_a_deadline_that_passes_has_one_code(error_class: ErrorClass) -> None:
    """Whatever failed meanwhile, and although the retry budget is spent."""
    h = Harness(catalog([A], [B]), {"a/m": [fail(error_class)]}, budget=RetryBudget(0.0, 0))
    with pytest.raises(DeadlineExceeded) as caught:
        await h.generate.whole(h.catalog, TENANT, generation(deadline=h.clock.monotonic() + 0.5))
    assert caught.value.reason == "DEADLINE_EXCEEDED"
