"""A provider's bill against the ledger: what exports say, and the cause of each difference."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from datetime import date
from zoneinfo import ZoneInfo

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
    "Google Cloud costs": (
        "Service description,SKU description,Usage start date,Usage end date,Cost ($),Discounts ($),Subtotal ($)\n"
        "Vertex AI,Gemini 2.5 Flash Lite GA Text Input - Predictions,2026-11-01,2026-11-02,0.20,-0.01,0.19\n"
        "Vertex AI,Gemini 2.5 Flash Lite GA Text Output - Predictions,2026-11-01,2026-11-02,0.05,0,0.05\n",
        Billed(cost_micro_usd=250_000),
    ),
    "Gemini usage": (
        "timestamp,model,promptTokenCount,candidatesTokenCount,thoughtsTokenCount,cachedContentTokenCount\n"
        "2026-11-01T10:00:00Z,m,1000,80,20,300\n",
        Billed(None, 1000, 100, 300),
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
    assert bill.rows == {(DAY, "gemini-2.5-flash-lite" if "Google" in kind else "m"): expected}


@pytest.mark.parametrize(
    ("heading", "cells", "expected"),
    [
        (
            "date,model,input_tokens,cost_usd",
            '2026-11-01,m,"1,234,567","$1,234.5"',
            (1_234_567, 1_234_500_000),
        ),
        ("date;model;input_tokens;cost_usd", "2026-11-01;m;1.234;1.234,50", (1234, 1_234_500_000)),
        ("date;model;input_tokens;cost_usd", "2026-11-01;m;1.234;0,5", (1234, 500_000)),
        ("date;model;input_tokens;cost_usd", "2026-11-01;m;1,234;0.5", (1234, 500_000)),
        ("date;model;input_tokens;cost_usd", "2026-11-01;m;1,234;1,234", (1234, 1_234_000_000)),
        ("date;model;input_tokens;cost_usd", "2026-11-01;m;17;1,234", (17, 1_234_000)),
        ("date,model,input_tokens,cost_usd", "2026-11-01,m,17,1.234", (17, 1_234_000)),
        (
            "date\tmodel\tinput_tokens\tcost_usd",
            "2026-11-01\tm\t1\u202f234\t1'234.5 USD",
            (1234, 1_234_500_000),
        ),
        ("date,model,input_tokens,cost_usd", "2026-11-01,m,12.0,(3.10)", (12, -3_100_000)),
        ("date,model,input_tokens,cost_usd", "2026-11-01,m,1e3,-$3.10", (1000, -3_100_000)),
        ("date,model,input_tokens,cost_usd", "2026-11-01,m,,\N{MINUS SIGN}3.1", (0, -3_100_000)),
        ("date,model,input_tokens,cost_usd", "2026-11-01,m,7,3.10-", (7, -3_100_000)),
        ("sep=;\ndate;model;input_tokens;cost_usd", "2026-11-01;m;7;0,25", (7, 250_000)),
        ('\n"date","model","input_tokens","cost_usd"', '"2026-11-01","m","7","0.25"', (7, 250_000)),
        ("date,model,input_tokens,prompt_tokens,cost,cost_usd", "2026-11-01,m,7,7,1,0.25", (7, 250_000)),
        (
            'date,"a\nnote, in lines",model,Input Tokens,cost_usd',
            '1793491200000,"x\n\ny",m,7,0.25,',
            (7, 250_000),
        ),
    ],
)
def test_amounts_are_read_as_they_are_meant(heading: str, cells: str, expected: tuple[int, int]) -> None:
    """Thousands and decimals of any country, where one number of the file tells which; money below 0; columns that
    say the same thing once. In UTF-16 too, which spreadsheets write."""
    text = f"{heading}\n{cells}\n"
    for content in (text.encode(), text.replace("\n", "\r\n").encode("utf-16")):
        ((key, row),) = read_bill(content).rows.items()
        assert key == (DAY, "m")
        assert (row.input_tokens, row.cost_micro_usd) == expected
        assert row.credits_micro_usd == min(expected[1], 0) or row.credits_micro_usd is None


def test_money_without_a_model_is_not_left_out() -> None:
    """Searches and storage are billed of no model; and lines that stand there twice are told."""
    bill = read_bill(
        b"usage_date_utc,model,cost_usd\n2026-11-01,,0.5\n2026-11-01,,0.5\n2026-11-01,,0\n2026-11-01,,0\n"
    )
    assert bill.rows == {(DAY, "(no model)"): Billed(cost_micro_usd=1_000_000)}
    assert bill.repeated == 1


def test_instants_with_an_offset_are_of_their_day_in_the_zone() -> None:
    """UTC unless told."""
    content = b"timestamp,model,input_tokens\n2026-11-02T00:30:00+01:00,m,5\n"
    assert [*read_bill(content).rows] == [(DAY, "m")]
    assert [*read_bill(content, ZoneInfo("Europe/Berlin")).rows] == [(NEXT, "m")]


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
        (b"date,model,input_tokens\n0001-01-01,m,5\n", "line 2"),
        (b"date,model,input_tokens\n9999-12-31,m,5\n", "line 2"),
        (b"date,model,input_tokens\n2026-11-01,m,=1+1\n", "line 2"),
        (b"date,model,input_tokens\n2026-11-01,m,1,234\n", "more cells"),
        (b"date,model,cost_usd\n2026-11-01,m,0.5\n2026-11-01,m,0,5\n", "line 3"),
        (b'date,model,cost_usd\n2026-11-01,m,0.5\n2026-11-01,m,"0,5"\n', "line 3"),
        (b"date,model,cost_usd,currency\n2026-11-01,m,0.5,EUR\n", "'EUR'"),
        ("date,model,cost (€)\n2026-11-01,m,0.5\n".encode(), "columns"),
        (b"date,model,input_tokens,Input_Tokens\n2026-11-01,m,5,6\n", "two columns"),
        (b"date,model,input_tokens\n2026-11-01,m,5\ndate,model,input_tokens\n", "line 3"),
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
    assert ledger_name("Claude Sonnet 4.5", {"claude-sonnet-4-5"}) == "claude-sonnet-4-5"


OURS = Recorded(7, 1000, 100, 300, 0, cost_micro_usd=250_000)
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
        Recorded(7, 1000, 100, cost_micro_usd=250_000, not_exact_micro_usd=30_000),
        Cause.NOT_EXACT,
    ),
    "calls missing": (Billed(9, 1400, 150, None, None, 350_000), OURS, Cause.REQUESTS),
    "cached reads apart": (Billed(7, 700, 100), replace(OURS, cache_write_tokens=50), Cause.CACHED),
    "thoughts apart": (Billed(7, 1000, 60), replace(OURS, reasoning_tokens=40), Cause.REASONING),
    "free, and missing": (
        Billed(9, 1400, 150, None, None, 0),
        replace(OURS, cost_micro_usd=0),
        Cause.REQUESTS,
    ),
    "billed twice": (Billed(14, 2000, 200, None, None, 500_000), OURS, Cause.TWICE),
    "recorded twice": (Billed(7, 1000, 100), Recorded(14, 2000, 200), Cause.TWICE),
    "a credit": (Billed(None, None, None, None, None, 200_000, -50_000), OURS, Cause.CREDIT),
    "estimated tokens": (Billed(8, 1400, 150), replace(OURS, not_exact_micro_usd=10), Cause.REQUESTS),
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


def test_days_of_another_zone_make_up_for_each_other() -> None:
    """Each day lacks what the next one has, so no two agree; together they do, and another model is no part of it."""
    days = [date(2026, 11, day) for day in range(1, 6)]
    ours, theirs = [100, 250, 40, 90, 0], [60, 230, 80, 70, 40]
    billed = {(day, "m"): Billed(cost_micro_usd=cost) for day, cost in zip(days, theirs, strict=True)}
    recorded = {(day, "m"): Recorded(1, cost_micro_usd=cost) for day, cost in zip(days, ours, strict=True)}
    recorded[DAY, "other"] = Recorded(1, cost_micro_usd=10)
    found = {(row.day, row.model): row.cause for row in compare(billed, recorded, {})}
    assert found.pop((DAY, "other")) is Cause.NOT_IN_BILL
    assert {*found.values()} == {Cause.DAY}


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
        {key: Recorded(row[0], row[1], row[2], row[3], row[4], 0, row[5]) for key, row in rows.items()},
        {},
    )
    assert {row.cause for row in found} <= {Cause.NONE}
    assert sum(row.cost_micro_usd or 0 for row in found) == 0
