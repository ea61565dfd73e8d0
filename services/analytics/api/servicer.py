"""Analytics over gRPC: proto ↔ values, no decisions."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from pointsman.analytics.v1 import analytics_pb2 as pb
from pointsman.analytics.v1 import analytics_pb2_grpc

from libs.bounds import MAX_ID
from libs.clock import Clock
from libs.errors import FieldViolation, InvalidArgument, NotFound, check_count
from libs.ids import TimeOrderedIds
from libs.rpc.change_wire import change_to_proto as changed_to_proto
from libs.rpc.convert import timestamp_to_proto
from services.analytics.alerts.store import AlertStore
from services.analytics.alerts.watch import AlertWatch
from services.analytics.api.proto_account import account_to_proto, check_lookup
from services.analytics.api.proto_alerts import (
    alert_to_proto,
    alerts_from_proto,
    check_silence_id,
    filter_from_proto,
    place_from_proto,
    place_to_proto,
    silence_from_proto,
    silence_to_proto,
    word_from_proto,
)
from services.analytics.api.proto_changes import (
    MAX_CHANGES,
    change_filter_from_proto,
    change_place_from_proto,
    change_place_to_proto,
    changes_from_proto,
)
from services.analytics.api.proto_forecasts import answer_to_proto, question_from_proto
from services.analytics.api.proto_recommendations import (
    decision_from_proto,
    item_to_proto,
    list_to_proto,
    optimization_to_proto,
    standings_from_proto,
)
from services.analytics.api.proto_reports import (
    basis_to_proto,
    change_to_proto,
    cost_to_proto,
    fill_cost,
    fill_failovers,
    fill_performance,
    fill_reliability,
    page_token,
    query_from_proto,
)
from services.analytics.api.proto_summary import SummaryMessages
from services.analytics.api.proto_time import bounded_instant_from_proto
from services.analytics.api.proto_usage import attempt_from_proto, check_batch, request_from_bytes
from services.analytics.changes.store import ChangeStore
from services.analytics.forecasts.forecaster import Forecaster
from services.analytics.ledger.account import RequestLookup
from services.analytics.ledger.attempt import Attempt
from services.analytics.ledger.record_bounds import UnusableRecord
from services.analytics.ledger.recorder import Recorder
from services.analytics.ledger.request import RequestRecord
from services.analytics.recommendations.adviser import Adviser
from services.analytics.reports.change import compare_costs
from services.analytics.reports.reports import FailoverReports, Reports
from services.analytics.rollups.rollups import Rollups
from services.analytics.summary.feed import SummaryFeed

SERVICE = pb.DESCRIPTOR.services_by_name["Analytics"].full_name
MAX_ALERTS = 1000


Context = grpc.aio.ServicerContext[Any, Any]


def _read_requests(batch: pb.RecordUsageRequest, response: pb.RecordUsageResponse) -> list[RequestRecord]:
    """Returns the records of requests that can be kept; the others are named in the response."""
    found = []
    for place, record in enumerate(batch.requests):
        try:
            found.append(request_from_bytes(record))
        except UnusableRecord as error:
            response.rejected.add(attempt_id=f"requests[{place}]", reason=str(error))
    return found


class AnalyticsServicer(analytics_pb2_grpc.AnalyticsServicer):
    """Translates each rpc; raises `libs.errors`, which the server's layers turn into statuses."""

    def __init__(
        self,
        recorder: Recorder,
        reports: Reports,
        failovers: FailoverReports,
        summary: SummaryFeed,
        alerts: AlertStore,
        alert_watch: AlertWatch,
        lookup: RequestLookup,
        forecaster: Forecaster,
        adviser: Adviser,
        rollups: Rollups,
        changes: ChangeStore,
        clock: Clock,
        ids: TimeOrderedIds,
    ) -> None:
        self._recorder = recorder
        self._reports = reports
        self._failovers = failovers
        self._summary = summary
        self._summary_messages = SummaryMessages()
        self._alerts = alerts
        self._alert_watch = alert_watch
        self._lookup = lookup
        self._forecaster = forecaster
        self._adviser = adviser
        self._rollups = rollups
        self._changes = changes
        self._clock = clock
        self._ids = ids

    async def RecordUsage(
        self, requests: AsyncIterator[pb.RecordUsageRequest], context: Context
    ) -> AsyncIterator[pb.RecordUsageResponse]:
        """See the proto. The next batch is read once this one is durable: that is the backpressure."""
        async for request in requests:
            check_batch(request)
            attempts: list[Attempt] = []
            response = pb.RecordUsageResponse(sequence=request.sequence)
            for event in request.events:
                try:
                    attempts.append(attempt_from_proto(event))
                except UnusableRecord as error:
                    response.rejected.add(attempt_id=event.attempt_id[:MAX_ID], reason=str(error))
            malformed, requests_read = len(response.rejected), _read_requests(request, response)
            refused = await self._recorder.record(
                attempts,
                requests_read,
                malformed=malformed,
                malformed_requests=len(response.rejected) - malformed,
            )
            for attempt_id, reason in refused.items():
                response.rejected.add(attempt_id=attempt_id, reason=reason)
            yield response

    async def GetCosts(self, request: pb.GetCostsRequest, context: Context) -> pb.GetCostsResponse:
        """See the proto."""
        query = query_from_proto(request.query, self._clock.now())
        compared = await compare_costs(self._reports, query) if request.compare else None
        report = await self._reports.costs(query) if compared is None else compared.report
        response = pb.GetCostsResponse(
            total=cost_to_proto(report.total),
            basis=basis_to_proto(report.basis),
            next_page_token=page_token(request.query, query, report.next_after),
        )
        response.total.ClearField("group")
        if compared is not None:
            response.total.change.CopyFrom(change_to_proto(compared.total))
        for row in report.rows:
            proto = response.rows.add()
            fill_cost(proto, row)
            if compared is not None:
                proto.change.CopyFrom(change_to_proto(compared.changes[row.group]))
        return response

    async def GetPerformance(
        self, request: pb.GetPerformanceRequest, context: Context
    ) -> pb.GetPerformanceResponse:
        """See the proto."""
        query = query_from_proto(request.query, self._clock.now())
        report = await self._reports.performance(query)
        response = pb.GetPerformanceResponse(
            basis=basis_to_proto(report.basis),
            next_page_token=page_token(request.query, query, report.next_after),
        )
        for row in report.rows:
            fill_performance(response.rows.add(), row)
        return response

    async def GetReliability(
        self, request: pb.GetReliabilityRequest, context: Context
    ) -> pb.GetReliabilityResponse:
        """See the proto."""
        query = query_from_proto(request.query, self._clock.now())
        report = await self._reports.reliability(query)
        response = pb.GetReliabilityResponse(
            basis=basis_to_proto(report.basis),
            next_page_token=page_token(request.query, query, report.next_after),
        )
        for row in report.rows:
            fill_reliability(response.rows.add(), row)
        return response

    async def GetFailovers(
        self, request: pb.GetFailoversRequest, context: Context
    ) -> pb.GetFailoversResponse:
        """See the proto."""
        query = query_from_proto(request.query, self._clock.now())
        report = await self._failovers.failovers(query)
        response = pb.GetFailoversResponse(
            basis=basis_to_proto(report.basis),
            next_page_token=page_token(request.query, query, report.next_after),
        )
        for row in report.rows:
            fill_failovers(response.rows.add(), row)
        return response

    async def WatchSummary(
        self, request: pb.WatchSummaryRequest, context: Context
    ) -> AsyncIterator[pb.WatchSummaryResponse]:
        """See the proto. The next update is made once this one is taken: that is how slow readers skip."""
        async for update in self._summary.updates():
            yield self._summary_messages.to_proto(update)

    async def RebuildRollups(
        self, request: pb.RebuildRollupsRequest, context: Context
    ) -> pb.RebuildRollupsResponse:
        """See the proto."""
        faults = []
        since = bounded_instant_from_proto(request.from_time) if request.HasField("from_time") else None
        until = bounded_instant_from_proto(request.to_time) if request.HasField("to_time") else None
        for name, instant in (("from_time", since), ("to_time", until)):
            if request.HasField(name) and instant is None:
                faults.append(FieldViolation(name, "must be a timestamp from 1970 to 2200"))
        if not faults and since is not None and until is not None and since >= until:
            faults.append(FieldViolation("to_time", "must be after from_time"))
        if faults:
            raise InvalidArgument(faults)
        state = await self._rollups.rebuild(since, until)
        return pb.RebuildRollupsResponse(
            next=_timestamp(state.rebuild_next),
            until=_timestamp(state.rebuild_until),
        )

    async def GetForecast(self, request: pb.GetForecastRequest, context: Context) -> pb.GetForecastResponse:
        """See the proto."""
        question = question_from_proto(request, self._clock.now())
        return answer_to_proto(await self._forecaster.forecast(question))

    async def ListRecommendations(
        self, request: pb.ListRecommendationsRequest, context: Context
    ) -> pb.ListRecommendationsResponse:
        """See the proto."""
        standings = standings_from_proto(request)
        return list_to_proto(await self._adviser.advise(), standings)

    async def DecideRecommendation(
        self, request: pb.DecideRecommendationRequest, context: Context
    ) -> pb.DecideRecommendationResponse:
        """See the proto."""
        decision = decision_from_proto(request, self._clock.now())
        return pb.DecideRecommendationResponse(
            recommendation=item_to_proto(await self._adviser.decide(decision))
        )

    async def GetOptimization(
        self, request: pb.GetOptimizationRequest, context: Context
    ) -> pb.GetOptimizationResponse:
        """See the proto."""
        return optimization_to_proto(await self._adviser.advise())

    async def GetRequest(self, request: pb.GetRequestRequest, context: Context) -> pb.GetRequestResponse:
        """See the proto."""
        check_lookup(request)
        if request.attempt_id:
            found = await self._lookup.by_attempt(request.attempt_id)
        else:
            found = await self._lookup.by_request(request.request_id, request.tenant)
        if not found:
            raise NotFound("The ledger has nothing under this id", reason="REQUEST_NOT_FOUND")
        return pb.GetRequestResponse(requests=[account_to_proto(account) for account in found])

    async def RecordQuotaAlerts(
        self, request: pb.RecordQuotaAlertsRequest, context: Context
    ) -> pb.RecordQuotaAlertsResponse:
        """See the proto."""
        check_count("alerts", len(request.alerts), MAX_ALERTS)
        if not request.alerts:
            raise InvalidArgument([FieldViolation("alerts", f"must have 1 to {MAX_ALERTS} entries")])
        await self._alerts.record(alerts_from_proto(request.alerts, self._clock.now()))
        return pb.RecordQuotaAlertsResponse()

    async def ListAlerts(self, request: pb.ListAlertsRequest, context: Context) -> pb.ListAlertsResponse:
        """See the proto."""
        faults = []
        since = bounded_instant_from_proto(request.since) if request.HasField("since") else None
        if request.HasField("since") and since is None:
            faults.append(FieldViolation("since", "must be a timestamp from 1970 to 2200"))
        if not 0 <= request.page_size <= MAX_ALERTS:
            faults.append(FieldViolation("page_size", f"must be from 1 to {MAX_ALERTS}"))
        if faults:
            raise InvalidArgument(faults)
        choice, after = filter_from_proto(request.filter), place_from_proto(request.page_token)
        most, now = request.page_size or MAX_ALERTS, self._clock.now()
        found = await self._alerts.find(choice, now, since, most + 1, after)
        more = len(found) > most
        return pb.ListAlertsResponse(
            alerts=[alert_to_proto(kept, now) for kept in found[:most]],
            next_page_token=place_to_proto(found[most - 1], now) if more else "",
        )

    async def WatchAlerts(
        self, request: pb.WatchAlertsRequest, context: Context
    ) -> AsyncIterator[pb.WatchAlertsResponse]:
        """See the proto."""
        async for change in self._alert_watch.changes(filter_from_proto(request.filter)):
            now = self._clock.now()
            yield pb.WatchAlertsResponse(
                snapshot=change.snapshot, alerts=[alert_to_proto(kept, now) for kept in change.alerts]
            )

    async def AcknowledgeAlert(
        self, request: pb.AcknowledgeAlertRequest, context: Context
    ) -> pb.AcknowledgeAlertResponse:
        """See the proto."""
        now = self._clock.now()
        kept = await self._alerts.acknowledge(request.alert_id, word_from_proto(request, now), now)
        return pb.AcknowledgeAlertResponse(alert=alert_to_proto(kept, now))

    async def SilenceAlerts(
        self, request: pb.SilenceAlertsRequest, context: Context
    ) -> pb.SilenceAlertsResponse:
        """See the proto."""
        now = self._clock.now()
        silence = silence_from_proto(request.silence, self._ids.make(now), now)
        await self._alerts.silence(silence, now)
        return pb.SilenceAlertsResponse(silence=silence_to_proto(silence))

    async def ListSilences(
        self, request: pb.ListSilencesRequest, context: Context
    ) -> pb.ListSilencesResponse:
        """See the proto."""
        found = await self._alerts.silences(self._clock.now())
        return pb.ListSilencesResponse(silences=[silence_to_proto(silence) for silence in found])

    async def DeleteSilence(
        self, request: pb.DeleteSilenceRequest, context: Context
    ) -> pb.DeleteSilenceResponse:
        """See the proto."""
        check_silence_id(request.silence_id)
        await self._alerts.delete_silence(request.silence_id, self._clock.now())
        return pb.DeleteSilenceResponse()

    async def RecordChanges(
        self, request: pb.RecordChangesRequest, context: Context
    ) -> pb.RecordChangesResponse:
        """See the proto."""
        await self._changes.record(changes_from_proto(request))
        return pb.RecordChangesResponse()

    async def ListChanges(self, request: pb.ListChangesRequest, context: Context) -> pb.ListChangesResponse:
        """See the proto."""
        choice, after = change_filter_from_proto(request), change_place_from_proto(request.page_token)
        most = request.page_size or MAX_CHANGES
        found = await self._changes.find(choice, most + 1, after)
        return pb.ListChangesResponse(
            changes=[changed_to_proto(change) for change in found[:most]],
            next_page_token=change_place_to_proto(found[most - 1]) if len(found) > most else "",
        )


def _timestamp(instant: datetime | None) -> Timestamp | None:
    return timestamp_to_proto(None if instant is None else instant.timestamp())
