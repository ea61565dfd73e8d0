"""A provider's bill against the ledger: what exports say, and the cause of each difference."""

from __future__ import annotations

from contextlib import suppress
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.bill import Billed, read_bill
from cli.differences import Cause, Recorded, compare, ledger_name
from cli.failure import CliError

DAY, NEXT = date(2026, 11, 1), date(2026, 11, 2)

#: The headings are those of the consoles' exports as of 2026; each says the same usage.
EXPORTS = {
    "Anthropic usage": (
        "usage_date_utc,model_version,api_key,workspace,usage_type,context_window,usage_input_tokens_no_cache,"
        "usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,"
        "usage_output_tokens,web_search_count\n"
        "2026-11-01,m,key,Default,standard,≤ 200k,600,50,50,200,80,0\n"
        "2026-11-01,m,other,Default,standard,≤ 200k,100,0,0,0,20,0\n",
        Billed(None, 1000, 100, 200, 100, None),
    ),
    "OpenAI usage": (
        "start_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,user_id,api_key_id,model,"
        "batch,service_tier,input_tokens,output_tokens,input_cached_tokens\n"
        "1793491200,1793577600,2026-11-01T00:00:00+00:00,2026-11-02T00:00:00+00:00,p,7,,k,m,,,1000,100,300\n"
        "1793577600,1793664000,2026-11-02T00:00:00+00:00,2026-11-03T00:00:00+00:00,,,,,,,,,,\n",
        Billed(7, 1000, 100, 300, None, None),
    ),
    "OpenAI costs": (
        "start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,line_item,project_id\n"
        '1793491200,1793577600,2026-11-01T00:00:00+00:00,2026-11-02T00:00:00+00:00,0.25,usd,"m, input",p\n'
        '1793491200,1793577600,2026-11-01T00:00:00+00:00,2026-11-02T00:00:00+00:00,0.0000019,usd,"m, output",p\n',
        Billed(None, None, None, None, None, 250_002),
    ),
    "OpenAI activity": (
        "date,model,n_requests,n_context_tokens_total,n_generated_tokens_total\n2026-11-01,m,7,1000,100\n",
        Billed(7, 1000, 100, None, None, None),
    ),
    "usage": (
        "Date;Model;Requests;Prompt_Tokens;Completion_Tokens;Cost_USD\n2026-11-01;m;7;1,000;100;$0.25\n",
        Billed(7, 1000, 100, None, None, 250_000),
    ),
}


@pytest.mark.parametrize("kind", EXPORTS)
def test_an_export_is_known_by_its_heading(kind: str) -> None:
    """Prompt tokens are all of them however the export counts, and what it does not say is not taken for nothing."""
    content, expected = EXPORTS[kind]
    bill = read_bill(b"\xef\xbb\xbf" + content.encode())
    assert bill.kind == kind
    assert bill.rows == {(DAY, "m"): expected}


def test_instants_with_an_offset_are_of_their_day_in_utc() -> None:
    bill = read_bill(b"timestamp,model,input_tokens\n2026-11-02T00:30:00+01:00,m,5\n")
    assert [*bill.rows] == [(DAY, "m")]


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "columns"),
        (b"date,model\n2026-11-01,m\n", "columns"),
        (b"date,model,input_tokens\nyesterday,m,5\n", "line 2"),
        (b"date,model,input_tokens\n2026-11-01,m,5\n2026-11-01,m,many\n", "line 3"),
        (b"date,model,cost_usd\n2026-11-01,m,NaN\n", "line 2"),
        (b"date,model,cost_usd\n2026-11-01,m,1e99\n", "line 2"),
        (b"date,model,input_tokens\n99999999999999999999,m,5\n", "line 2"),
        (b"date,model,input_tokens\n2026-11-01,m,\xff\n", "UTF-8"),
    ],
)
def test_what_is_no_export_is_told_apart(content: bytes, why: str) -> None:
    """A sentence that names the line or what is missing."""
    with pytest.raises(CliError, match=why):
        read_bill(content)


