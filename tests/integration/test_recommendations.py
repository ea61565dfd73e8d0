"""Recommendations through real gRPC from a real PostgreSQL, as the client and the command line show them."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from rich.console import Console

from cli import recommendations as command
from libs.client import Advice, AdviceVerdict, RecommendationClient
from libs.errors import Aborted, FailedPrecondition, InvalidArgument, NotFound
from libs.types import Usage
from services.analytics.database.postgres_database import Database
from services.analytics.database.postgres_migrations import read_migrations
from services.analytics.ledger.attempt import Attempt, Outcome
from services.analytics.ledger.postgres_ledger import PostgresLedger
from services.analytics.ledger.request import RequestRecord
from services.analytics.recommendations.measurement import left_as_it_was
from services.analytics.rollups.postgres_rollups import PostgresRollups
from tests.support.analytics import analytics
from tests.support.engines import PostgresServer
from tests.support.ledger import an_attempt
from tests.support.postgres import fresh_database
from tests.support.process import spawn

ROOT = Path(__file__).parents[2]
CODE = "from cli.app import main; raise SystemExit(main())"
DAYS = 30
CATALOG = """
version: 1
domain: test
providers:
  dear: {kind: openai_compatible, base_url: "http://dear.test/v1"}
  cheap: {kind: openai_compatible, base_url: "http://cheap.test/v1"}
models:
  dear/large: {context_window: 100_000, max_output_tokens: 4096, price: {input: 4, output: 4}, quality: {blog: 0.8}}
  cheap/large: {context_window: 100_000, max_output_tokens: 4096, price: {input: 1, output: 1}, quality: {blog: 0.8}}
policies:
  default: {tiers: [[dear/large]]}
content_types:
  blog: {max_output_tokens: 1000}
default_content_type: blog
tenants:
  acme: {}
