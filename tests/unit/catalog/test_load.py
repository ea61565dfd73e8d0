"""Reading a catalog: what a good one means, and what is said about a bad one."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.catalog import load as load_module
from libs.catalog.faults import CatalogError, Fault
from libs.catalog.limits import DEFAULT_THRESHOLDS, LimitSpec, Threshold
from libs.catalog.load import load, loads
from libs.catalog.model import DEFAULT, Price, Weighted
from libs.limits import Period, Unit, scope_of
from libs.types import Priority
from tests.unit.catalog.samples import GOOD, KEY_HASH, changed, faults_of, line_of, read


def test_reads_every_field() -> None:
    """Each field of the YAML arrives in the value of the same name, in the unit that the value documents."""
    catalog = read(GOOD)
    house = catalog.providers["house"]
    assert (house.base_url, house.limits) == (
        "http://127.0.0.1:9000/v1",
        (LimitSpec(Unit.CONCURRENCY, Period.NONE, 8),),
    )
    assert catalog.models["house/gpt-4o-mini"].price == Price(20_000, 50_000, 2_000)
    assert catalog.models["openai/gpt-4o-mini"].capabilities == {"streaming", "system", "tools"}
    assert catalog.policies["default"].tiers[1] == (Weighted("house/gpt-4o-mini", 3),)
    assert catalog.policies["default"].max_cost_micro_usd == 250_000
    cheap = catalog.policies["cheap"]
    assert (cheap.last_resort, cheap.strategy, cheap.max_attempts) == (
        ("openai/gpt-4o-mini",),
        "cost_first",
        3,
    )
    assert (cheap.degradation, cheap.max_retry_after) == (("queue", "refuse"), 0.0)
    acme = catalog.tenants["acme"]
    assert acme.limits[0] == LimitSpec(Unit.REQUESTS, Period.MINUTE, 60, burst=10)
    assert acme.limits[1] == LimitSpec(
        Unit.MICRO_USD, Period.MONTH, 12_500_000, None, True, DEFAULT_THRESHOLDS
    )
    assert (acme.priority, acme.time_zone, acme.default_deadline) == (Priority.BULK, "Europe/Zurich", 30.0)
    assert (acme.allowed_providers, acme.max_cost_micro_usd) == (frozenset({"openai"}), 100_000)
    campaign = LimitSpec(Unit.MICRO_USD, Period.DAY, 3_000_000, thresholds=DEFAULT_THRESHOLDS)
    assert acme.campaigns["summer sale"] == (campaign,)
    emails = (Threshold(9, "warn"), Threshold(80, "queue"), Threshold(100, "refuse"))
    assert acme.content_limits["email"] == (
        LimitSpec(Unit.MICRO_USD, Period.DAY, 2_000_000, thresholds=emails),
    )
    assert (catalog.domain, catalog.default_content_type) == ("test", "general")
    assert catalog.version == hashlib.sha256(GOOD.encode()).hexdigest()[:12]


def test_a_limit_is_paced_where_it_says_so() -> None:
    """And nowhere else."""
    paced = read(changed("burst: 10}", "burst: 10, pace: true}")).tenants["acme"].limits[0]
    assert paced == LimitSpec(Unit.REQUESTS, Period.MINUTE, 60, burst=10, pace=True)
    assert read(GOOD).tenants["acme"].limits[0].pace is False


def test_absent_is_not_zero() -> None:
    """A field that is not written has the documented default, never an accidental zero."""
    idle = read(GOOD).tenants["idle"]
    assert (idle.max_cost_micro_usd, idle.allowed_providers, idle.strategy) == (None, None, None)
    assert (idle.time_zone, idle.priority, idle.default_deadline) == ("UTC", Priority.STANDARD, 120.0)


def test_a_kind_named_as_its_provider_needs_nothing_else() -> None:
    """`openai: {}` is a whole provider: kind, address and variable of the key are known."""
    openai = read(GOOD).providers["openai"]
    assert (openai.kind, openai.base_url) == ("openai", "https://api.openai.com/v1")
    assert openai.api_key_env == "OPENAI_API_KEY"


def test_an_empty_variable_name_means_no_key() -> None:
    """An explicit empty `api_key_env` is not replaced by the kind's default."""
    catalog = read(changed("openai: {}\n", 'openai: {api_key_env: ""}\n'))
    assert not catalog.providers["openai"].needs_key


