"""Requests for forecasts that are none are refused field by field."""

from __future__ import annotations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from pointsman.analytics.v1 import analytics_pb2 as pb

from libs.errors import InvalidArgument
from services.analytics.api.proto_forecasts import question_from_proto
from services.analytics.forecasts.history import Measure, Part
from services.analytics.forecasts.what_if import MAX_CHANGES, PriceChange, Replacement, Target

NOW = 1_800_000_000.0
#: Field 1 (measure) and 2 (group_by) as a newer caller might send them.
NEWER = (b"\x08\x63", b"\x10\x63")


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (pb.GetForecastRequest.FromString(NEWER[0]), "measure"),
        (pb.GetForecastRequest.FromString(NEWER[1]), "group_by"),
        (pb.GetForecastRequest(group_by=pb.GROUP_BY_CAMPAIGN), "group_by"),
        (pb.GetForecastRequest(until=Timestamp(seconds=5, nanos=-1)), "until"),
        (
            pb.GetForecastRequest(
                limits=[pb.ForecastLimit(scope="tenant:a", unit="requests", period="year")]
            ),
            "limits[0]",
        ),
        (
            pb.GetForecastRequest(limits=[pb.ForecastLimit(scope="a", unit="requests", period="day")]),
            "limits[0]",
        ),
        (
            pb.GetForecastRequest(
                limits=[pb.ForecastLimit(scope="tenant:a", unit="requests", period="day", limit=-4)]
            ),
            "limits[0].limit",
        ),
        (pb.GetForecastRequest(limits=[pb.ForecastLimit()] * 100_000), "limits"),
        (pb.GetForecastRequest(what_if=pb.WhatIf(growth=0)), "what_if.growth"),
        (
            pb.GetForecastRequest(what_if=pb.WhatIf(prices=[pb.PriceChange(provider="a")])),
            "what_if.prices[0].factor",
        ),
        (
            pb.GetForecastRequest(what_if=pb.WhatIf(lost_providers=["a"] * (MAX_CHANGES + 1))),
            "what_if.lost_providers",
        ),
        (
            pb.GetForecastRequest(what_if=pb.WhatIf(replacements=[pb.ModelReplacement(provider="a")])),
            "what_if.replacements[0].new",
        ),
    ],
)
def test_a_wrong_field_is_named(request_: pb.GetForecastRequest, field: str) -> None:
    """And nothing else is; lists are bounded before they are read."""
    with pytest.raises(InvalidArgument) as refused:
        question_from_proto(request_, NOW)
    assert [fault.field for fault in refused.value.violations] == [field]


def test_unset_fields_have_their_defaults() -> None:
    """Cost, everything in one, the month in UTC, no plan."""
    question = question_from_proto(pb.GetForecastRequest(), NOW)
    assert (question.measure, question.by, question.time_zone) == (Measure.COST, None, "UTC")
    assert (question.until, question.limits, question.what_if) == (None, (), None)


def test_a_plan_is_read_whole() -> None:
    """A growth that is unset changes nothing; a price of 0 is one."""
    plan = pb.WhatIf(
        lost_providers=["a"],
        prices=[pb.PriceChange(provider="b", factor=0)],
        replacements=[
            pb.ModelReplacement(
                provider="c", new_provider="d", new_model="m", price_per_million={"micro_usd": 7}
            )
        ],
    )
    found = question_from_proto(pb.GetForecastRequest(what_if=plan), NOW).what_if
    assert found is not None
    assert (found.growth, found.lost_providers) == (1.0, ("a",))
    assert found.prices == (PriceChange(Target("b"), 0.0),)
    assert found.replacements == (Replacement(Target("c"), Target("d", "m"), 7),)
    assert question_from_proto(pb.GetForecastRequest(group_by=pb.GROUP_BY_MODEL), NOW).by is Part.MODEL