"""


def month_of_use(now: float) -> list[Attempt]:
    """Ten blogs a day at dear/large, some longer than others."""
    found = []
    for place in range(DAYS * 10):
        tokens = 10_000 + 37 * (place % 11)
        usage = Usage(input_tokens=tokens - 1000, output_tokens=1000)
        found.append(
            an_attempt(
                f"blog-{place}",
                provider="dear",
                model="large",
                content_type="blog",
                started=now - 8640 * (place + 0.5),
                cost_micro_usd=4 * tokens,
                usage=usage,
            )
        )
    return found


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def database(postgres_server: PostgresServer) -> AsyncIterator[tuple[str, Database]]:
    async with fresh_database(postgres_server) as dsn, Database(dsn, read_migrations()) as database:
        await database.prepare()
        await PostgresLedger(database, PostgresRollups(database).follow).record(month_of_use(time.time()))
        yield dsn, database


@pytest_asyncio.fixture(loop_scope="session")
async def client(database: tuple[str, Database], tmp_path: Path) -> AsyncIterator[RecommendationClient]:
    dsn, connected = database
    async with connected.writing() as connection:
        await connection.execute(
            "TRUNCATE analytics.recommendations, analytics.recommendation_decisions, analytics.recommendation_look"
        )
    config = tmp_path / "pointsman.yaml"
    config.write_text(CATALOG)
    async with (
        analytics(dsn, POINTSMAN_CONFIG=str(config)) as running,
        RecommendationClient(f"127.0.0.1:{running.server.port}", "", timeout=60) as found,
    ):
        yield found


async def only_one(client: RecommendationClient) -> Advice:
    (found,) = (await client.list_recommendations()).recommendations
    return found


def shown(renderable: object) -> str:
    """Returns the text on a terminal of 80 columns."""
    out = io.StringIO()
    Console(file=out, width=80, highlight=False).print(renderable)
    assert max(map(len, out.getvalue().splitlines())) <= 80
    return out.getvalue()


async def test_a_cheaper_model_is_recommended_and_decided_about(client: RecommendationClient) -> None:
    """With its saving, evidence, risk and change; accepted, undone and rejected by name; repeated calls are one."""
    found = await only_one(client)
    assert (found.kind, found.content_type, found.provider, found.model) == (
        "cheaper_model",
        "blog",
        "dear",
        "large",
    )
    assert (found.change.new_model, found.change.policies) == ("cheap/large", ("default",))
    assert found.saving.p50 == pytest.approx(30 * 10 * 3 * 10_185, rel=0.02)
    assert 0 < found.saving.p10 < found.saving.p50 < found.saving.p90
    assert found.evidence["spent"] == pytest.approx(4 * found.evidence["spent_instead"])
    assert (found.risk, found.standing, found.version, found.decision) == ("medium", "open", 0, None)
    accepted = await client.decide_recommendation(found.id, AdviceVerdict.ACCEPT, 0, "ann", note="in May")
    again = await client.decide_recommendation(found.id, AdviceVerdict.ACCEPT, 0, "ann", note="in May")
    assert (accepted.standing, accepted.version) == ("accepted", 1)
    assert again == accepted
    assert accepted.decision is not None
    assert (accepted.decision.verdict, accepted.decision.by, accepted.decision.note) == (
        "accept",
        "ann",
        "in May",
    )
    with pytest.raises(Aborted) as changed:
        await client.decide_recommendation(found.id, AdviceVerdict.REJECT, 0, "bob")
    assert changed.value.reason == "RECOMMENDATION_CHANGED"
    with pytest.raises(FailedPrecondition) as decided:
        await client.decide_recommendation(found.id, AdviceVerdict.REJECT, 1, "bob")
    assert decided.value.reason == "RECOMMENDATION_DECIDED"
    await client.decide_recommendation(found.id, AdviceVerdict.UNDO, 1, "bob")
    tomorrow = time.time() + 86_400
    snoozed = await client.decide_recommendation(
        found.id, AdviceVerdict.SNOOZE, 2, "bob", snoozed_until=tomorrow
    )
    assert snoozed.standing == "snoozed"
    assert "cheap/large before dear/large" in " ".join(shown(command.details(snoozed)).split())


async def test_after_the_acceptance_the_saving_is_measured(
    client: RecommendationClient, database: tuple[str, Database]
) -> None:
    """Against the tenth of requests that was left as it was; it counts in the state of optimisation."""
    found = await only_one(client)
    before = await client.get_optimization()
    assert before.potential_saving == round(found.saving.p50)
    assert before.last_optimized is None
    await client.decide_recommendation(found.id, AdviceVerdict.ACCEPT, 0, "ann")
    await asyncio.sleep(0.01)
    now = time.time()
    served = [
        RequestRecord(
            *(f"q-{i}", f"order-{i}", "acme", now, 0.5, Outcome.SUCCESS),
            content_type="blog",
            attempts=1,
            strategy="balanced",
            cost_micro_usd=40_000 if left_as_it_was(found.id, f"order-{i}") else 10_000,
        )
        for i in range(200)
    ]
    await PostgresLedger(database[1]).record([], served)
    accepted = await only_one(client)
    assert accepted.measured is not None
    assert accepted.measured.changed + accepted.measured.left == 200
    assert accepted.measured.saving.p50 == pytest.approx(30_000 * accepted.measured.changed)
    state = await client.get_optimization()
    assert (state.potential_saving, state.recommendations) == (0, ())
    assert state.current_saving == state.measured_saving > 0
    assert state.last_optimized is not None
    assert state.patterns[0].content_type == "blog"
    assert state.spend == pytest.approx(found.saving.p50 * 4 / 3, rel=0.01)
    text = shown(command.report(state, (accepted,)))
    assert "accepted" in text
    assert "saved so far" in shown(command.details(accepted))


async def test_wrong_decisions_are_refused_by_name(client: RecommendationClient) -> None:
    """INVALID_ARGUMENT names the fields, NOT_FOUND the reason."""
    with pytest.raises(InvalidArgument) as refused:
        await client.decide_recommendation("", AdviceVerdict.SNOOZE, -1, "")
    assert [fault.field for fault in refused.value.violations] == [
        "id",
        "decided_by",
        "version",
        "snoozed_until",
    ]
    with pytest.raises(NotFound) as unknown:
        await client.decide_recommendation("cheaper_model-0", AdviceVerdict.ACCEPT, 0, "ann")
    assert unknown.value.reason == "RECOMMENDATION_NOT_FOUND"


async def test_without_a_catalog_it_starts_and_says_what_is_missing(
    database: tuple[str, Database], tmp_path: Path
) -> None:
    """The ledger does not need one; the kinds that do are named."""
    dsn, connected = database
    async with connected.writing() as connection:
        await connection.execute("TRUNCATE analytics.recommendations, analytics.recommendation_look")
    async with (
        analytics(dsn, POINTSMAN_CONFIG=str(tmp_path / "missing.yaml")) as running,
        RecommendationClient(f"127.0.0.1:{running.server.port}", "", timeout=60) as client,
    ):
        found = await client.list_recommendations()
        state = await client.get_optimization()
    assert (found.recommendations, found.skipped) == ((), ("cheaper_model", "shorten_prompts"))
    assert "cheaper model, shorten prompts" in " ".join(shown(command.report(state, ())).split())


async def test_the_command_decides_by_name(database: tuple[str, Database], tmp_path: Path) -> None:
    """The version is that of the recommendation as it stands; an unknown id and a decision about none are told."""
    dsn, connected = database
    async with connected.writing() as connection:
        await connection.execute("TRUNCATE analytics.recommendations, analytics.recommendation_look")
    config = tmp_path / "pointsman.yaml"
    config.write_text(CATALOG)
    async with analytics(dsn, POINTSMAN_CONFIG=str(config)) as running:
        address = f"127.0.0.1:{running.server.port}"

        async def pointsman(*arguments: str) -> tuple[int | None, Any]:
            process = await spawn(
                *(
                    sys.executable,
                    "-c",
                    CODE,
                    "recommendations",
                    *arguments,
                    "--analytics",
                    address,
                    "--json",
                ),
                cwd=ROOT,
                env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'gen'}"},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            out, err = await process.communicate()
            return process.returncode, json.loads(out or err)

        status, found = await pointsman()
        assert (status, [item["standing"] for item in found["recommendations"]]) == (0, ["open"])
        name = found["recommendations"][0]["id"]
        status, item = await pointsman(name, "--decide", "reject", "--by", "ann", "--note", "no")
        assert (status, item["standing"], item["version"], item["decision"]["by"]) == (
            0,
            "rejected",
            1,
            "ann",
        )
        status, item = await pointsman(name, "--decide", "undo", "--by", "ann")
        assert (status, item["standing"], item["version"]) == (0, "open", 2)
        assert (await pointsman("nothing-0"))[0] != 0
        assert (await pointsman("--decide", "accept"))[0] != 0