def test_a_relative_key_file_is_beside_the_catalog(tmp_path: Path) -> None:
    """Whatever the working directory is; an absolute path stays as it is."""
    for written, meant in (("keys/a", str(tmp_path / "keys" / "a")), ("/run/a", "/run/a")):
        path = tmp_path / "c.yaml"
        path.write_text(changed("openai: {}\n", f"openai: {{api_key_file: {written}}}\n"))
        openai = load(path, environ={}).providers["openai"]
        assert (openai.api_key_file, openai.api_key_env) == (meant, "")


def test_a_region_fills_the_address_and_reaches_the_wire() -> None:
    """Kinds whose address depends on the region get it from the region."""
    text = changed("  openai: {}\n", "  openai: {}\n  bedrock: {region: eu-central-1}\n")
    bedrock = read(text).providers["bedrock"]
    assert bedrock.base_url == "https://bedrock-runtime.eu-central-1.amazonaws.com"
    assert bedrock.options["region"] == "eu-central-1"


def test_the_environment_fills_addresses() -> None:
    """`${NAME:-default}` takes the variable where it is set and not empty."""
    assert read(GOOD, {"HOUSE_URL": "http://gpu:1/v1"}).providers["house"].base_url == "http://gpu:1/v1"
    assert read(GOOD, {"HOUSE_URL": ""}).providers["house"].base_url == "http://127.0.0.1:9000/v1"


def test_without_policies_every_model_is_one_tier() -> None:
    """A catalog always has a default policy."""
    text = GOOD[: GOOD.index("policies:\n  default")] + GOOD[GOOD.index("content_types:") :]
    text = text.replace(", policy: cheap", "").replace("    policies: {email: default}\n", "")
    assert read(text).policies[DEFAULT].tiers == (
        (Weighted("openai/gpt-4o-mini"), Weighted("house/gpt-4o-mini")),
    )


def test_resolves_models_by_id_and_by_name() -> None:
    """A full id means one model, a bare name that model at every provider."""
    catalog = read(GOOD)
    assert [m.id for m in catalog.resolve_model("house/gpt-4o-mini")] == ["house/gpt-4o-mini"]
    assert [m.id for m in catalog.resolve_model("gpt-4o-mini")] == ["openai/gpt-4o-mini", "house/gpt-4o-mini"]
    assert catalog.resolve_model("gpt-5") == ()


def test_finds_a_tenant_by_its_key_alone() -> None:
    """The key finds its tenant; its hash, and anything else, finds nobody."""
    catalog = read(GOOD)
    found = catalog.tenant_by_key("acme-key")
    assert found is not None
    assert found.name == "acme"
    for other in ("", "acme-key ", KEY_HASH, "\udcff", "acme"):
        assert catalog.tenant_by_key(other) is None


def test_policies_go_from_tenant_to_content_type() -> None:
    """The tenant's policy for a content type wins over the content type's own."""
    catalog = read(GOOD)
    assert catalog.policy_for(catalog.tenants["acme"], "email").name == "default"
    assert catalog.policy_for(catalog.tenants["idle"], "email").name == "cheap"
    assert catalog.policy_for(catalog.tenants["idle"], "general").name == "default"


def test_lists_every_limit_with_scope_and_time_zone() -> None:
    """`limits()` names each configured limit once, in the tenant's time zone where it is a tenant's."""
    found = {(str(scope), zone, limit.unit.value) for scope, zone, limit in read(GOOD).limits()}
    assert found == {
        ("provider:house", "UTC", "concurrency"),
        ("tenant:acme", "Europe/Zurich", "requests"),
        ("tenant:acme", "Europe/Zurich", "micro_usd"),
        ("tenant_provider:acme/openai", "Europe/Zurich", "requests"),
        ("tenant_content:acme/email", "Europe/Zurich", "micro_usd"),
        ("campaign:acme/summer sale", "Europe/Zurich", "micro_usd"),
    }


