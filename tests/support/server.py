"""A gRPC server as the lifecycle makes it, alone in its process."""

from __future__ import annotations

from collections.abc import Sequence

from libs.clock import Clock, SystemClock
from libs.intake import BytesInFlight, UnknownCallers
from libs.rpc.identity import Authenticator, ServiceToken
from libs.rpc.observe import Observer
from libs.rpc.server import GrpcServer, Registration
from libs.telemetry import Metrics


def grpc_server(
    registrations: Sequence[Registration],
    authenticator: Authenticator | None = None,
    *,
    metrics: Metrics | None = None,
    clock: Clock | None = None,
    bytes_in_flight: BytesInFlight | None = None,
    unknown_callers: UnknownCallers | None = None,
) -> GrpcServer:
    """Returns a server that is not started, with bounds of its own where none are given. `authenticator` None: anyone
    may call."""
    clock = clock or SystemClock()
    return GrpcServer(
        registrations,
        Observer(metrics or Metrics(), clock),
        authenticator or ServiceToken(""),
        bytes_in_flight=bytes_in_flight or BytesInFlight(),
        unknown_callers=unknown_callers or UnknownCallers(clock),
        clock=clock,
    )
