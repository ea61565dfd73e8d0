"""A page's token goes on in its own query and in no other."""

from __future__ import annotations

import base64
import json
from contextlib import suppress

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given
from hypothesis import strategies as st
from pointsman.analytics.v1 import analytics_pb2 as pb

from libs.errors import InvalidArgument
from services.analytics.api.page_token import PageToken, write_page_token
from services.analytics.api.proto_reports import page_token, query_from_proto
from services.analytics.reports.query import MAX_INSTANT, Group

ASKED = pb.Query(group_by=[pb.GROUP_BY_TENANT], interval=pb.INTERVAL_HOUR, page_size=2, tenant="acme")
LAST = Group(("acme",), 1_799_996_400.0)


def follow(asked: pb.Query, token: str, now: float = 1_800_000_777.0) -> Group | None:
    following = pb.Query()
    following.CopyFrom(asked)
    following.page_token = token
    return query_from_proto(following, now).after


def a_token() -> str:
    return page_token(ASKED, query_from_proto(ASKED, 1_800_000_000.0), LAST)


def test_the_next_page_has_the_range_of_the_first() -> None:
    """ "The last 24 hours" do not move on between pages; the size of a page may change."""
    first = query_from_proto(ASKED, 1_800_000_000.0)
    following = pb.Query()
    following.CopyFrom(ASKED)
    following.page_token, following.page_size = a_token(), 7
    query = query_from_proto(following, 1_800_000_777.0)
    assert (query.since, query.until, query.after) == (first.since, first.until, LAST)
    assert page_token(ASKED, first, None) == ""


@pytest.mark.parametrize(
    "other",
    [
        pb.Query(group_by=[pb.GROUP_BY_TENANT], interval=pb.INTERVAL_HOUR, tenant="zoo"),
        pb.Query(group_by=[pb.GROUP_BY_MODEL], interval=pb.INTERVAL_HOUR, tenant="acme"),
        pb.Query(
            group_by=[pb.GROUP_BY_TENANT],
            interval=pb.INTERVAL_HOUR,
            tenant="acme",
            from_time=Timestamp(seconds=1),
        ),
    ],
)
def test_a_token_of_another_query_is_refused(other: pb.Query) -> None:
    """Also of the same one with another range."""
    with pytest.raises(InvalidArgument, match=r"query\.page_token"):
        follow(other, a_token())


def forged(**fields: object) -> str:
    values = json.loads(base64.urlsafe_b64decode(a_token()))
    names = ["query", "since", "until", "bucket", "values"]
    return base64.urlsafe_b64encode(
        json.dumps([fields.get(name, value) for name, value in zip(names, values, strict=True)]).encode()
    ).decode()


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "é" * 10,
        "A" * 9000,
        base64.urlsafe_b64encode(b"[]").decode(),
        base64.urlsafe_b64encode(b"[" * 3000).decode(),
        forged(since="0"),
        forged(since=-1.0),
        forged(until=1e300),
        forged(bucket=-1.0),
        forged(bucket=None),
        forged(values=["acme", "more"]),
        forged(values=[]),
        forged(values=["a\0"]),
        forged(values=["a" * 5000]),
        forged(values=[1]),
        write_page_token(PageToken("", 0.0, 1.0, 0.0, ("acme",))),
    ],
)
def test_a_forged_token_is_refused_or_harmless(token: str) -> None:
    """Malformed ones, ones of wrong types or numbers, and ones that do not fit the query are named."""
    with pytest.raises(InvalidArgument):
        follow(ASKED, token)
    assert follow(ASKED, forged(values=["'; DROP TABLE x"])) == Group(("'; DROP TABLE x",), LAST.bucket)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "since": st.integers() | st.floats(),
            "until": st.integers() | st.floats(),
            "bucket": st.none() | st.integers() | st.floats(),
            "values": st.lists(st.text(max_size=5), max_size=3) | st.text(max_size=5),
        },
    ),
    st.binary(max_size=3),
    st.integers(0),
)
def test_a_forged_token_is_refused_or_within_all_bounds(
    forged: dict[str, object], noise: bytes, place: int
) -> None:
    """Whatever its fields say, and whatever bytes stand anywhere in it. Bytes of no text, and instants beyond all
    calendars, were internal errors."""
    names = ("query", "since", "until", "bucket", "values")
    fields = dict(zip(names, json.loads(base64.urlsafe_b64decode(a_token())), strict=True)) | forged
    text = json.dumps(list(fields.values())).encode()
    place %= len(text)
    token = base64.urlsafe_b64encode(text[:place] + noise + text[place + len(noise) :]).decode()
    with suppress(InvalidArgument):
        after = follow(ASKED, token)
        assert after is not None
        assert after.bucket is not None
        assert 0 <= after.bucket <= MAX_INSTANT
        assert [len(value) <= 1024 for value in after.values] == [True]