def test_a_key_has_limits_of_its_own() -> None:
    """Named by its variable, or its file; all providers that use it share them."""
    limits = "limits: [{unit: requests, period: minute, limit: 9}]"
    named = read(GOOD.replace("policies:", f"keys: {{OPENAI_API_KEY: {{{limits}}}}}\npolicies:", 1))
    assert named.providers["openai"].key_name == "OPENAI_API_KEY"
    assert (
        scope_of("key:OPENAI_API_KEY"),
        "UTC",
        LimitSpec(Unit.REQUESTS, Period.MINUTE, 9),
    ) in named.limits()
    filed = GOOD.replace("openai: {}", "openai: {api_key_file: keys/main.key}")
    assert read(filed).providers["openai"].key_name == "main.key"


BAD = [
    ("version: 1\n", "version: 2\n", "version: must be 1, the version of the file format"),
    (
        "kind: openai_compatible",
        "kind: openai_compatble",
        'providers.house.kind: unknown kind "openai_compatble" (did you mean "openai_compatible"?)',
    ),
    ("openai: {}\n", "openai: {base_ur: x}\n", 'unknown field (did you mean "base_url"?)'),
    ("openai: {}\n", "openai: {api_key: sk-1}\n", "a key does not belong in the catalog"),
    ("openai: {}\n", "openai: {options: {auth_token: x}}\n", "a key does not belong in the catalog"),
    ("openai: {}\n", "openai: {api_key_env: sk-1}\n", "must be the name of an environment variable"),
    ("openai: {}\n", "openai: {api_key_env: A, api_key_file: /b}\n", "not both"),
    ("openai: {}\n", "openai: {base_url: 'ftp://x'}\n", "must begin with http:// or https://"),
    ("openai: {}\n", "openai: {base_url: 'https://u:p@x'}\n", "must not hold a user name or password"),
    ("openai: {}\n", "openai: {base_url: 'https://x:99999'}\n", "is not a URL"),
    ("openai: {}\n", "openai: {base_url: '${NOPE}'}\n", "NOPE is not set in the environment"),
    ("openai: {}\n", "openai: {base_url: '${a-b}'}\n", "write ${NAME} or ${NAME:-default}"),
    ("openai: {}\n", "openai: {timeouts: {idle: 0}}\n", "idle must be above 0"),
    ("openai: {}\n", "openai: {kind: bedrock}\n", "providers.openai.region: is required for kind bedrock"),
    ("openai: {}\n", "openai: [a]\n", "providers.openai: must be a mapping"),
    ("limit: 8}", "limit: -8}", "limit must be 0 to 1000000000000000, not -8"),
    ("limit: 8}", "limit: 1000000000000001}", "limit must be 0 to 1000000000000000"),
    ("limit: 60, burst", "limit: 10_000_000_001, burst", "limit must be 0 to 10000000000"),
    ("period: month, limit: 12.5", "period: hour, limit: 10_001", "limit must be 0 to 10000000000"),
    ("limit: 12.5", "limit: 1_000_000_001", "limit must be 0 to 1000000000000000"),
    ("burst: 10", "burst: 10_000_000_001", "burst must be 1 to 10000000000"),
    ("limit: 8}", "limit: 8, thresholds: {}}", "only budgets of tenants, campaigns and content types"),
    ("burst: 10}", "thresholds: {50: warn}}", "thresholds apply to usd per day or month only"),
    ("{80: queue", "{80: stop", 'thresholds.80: unknown action "stop"'),
    ("{80: queue", "{0: queue", "thresholds.0: a threshold must be 1 to 100, not 0"),
    ("{80: queue", "{101: queue", "thresholds.101: a threshold must be 1 to 100, not 101"),
    ("{80: queue", "{most: queue", "thresholds.most: a threshold is a percentage from 1 to 100, such as 80"),
    ("{80: queue", "{100: queue", "thresholds.100: a budget refuses at 100 percent"),
    ("{80: queue, 9: warn}", "[50, 80]", "content_limits.email[0].thresholds: must be a mapping"),
    ("content_limits: {email:", "content_limits: {emial:", 'unknown content type "emial"'),
    (
        "policies:\n  default:",
        "keys: {OPENAI_API_KY: {}}\npolicies:\n  default:",
        'unknown key "OPENAI_API_KY" (did you mean "OPENAI_API_KEY"?)',
    ),
    (
        "policies:\n  default:",
        "keys: {OPENAI_API_KEY: {limits: [{unit: tokens, period: day, limit: 1}]}}\npolicies:\n  default:",
        "keys.OPENAI_API_KEY.limits[0].unit: ",
    ),
    ("limit: 8}", "limit: eight}", "limits[0].limit: must be a whole number"),
    ("limit: 8}", "limit: 8, period: minute}", "concurrency has no period"),
    ("limit: 8}", "}", "limits[0].limit: is required"),
    ("limit: 60, burst: 10", "limit: 60, burst: 0", "burst must be 1 to"),
    (
        "period: day, limit: 1000",
        "period: day, limit: 1000, burst: 5",
        "burst applies to second, minute, hour",
    ),
    (
        "period: day, limit: 1000",
        "period: day, limit: 1000, pace: true",
        "pace applies to second, minute, hour",
    ),
    ("limit: 8}", "limit: 8, pace: true}", "pace applies to second, minute, hour"),
    ("burst: 10}", "burst: 10, pace: slow}", "must be true or false"),
    ("period: month, limit: 12.5", "limit: 12.5", "micro_usd needs a period"),
    ("limit: 12.5", "limit: 12.5000001", "is finer than a millionth of a US dollar"),
    ("limit: 12.5", "limit: 1e3", "must be an amount in US dollars"),
    (
        "unit: usd, period: month",
        "unit: requests, period: minute",
        "tenants.acme.limits[1].limit: must be a whole",
    ),
    ("context_window: 8192", "context_window: 0", "context_window must be 1 to"),
    ("max_output_tokens: 1024", "max_output_tokens: 8193", "max_output_tokens must be 1 to 8192, not 8193"),
    ("system, tools]", "sytem]", 'capabilities[1]: unknown capability "sytem" (did you mean "system"?)'),
    ("system, tools]", "system, pdf_url]", "a provider of kind openai has no form for pdf_url"),
    ("email: 0.9}", "email: 1.9}", "quality.email must be 0 to 1"),
    ("email: 0.9}", "emial: 0.9}", 'unknown content type "emial" (did you mean "email"?)'),
    ("weight: 3", "wieght: 3", 'tiers[1][0].wieght: unknown field (did you mean "weight"?)'),
    (
        "tiers: [[house/gpt-4o-mini]]",
        "tiers: [[house/gpt4]]",
        'policies.cheap.tiers[0][0]: unknown model "house/gpt4"',
    ),
    ("tiers: [[house/gpt-4o-mini]]", "tiers: [house/gpt-4o-mini]", "tiers[0]: must be a list"),
    ("tiers: [[house/gpt-4o-mini]]", "tiers: []", "needs at least one tier"),
    ("last_resort: [openai/gpt-4o-mini]", "last_resort: [house/gpt-4o-mini]", "is named more than once"),
    ("degradation: [queue, refuse]", "degradation: [queue, queue]", "is named twice"),
    ("max_attempts: 3", "max_attempts: 11", "max_attempts must be 1 to 10"),
    ("policy: cheap", "policy: cheep", 'unknown policy "cheep" (did you mean "cheap"?)'),
    (f"[{KEY_HASH}]", "[acme-key]", "tenants.acme.key_sha256[0]: a key hash is 64 lower-case hex digits"),
    ("  idle: {}\n", f"  idle: {{key_sha256: [{KEY_HASH}]}}\n", 'tenant "acme" has the same key'),
    ("  idle: {}\n", "  idle: {key: x}\n", "write the key's SHA-256 into key_sha256"),
    ("  idle: {}\n", "  acme: {}\n", '"acme" is written twice, before on line'),
    ("Europe/Zurich", "Europe/Zurch", 'unknown time zone "Europe/Zurch"'),
    ("Europe/Zurich", "../../etc/passwd", "unknown time zone"),
    ("priority: bulk", "priority: urgent", 'unknown priority "urgent"'),
    ("policies: {email: default}", "policies: {emial: default}", 'unknown content type "emial"'),
    ("allowed_providers: [openai]", "allowed_providers: [opena]", 'unknown provider "opena"'),
    ("provider_limits: {openai:", "provider_limits: {opnai:", 'unknown provider "opnai"'),
    ("domain: test", "domain: te st", "'te st' is not a name"),
    ("domain: test", "domain: 12", "domain: must be a text: put it in quotes"),
    ("shadow: true", "shadow: yes", "must be true or false"),
    ("  idle: {}", "  idle: *a", "aliases (*name) are not supported"),
]


