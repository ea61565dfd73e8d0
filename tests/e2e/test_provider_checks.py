"""`pointsman test` and `pointsman doctor` on a whole stack: what they find, what they cost, and who pays."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from cli.trials import LABELS
from libs.client import CostClient
from tests.e2e.catalogs import OPENAI_SECRET, TENANT_KEY
from tests.e2e.conftest import Shared
from tests.integration.test_client_cli import Ended, end, start
from tests.support.tls_server import closed_port


def environment(shared: Shared) -> dict[str, str]:
    """Addresses and keys of the stack."""
    addresses = shared.stack.addresses
    names = ("router", "health", "ratelimit", "analytics")
    return {
        **{f"POINTSMAN_{name.upper()}": addresses[name] for name in names},
        "POINTSMAN_KEY": TENANT_KEY,
        "POINTSMAN_SERVICE_TOKEN": addresses["service_token"],
        "COLUMNS": "80",
    }


async def command(shared: Shared, cwd: Path, *arguments: str) -> Ended:
    """Runs it; the key must be in nothing that it says."""
    ended = await end(await start(cwd, *arguments, **environment(shared)))
    assert OPENAI_SECRET not in ended.out + ended.err
    return ended


def ends(endpoint: dict[str, Any]) -> list[tuple[str, str, str | None]]:
    return [(step["name"], step["verdict"], step["cause"]) for step in endpoint["steps"]]


async def test_a_provider_is_tested_for_nothing(shared: Shared, tmp_path: Path) -> None:
    """All steps of a good provider within 80 columns; after its key is changed at the vendor the refusal is named and
    the exit status is 1; no call was made."""
    shown = await command(shared, tmp_path, "test", "openai")
    assert shown.code == 0, shown.out + shown.err
    assert max(map(len, shown.out.splitlines())) <= 80
    assert all(word in shown.out for word in ("name resolution", "passed", "E2E_OPENAI_KEY"))
    await shared.stack.simulator.set("openai", expect_key="another")
    ended = await command(shared, tmp_path, "test", "openai", "--json")
    assert ended.code == 1
    (endpoint,) = ended.json["endpoints"]
    assert ends(endpoint)[3:] == [
        ("authentication", "failed", "key_refused"),
        ("models", "skipped", "earlier_step_failed"),
    ]
    assert (await shared.stack.simulator.counters("openai"))["requests"] == 0
    ended = await command(shared, tmp_path, "test", "nobody", "--json")
    assert (ended.code, ended.error["reason"]) == (1, "NOT_FOUND")


async def test_paid_trials_are_in_the_ledger(shared: Shared, tmp_path: Path) -> None:
    """Each model answers whole and streamed; what is printed as their cost is what the ledger holds under the label
    of trials, at the tenant whose key was used."""
    ended = await command(shared, tmp_path, "test", "openai", "--generate", "--json")
    assert ended.code == 0, ended.out + ended.err
    trials = ended.json["generations"]
    assert {trial["verdict"] for trial in trials} == {"passed"}
    assert len(trials) == 2 * len({trial["model"] for trial in trials})
    assert ended.json["cost_micro_usd"] == sum(trial["cost_micro_usd"] for trial in trials) > 0
    report = await shared.stack.simulator.report("openai")
    assert report["counters"]["requests"] == len(trials)
    addresses = shared.stack.addresses
    async with CostClient(addresses["analytics"], addresses["service_token"]) as client, asyncio.timeout(20):
        while True:
            costs = await client.get_costs(labels=dict(LABELS))
            if costs.total.cost_micro_usd >= ended.json["cost_micro_usd"]:
                break
            await asyncio.sleep(0.1)
    assert costs.total.cost_micro_usd == ended.json["cost_micro_usd"]


async def test_a_failing_trial_is_told_beside_the_others(shared: Shared, tmp_path: Path) -> None:
    """A vendor that lists its models and generates nothing passes the free steps and fails the paid ones."""
    await shared.stack.simulator.set(
        "openai", expect_key=OPENAI_SECRET, faults=[{"kind": "status", "status": 400}]
    )
    ended = await command(shared, tmp_path, "test", "openai", "--generate", "--json")
    assert ended.code == 1
    assert not any(verdict == "failed" for _, verdict, _ in ends(ended.json["endpoints"][0]))
    assert {trial["verdict"] for trial in ended.json["generations"]} == {"failed"}
    assert all(trial["reason"] for trial in ended.json["generations"])
    assert json.dumps(ended.json)


async def test_a_doctor_finds_a_sound_system_sound(shared: Shared, tmp_path: Path) -> None:
    """All services, stores with version and schema, clocks and providers; nothing fails and nothing is generated."""
    ended = await command(shared, tmp_path, "doctor", "--json")
    assert ended.code == 0, ended.out + ended.err
    checks = ended.json["checks"]
    assert {check["area"] for check in checks} == {"service", "settings", "store", "clock"}
    assert not [check for check in checks if check["verdict"] != "passed"]
    stores = {check["name"]: check for check in checks if check["area"] == "store"}
    assert set(stores) == {"health states", "ratelimit limits", "analytics ledger"}
    assert all(stores[name]["version"] for name in stores)
    for name in ("ratelimit limits", "analytics ledger"):
        assert stores[name]["schema"] == stores[name]["schema_wanted"] > 0
    assert set(ended.json["providers"]) == {"openai", "anthropic", "gemini"}
    shown = await command(shared, tmp_path, "doctor")
    assert shown.code == 0
    assert max(map(len, shown.out.splitlines())) <= 80
    assert (await shared.stack.simulator.counters("openai"))["requests"] == 0


async def test_a_doctor_names_what_is_not_there(shared: Shared, tmp_path: Path) -> None:
    """A service that does not answer and a provider whose key is refused fail; all else is examined all the same; a
    tenant's key is no operator's."""
    await shared.stack.simulator.set("openai", expect_key="another")
    with closed_port() as port:
        ended = await command(shared, tmp_path, "doctor", "--json", "--analytics", f"127.0.0.1:{port}")
    assert ended.code == 1
    failed = [check for check in ended.json["checks"] if check["verdict"] == "failed"]
    assert [(check["area"], check["ailment"]) for check in failed] == [("service", "no_answer")]
    (endpoint,) = ended.json["providers"]["openai"]
    assert ("authentication", "failed", "key_refused") in ends(endpoint)
    ended = await command(
        shared,
        tmp_path,
        "doctor",
        "--json",
        "--token",
        TENANT_KEY,
        "--router",
        shared.stack.addresses["router"],
    )
    reasons = {check["name"].split()[0]: check["reason"] for check in ended.json["checks"]}
    assert reasons == {
        "router": "OPERATORS_ONLY",
        "health": "SERVICE_TOKEN_REQUIRED",
        "ratelimit": "SERVICE_TOKEN_REQUIRED",
        "analytics": "SERVICE_TOKEN_REQUIRED",
    }
