"""Changes that operators have made: proto ↔ values."""

from __future__ import annotations

import base64
import binascii

import msgspec
from pointsman.analytics.v1 import analytics_pb2 as pb

from libs.bounds import MAX_ID
from libs.change import MAX_NAME, Change
from libs.errors import FieldViolation, InvalidArgument, check_count
from libs.rpc.change_wire import change_from_proto
from services.analytics.api.proto_time import bounded_instant_from_proto
from services.analytics.changes.store import ChangeFilter, ChangePlace

MAX_CHANGES = 1000
_MAX_TOKEN = 512


def changes_from_proto(request: pb.RecordChangesRequest) -> list[Change]:
    """Returns the changes of a request. Raises InvalidArgument, naming the fields of the first wrong one."""
    check_count("changes", len(request.changes), MAX_CHANGES)
    if not request.changes:
        raise InvalidArgument([FieldViolation("changes", f"must have 1 to {MAX_CHANGES} entries")])
    changes = []
    for index, message in enumerate(request.changes):
        try:
            changes.append(change_from_proto(message))
        except InvalidArgument as error:
            raise InvalidArgument(
                [FieldViolation(f"changes[{index}].{v.field}", v.description) for v in error.violations]
            ) from None
    return changes


def change_filter_from_proto(request: pb.ListChangesRequest) -> ChangeFilter:
    """Returns what is asked for. Raises InvalidArgument naming each wrong field."""
    faults = [
        FieldViolation(field, f"must have at most {most} characters without NUL")
        for field, text, most in (
            ("change_id", request.change_id, MAX_ID),
            ("kind", request.kind, MAX_ID),
            ("name", request.name, MAX_NAME),
        )
        if len(text) > most or "\0" in text
    ]
    since = bounded_instant_from_proto(request.since) if request.HasField("since") else None
    if request.HasField("since") and since is None:
        faults.append(FieldViolation("since", "must be a timestamp from 1970 to 2200"))
    if not 0 <= request.page_size <= MAX_CHANGES:
        faults.append(FieldViolation("page_size", f"must be from 1 to {MAX_CHANGES}"))
    if faults:
        raise InvalidArgument(faults)
    return ChangeFilter(request.change_id, request.kind, request.name, since, request.standing)


def change_place_from_proto(token: str) -> ChangePlace | None:
    """Returns the place that a page begins behind; None: at the beginning. Raises InvalidArgument for what is no
    token of ours."""
    if not token:
        return None
    try:
        if len(token) > _MAX_TOKEN:
            raise ValueError
        place = msgspec.json.decode(base64.urlsafe_b64decode(token.encode("ascii")), type=ChangePlace)
        if not 0 <= place.at < 2**53 or len(place.change_id) > MAX_ID or "\0" in place.change_id:
            raise ValueError
    except (ValueError, binascii.Error, msgspec.DecodeError):
        fault = FieldViolation("page_token", "is from no earlier page")
        raise InvalidArgument([fault], reason="BAD_PAGE_TOKEN") from None
    return place


def change_place_to_proto(last: Change) -> str:
    """Returns the token of the page behind a change."""
    place = ChangePlace(round(last.at * 1e6), last.change_id)
    return base64.urlsafe_b64encode(msgspec.json.encode(place)).decode()