@pytest.mark.parametrize(("old", "new", "expected"), BAD)
def test_names_each_fault(old: str, new: str, expected: str) -> None:
    """One thing wrong gives exactly one fault, on a line that holds what is wrong or the entry around it."""
    found = faults_of(changed(old, new))
    assert len(found) == 1, found
    assert expected in found[0]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("  openai: {}\n", "  opnai: {}\n", "providers.opnai.kind: is required"),
        (
            "  house/gpt-4o-mini:\n",
            "  hose/gpt-4o-mini:\n",
            'unknown provider "hose" (did you mean "house"?)',
        ),
        ("  house/gpt-4o-mini:\n", "  gpt-4o-mini:\n", 'a model is named "provider/model"'),
        ("  general: {", "  default: {", '"default" means every content type'),
    ],
)
def test_a_wrong_name_is_a_fault_there_and_where_the_right_one_was_used(
    old: str, new: str, expected: str
) -> None:
    """A mistyped entry is reported itself, and so is every reference that now leads nowhere."""
    found = faults_of(changed(old, new))
    assert any(expected in fault for fault in found)
    assert any("unknown" in fault and expected not in fault for fault in found)


def test_a_fault_names_its_line() -> None:
    """The line is the wrong field's, not the entry's."""
    text = changed("context_window: 8192", "context_window: many")
    line = line_of(text, "context_window: many")
    assert faults_of(text) == [f"{line}: models.house/gpt-4o-mini.context_window: must be a whole number"]


