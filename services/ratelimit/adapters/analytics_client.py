"""Asks the ledger of analytics what a limit's window has used so far."""

from __future__ import annotations

import grpc
from pointsman.analytics.v1 import analytics_pb2 as pb
from pointsman.analytics.v1 import analytics_pb2_grpc

from libs.errors import Unavailable
from libs.limits import Amounts, ScopeKind, Unit, by_unit
from libs.rpc import channel as rpc
from libs.rpc.convert import timestamp_to_proto
from libs.rpc.status import from_rpc_error
from services.ratelimit.domain.limits import Limit
from services.ratelimit.domain.windows import windows

#: Seconds; a month of a busy tenant may take the ledger a while.
TIMEOUT = 10.0


class AnalyticsHistory:
    """Satisfies `ports.SpendHistory`."""

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._stub = analytics_pb2_grpc.AnalyticsStub(channel)
        self._token = token

    async def spent(self, limit: Limit, now: float) -> int | None:
        """Sums the attempts that began in the window and are in the ledger. Raises Unavailable."""
        query = query_of(limit, now)
        if query is None:
            return None
        try:
            answer = await self._stub.GetCosts(
                pb.GetCostsRequest(query=query), timeout=TIMEOUT, metadata=rpc.metadata(self._token)
            )
        except grpc.aio.AioRpcError as error:
            raise Unavailable(
                f"The ledger does not answer: {from_rpc_error(error).message}", reason="LEDGER_UNAVAILABLE"
            ) from error
        return _amount(limit.key.unit, answer.total)


#: The query's field that holds a scope's name; the ledger does not know which key served a call.
_FIELDS = {
    ScopeKind.TENANT: "tenant",
    ScopeKind.PROVIDER: "provider",
    ScopeKind.MODEL: "model",
    ScopeKind.TENANT_PROVIDER: "provider",
    ScopeKind.TENANT_CONTENT: "content_type",
    ScopeKind.CAMPAIGN: "campaign",
}


def query_of(limit: Limit, now: float) -> pb.Query | None:
    """Returns the query for the attempts that the limit has counted since its window began; None: the ledger cannot
    tell them apart."""
    scope = limit.key.scope
    field = _FIELDS.get(scope.kind)
    if field is None or not limit.key.period.calendar:
        return None
    start = windows(limit.key.period, limit.time_zone, int(now * 1000)).start
    query = pb.Query(from_time=timestamp_to_proto(start / 1000))
    setattr(query, field, scope.name)
    if scope.tenant:
        query.tenant = scope.tenant
    return query


def _amount(unit: Unit, total: pb.Cost) -> int:
    usage = total.usage
    return by_unit(Amounts(total.attempts, usage.input_tokens, usage.output_tokens, total.cost.micro_usd))[
        unit
    ]
