"""A budget on the running stack: what its thresholds do as it is used up."""

from __future__ import annotations

import pytest

from libs.client import Client, Degradation, Result
from libs.errors import ResourceExhausted
from tests.e2e.catalogs import CAREFUL_BUDGET, CAREFUL_KEY
from tests.e2e.conftest import Shared

SCOPE = "tenant_content:careful/product_description"


async def describe(client: Client, answers: list[Result]) -> None:
    """Up to 500 descriptions, until one is refused."""
    for number in range(500):
        text = f"Describe kettle {number}."
        answers.append(await client.generate(text, content_type="product_description", timeout=20))


async def test_a_budget_warns_then_takes_cheaper_models_then_refuses(shared: Shared) -> None:
    """In this order, with what the response says; other content types go on; nothing is spent beyond it."""
    answers: list[Result] = []
    async with shared.stack.client(CAREFUL_KEY) as client:
        with pytest.raises(ResourceExhausted) as refused:
            await describe(client, answers)
        other = await client.generate("Describe a kettle.", content_type="general", timeout=20)
    percents = [answer.budgets[0].percent if answer.budgets else 0 for answer in answers]
    assert percents == sorted(percents)
    assert set(percents) == {0, 30, 60}
    by_percent = {percent: answers[percents.index(percent)] for percent in set(percents)}
    assert by_percent[30].selection.provider == "anthropic"
    assert by_percent[30].degradation is None
    assert str(by_percent[30].budgets[0]) == f"{SCOPE} day 30% warn"
    assert by_percent[60].selection.provider == "openai"
    assert by_percent[60].degradation is Degradation.CHEAPER_MODEL
    assert {answer.selection.provider for answer in answers if answer.budgets[:1] == ()} == {"anthropic"}
    spent = sum(answer.cost_micro_usd for answer in answers)
    assert 0.6 * CAREFUL_BUDGET <= spent <= CAREFUL_BUDGET
    assert [v.subject for v in refused.value.violations] == [f"{SCOPE} micro_usd day"]
    assert refused.value.retry_after is not None
    assert (other.selection.provider, other.budgets) == ("anthropic", ())