def test_names_all_faults_at_once() -> None:
    """Faults in different entries are all reported, in the order of their lines, after the file's name."""
    text = (
        GOOD.replace("limit: 8}", "limit: -8}")
        .replace("Europe/Zurich", "Mars")
        .replace("system, tools", "jsn")
    )
    with pytest.raises(CatalogError) as caught:
        read(text)
    lines = [fault.line for fault in caught.value.faults]
    assert lines == sorted(lines) == [line_of(text, part) for part in ("limit: -8", "jsn", "Mars")]
    assert all(line.startswith("c.yaml:") for line in str(caught.value).splitlines())


def test_a_refused_entry_is_not_reported_again_where_it_is_used() -> None:
    """One wrong model is one fault, however many policies name it."""
    assert len(faults_of(changed("context_window: 8192", "context_window: many"))) == 1


def test_many_faults_are_cut_short() -> None:
    """A wrong indent with hundreds of effects stays readable."""
    text = GOOD + "".join(f"  t{i}: {{x: 1}}\n" for i in range(300))
    with pytest.raises(CatalogError) as caught:
        read(text)
    assert len(caught.value.faults) == 300
    assert len(str(caught.value).splitlines()) == 51
    assert str(caught.value).endswith("and 250 more faults")


def test_secrets_are_not_repeated() -> None:
    """A key written into the catalog by mistake does not reach the message, and so not the log."""
    for new in (
        "openai: {api_key: sk-secret}\n",
        "openai: {api_key_env: sk-secret}\n",
        "openai: {options: {api_key: sk-secret}}\n",
        "openai: {base_url: 'https://me:sk-secret@x'}\n",
    ):
        assert "sk-secret" not in " ".join(faults_of(changed("openai: {}\n", new)))
    assert "acme-key" not in " ".join(faults_of(changed(f"[{KEY_HASH}]", "[acme-key]")))


