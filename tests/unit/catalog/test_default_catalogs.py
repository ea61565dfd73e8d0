"""The catalogs that ship are good, and the command that checks them works."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from libs.catalog.catalog import Catalog
from libs.catalog.kinds import KINDS
from libs.catalog.load import load, loads
from libs.catalog.secrets import Keys
from tests.unit.catalog.samples import GOOD

ROOT = Path(__file__).parents[3]
CONTENT_TYPES = {
    "general",
    "product_description",
    "seo_meta",
    "ad_copy",
    "email",
    "blog_post",
    "alt_text",
    "translation",
}


def _load(name: str) -> Catalog:
    return load(ROOT / "config" / name, environ={})


@pytest.mark.parametrize("name", ["pointsman.yaml", "simulator.yaml"])
def test_the_default_catalogs_are_good(name: str) -> None:
    """They load with an empty environment, know the store's content types, and give each a chain over at
    least three wires."""
    catalog = _load(name)
    assert set(catalog.content_types) == CONTENT_TYPES
    demo = catalog.tenant_by_key("demo-key")
    assert demo is not None
    assert demo.name == "demo"
    for content_type in catalog.content_types:
        policy = catalog.policy_for(demo, content_type)
        named = [entry.model_id for tier in policy.tiers for entry in tier] + list(policy.last_resort)
        assert len({catalog.providers[catalog.models[m].provider].kind for m in named}) >= 3


def test_the_simulators_catalog_stays_on_the_machine_and_has_real_prices() -> None:
    """Every provider is at the simulator's address and needs nothing from the environment; the paid wires have no
    invented price."""
    catalog = load(
        ROOT / "config" / "simulator.yaml", environ={"POINTSMAN_SIMULATOR_URL": "http://127.0.0.1:5"}
    )
    keys = Keys({})
    for provider in catalog.providers.values():
        assert provider.base_url.startswith(f"http://127.0.0.1:5/{provider.name}")
        assert keys.why_missing(provider) is None
    # The simulator refuses this wire without a key, as the vendor does.
    assert keys(catalog.providers["anthropic"])
    assert {m.provider for m in catalog.models.values() if m.price is not None} == {"local"}
    assert {p.kind for p in catalog.providers.values()} == {
        "openai",
        "anthropic",
        "gemini",
        "openai_compatible",
    }


def test_the_tight_tenant_is_tight() -> None:
    """Its limits are small enough to be met by hand."""
    tight = _load("simulator.yaml").tenant_by_key("tight-key")
    assert tight is not None
    assert min(limit.limit for limit in tight.limits if limit.unit == "requests") <= 10


def test_the_default_catalog_keeps_keys_out() -> None:
    """Every real provider names the variable that holds its key."""
    for provider in _load("pointsman.yaml").providers.values():
        assert provider.api_key_env.endswith("_API_KEY")


def _command(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "libs.catalog", *arguments],
        cwd=ROOT,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_check_command(tmp_path: Path) -> None:
    """A good file exits 0 with one line; a bad one exits 1 with one line per fault."""
    path = tmp_path / "c.yaml"
    path.write_text(GOOD)
    good = _command("check", str(path))
    assert (good.returncode, good.stderr) == (0, "")
    assert "2 providers" in good.stdout
    path.write_text(GOOD.replace("priority: bulk", "priority: urgent").replace("limit: 8}", "limit: x}"))
    bad = _command("check", str(path))
    assert (bad.returncode, bad.stdout) == (1, "")
    assert [line.split(":")[0] for line in bad.stderr.splitlines()] == [str(path)] * 2


def test_the_hash_command() -> None:
    """It prints what goes into key_sha256 of a key read from standard input."""
    made = _command("hash", stdin="demo-key\n")
    assert made.stdout.strip() == hashlib.sha256(b"demo-key").hexdigest()
    assert _command("hash").returncode == 1


def test_the_documented_example_is_good() -> None:
    """The whole catalog in docs/catalog.md loads as it stands, and its table of kinds is complete."""
    page = (ROOT / "docs" / "catalog.md").read_text()
    example = page.split("```yaml\n", 1)[1].split("```", 1)[0]
    assert loads(example.encode(), "docs/catalog.md", environ={}).tenants["acme"].campaigns
    for kind, known in KINDS.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{kind}` |"))
        assert f"`{known.base_url}`" in row or not known.base_url
        assert f"`{known.api_key_env}`" in row or not known.api_key_env
