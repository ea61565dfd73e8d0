"""Proto ↔ values of recommendations."""

from __future__ import annotations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from pointsman.analytics.v1 import analytics_pb2 as pb

from libs.errors import InvalidArgument
from services.analytics.api.proto_recommendations import (
    decision_from_proto,
    list_to_proto,
    standings_from_proto,
)
from services.analytics.recommendations.decision import Decision, Standing, Verdict
from tests.support.clock import ManualClock
from tests.support.ledger import NOW
from tests.support.recommendations import adviser


def test_a_decision_is_read_whole() -> None:
    """Every field."""
    request = pb.DecideRecommendationRequest(
        id="x-1",
        verdict=pb.RECOMMENDATION_VERDICT_SNOOZE,
        version=3,
        decided_by="ann",
        note="later",
        snoozed_until=Timestamp(seconds=int(NOW) + 60),
    )
    assert decision_from_proto(request, NOW) == Decision(
        "x-1", 3, Verdict.SNOOZE, "ann", NOW, "later", NOW + 60
    )


@pytest.mark.parametrize("verdict", [0, 99])
def test_a_decision_that_is_none_is_refused(verdict: int) -> None:
    """By the names of its fields: an unknown verdict, a timestamp that is none."""
    request = pb.DecideRecommendationRequest(id="x", decided_by="a", snoozed_until=Timestamp(nanos=-1))
    request.verdict = verdict  # type: ignore[assignment]
    with pytest.raises(InvalidArgument) as refused:
        decision_from_proto(request, NOW)
    assert [fault.field for fault in refused.value.violations] == ["verdict", "snoozed_until"]


async def test_standings_choose_what_is_listed() -> None:
    """None named: all of them. An unknown one is refused."""
    assert standings_from_proto(pb.ListRecommendationsRequest()) == frozenset(Standing)
    only = pb.ListRecommendationsRequest(standings=[pb.RECOMMENDATION_STANDING_REJECTED])
    assert standings_from_proto(only) == {Standing.REJECTED}
    advice = await adviser(ManualClock(now=NOW)).advise()
    skipped = [pb.RECOMMENDATION_KIND_CHEAPER_MODEL, pb.RECOMMENDATION_KIND_SHORTEN_PROMPTS]
    assert list_to_proto(advice, frozenset(Standing)).skipped == skipped
    unknown = pb.ListRecommendationsRequest()
    unknown.standings.append(99)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgument) as refused:
        standings_from_proto(unknown)
    assert [fault.field for fault in refused.value.violations] == ["standings[0]"]