@given(st.binary(max_size=300), st.sampled_from([*EXPORTS]))
def test_any_bytes_are_read_or_refused(noise: bytes, kind: str) -> None:
    """Nothing else is raised, whatever follows a good heading."""
    heading = EXPORTS[kind][0].encode().partition(b"\n")[0]
    for content in (noise, heading + b"\n" + noise):
        with suppress(CliError):
            read_bill(content)


@pytest.mark.parametrize(
    "name", ["gpt-4o", "gpt-4o-2024-08-06", "gpt-4o@20240806", "openai/gpt-4o", "gpt-4o-latest"]
)
def test_a_dated_version_is_its_model(name: str) -> None:
    assert ledger_name(name, {"gpt-4o", "gpt-4"}) == "gpt-4o"
    assert ledger_name("gpt-4o-mini-2024-07-18", {"gpt-4o"}) == "gpt-4o-mini-2024-07-18"


OURS = Recorded(7, 1000, 100, 300, 0, 250_000)
CAUSES = {
    "the same": (Billed(7, 1000, 100, 300, 0, 250_000), OURS, Cause.NONE),
    "rounded": (Billed(None, None, None, None, None, 250_100), OURS, Cause.NONE),
    "money alone": (Billed(cost_micro_usd=300_000), OURS, Cause.UNKNOWN),
    "past Pointsman": (Billed(7, 1000, 100), None, Cause.NOT_IN_LEDGER),
    "not billed": (None, OURS, Cause.NOT_IN_BILL),
    "cached apart": (Billed(7, 700, 100, 300, None, 200_000), OURS, Cause.CACHED),
    "cached twice": (Billed(7, 1300, 100, 300, None, 300_000), OURS, Cause.CACHED),
    "another price": (Billed(7, 1000, 100, None, None, 275_000), OURS, Cause.PRICE),
    "estimated": (
        Billed(7, 900, 90, None, None, 225_000),
        Recorded(7, 1000, 100, 0, 0, 250_000, not_exact_micro_usd=30_000),
        Cause.NOT_EXACT,
    ),
    "calls missing": (Billed(9, 1400, 150, None, None, 350_000), OURS, Cause.REQUESTS),
    "who knows": (Billed(7, 1400, 150, None, None, 350_000), OURS, Cause.UNKNOWN),
}


@pytest.mark.parametrize("case", CAUSES)
def test_each_difference_has_its_cause(case: str) -> None:
    billed, recorded, cause = CAUSES[case]
    key = (DAY, "m")
    (found,) = compare({key: billed} if billed else {}, {key: recorded} if recorded else {}, {})
    assert found.cause is cause


def test_what_moves_to_the_next_day_is_no_loss() -> None:
    """A bill cut in another zone has on one day what the ledger has on the other, and both rows say so."""
    billed = {
        (DAY, "m"): Billed(5, 700, 70, cost_micro_usd=70),
        (NEXT, "m"): Billed(9, 1300, 130, cost_micro_usd=130),
    }
    recorded = {
        (DAY, "m"): Recorded(7, 1000, 100, cost_micro_usd=100),
        (NEXT, "m"): Recorded(7, 1000, 100, cost_micro_usd=100),
    }
    assert [row.cause for row in compare(billed, recorded, {})] == [Cause.DAY, Cause.DAY]


def test_a_name_that_is_given_wins() -> None:
    billed, recorded = {(DAY, "theirs"): Billed(1, 10, 1)}, {(DAY, "ours"): Recorded(1, 10, 1)}
    (row,) = compare(billed, recorded, {"theirs": "ours"})
    assert (row.model, row.cause) == ("ours", Cause.NONE)


@given(
    st.dictionaries(
        st.tuples(st.sampled_from([DAY, NEXT]), st.sampled_from("ab")),
        st.tuples(*[st.integers(0, 10**6)] * 6),
        max_size=4,
    )
)
def test_a_bill_that_says_what_the_ledger_says_agrees(rows: dict[tuple[date, str], tuple[int, ...]]) -> None:
    """Whatever the figures, and differences add up to nothing."""
    found = compare(
        {key: Billed(*row) for key, row in rows.items()},
        {key: Recorded(*row) for key, row in rows.items()},
        {},
    )
    assert {row.cause for row in found} <= {Cause.NONE}
    assert sum(row.cost_micro_usd or 0 for row in found) == 0