def test_a_model_without_a_known_price_is_refused() -> None:
    """Cost is never silently zero: a price must be known, given, or declared free by the kind."""
    text = changed("    price: {input: 0.02, output: 0.05, cache_read: 0.002}\n", "")
    assert "add price: {input:" in faults_of(text)[0]
    assert read(text, prices=False).models
    assert read(text.replace("openai_compatible", "vllm")).models


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "the file is empty or not a mapping"),
        ("# nothing\n", "the file is empty or not a mapping"),
        ("- a\n", "the file is empty or not a mapping"),
        ("a: [\n", "2: not YAML"),
        ("a: 1\n\tb: 2\n", "2: not YAML"),
        ("? [a]\n: b\n", "1: a key must be a text"),
        ("a: !!python/object:os.system x\n", "1: tags (!name) are not supported"),
        ("<<: {a: 1}\n", "1: merge keys (<<) are not supported"),
        ("version: 1\n---\nversion: 1\n", "2: a second YAML document"),
        ("[" * 100_000, "1: not YAML: nested more than 16 levels deep"),
        ("a: " + "{b: " * 100_000, "1: not YAML: nested more than 16 levels deep"),
        ("a: \x00\n", "not YAML"),
    ],
)
def test_refuses_what_is_not_a_plain_document(text: str, expected: str) -> None:
    """Broken, tagged, nested or multiple documents are refused with a line, never expanded or executed."""
    assert any(expected in fault for fault in faults_of(text))


def test_aliases_are_refused() -> None:
    """Ten lines of aliases cannot become a billion entries."""
    bomb = "a: &a [x, x]\n" + "".join(
        f"{c}: &{c} [*{p}, *{p}]\n" for p, c in zip("abcdefgh", "bcdefghi", strict=True)
    )
    assert any("aliases (*name) are not supported" in fault for fault in faults_of(bomb))


def test_bytes_that_are_not_utf8_are_refused_with_their_line() -> None:
    """The fault names the line of the first bad byte."""
    with pytest.raises(CatalogError) as caught:
        loads(b"version: 1\n# caf\xe9\n", "c.yaml", environ={})
    assert [str(fault) for fault in caught.value.faults] == ["2: not UTF-8"]


@pytest.fixture
def odd_files(tmp_path: Path) -> dict[str, Path]:
    """Things that are not a readable catalog file."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    return {name: tmp_path / name for name in ("pipe", "folder", "absent")}


def test_refuses_what_is_not_a_file(odd_files: dict[str, Path]) -> None:
    """A pipe would be waited for, a folder cannot be read, an absent file says so."""
    expected = {"pipe": "not a file", "folder": "Is a directory", "absent": "No such file"}
    for name, path in odd_files.items():
        with pytest.raises(CatalogError, match=expected[name]):
            load(path)


def test_refuses_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The size is bounded before anything is parsed."""
    monkeypatch.setattr(load_module, "MAX_BYTES", 1024)
    path = tmp_path / "c.yaml"
    path.write_text(GOOD + "#" * 1024)
    with pytest.raises(CatalogError, match="larger than"):
        load(path)


def test_a_byte_order_mark_is_no_fault() -> None:
    """Editors on Windows write one."""
    assert loads(b"\xef\xbb\xbf" + GOOD.encode(), "c.yaml", environ={}).domain == "test"


@given(
    st.integers(0, len(GOOD)),
    st.integers(0, 40),
    st.one_of(
        st.text(max_size=12), st.sampled_from(["{", "[", "]", ": ", "\n", "null", "~", "- ", "'", "1", "-1"])
    ),
)
def test_any_edit_gives_a_catalog_or_faults(at: int, drop: int, insert: str) -> None:
    """Whatever is cut out of or typed into a good file, the outcome is a catalog or a CatalogError with
    faults."""
    data = (GOOD[:at] + insert + GOOD[at + drop :]).encode("utf-8", "surrogatepass")
    faults: tuple[Fault, ...] = ()
    try:
        made = loads(data, "c.yaml", environ={}, prices=False)
    except CatalogError as error:
        made, faults = None, error.faults
    assert (made is None) == bool(faults)


@given(st.binary(max_size=200))
def test_any_bytes_give_faults(data: bytes) -> None:
    """Random bytes are refused, with CatalogError and nothing else."""
    with pytest.raises(CatalogError):
        loads(data, "c.yaml", environ={}, prices=False)
