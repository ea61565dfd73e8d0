"""Proto ↔ values of changes."""

from __future__ import annotations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from pointsman.analytics.v1 import analytics_pb2 as pb
from pointsman.types.v1 import types_pb2

from libs.errors import InvalidArgument
from libs.rpc.change_wire import change_from_proto, change_to_proto
from services.analytics.api.proto_changes import (
    change_filter_from_proto,
    change_place_from_proto,
    change_place_to_proto,
    changes_from_proto,
)
from services.analytics.changes.store import ChangePlace
from tests.support.changes import A_CHANGE


def test_a_change_comes_back_as_it_went() -> None:
    """Every field."""
    assert change_from_proto(change_to_proto(A_CHANGE)) == A_CHANGE


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("change_id", ""),
        ("kind", ""),
        ("name", "x" * 258),
        ("version", 0),
        ("author", " "),
        ("reason", "x" * 501),
        ("after", "x" * 65_537),
        ("at", Timestamp(seconds=-1)),
        ("undoes", "\0"),
    ],
)
def test_a_wrong_change_is_refused_by_its_field(field: str, value: object) -> None:
    """Nothing of its request is kept."""
    wrong = change_to_proto(A_CHANGE)
    wrong.ClearField(field)
    wrong.MergeFrom(types_pb2.Change(**{field: value}))  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument) as refused:
        changes_from_proto(pb.RecordChangesRequest(changes=[change_to_proto(A_CHANGE), wrong]))
    assert [v.field for v in refused.value.violations] == [f"changes[1].{field}"]


def test_a_request_of_none_or_too_many_is_refused() -> None:
    """By its count."""
    for count in (0, 1001):
        with pytest.raises(InvalidArgument):
            changes_from_proto(pb.RecordChangesRequest(changes=[types_pb2.Change()] * count))


def test_every_wrong_field_of_a_question_is_named() -> None:
    """A time that is none, texts that no change has, a page too large."""
    request = pb.ListChangesRequest(
        change_id="x" * 129, kind="\0", name="x" * 258, since=Timestamp(nanos=-1), page_size=1001
    )
    with pytest.raises(InvalidArgument) as refused:
        change_filter_from_proto(request)
    assert [v.field for v in refused.value.violations] == ["change_id", "kind", "name", "since", "page_size"]


@pytest.mark.parametrize("token", ["x", "é", "W10=", "WzEsMl0=", "A" * 600])
def test_a_token_of_no_page_is_refused(token: str) -> None:
    """And ours is read back."""
    assert change_place_from_proto(change_place_to_proto(A_CHANGE)) == ChangePlace(
        round(A_CHANGE.at * 1e6), A_CHANGE.change_id
    )
    with pytest.raises(InvalidArgument) as refused:
        change_place_from_proto(token)
    assert refused.value.reason == "BAD_PAGE_TOKEN"
