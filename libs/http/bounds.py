"""The bounds of what an HTTP server gives its callers: bytes, connections and time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bounds:
    """Times are in seconds. Raises ValueError unless all are above 0.

    A whole body may take `body_seconds` plus a second for each `body_rate` bytes of it: a slow line has time, and
    whoever sends a byte now and then does not (as Apache's mod_reqtimeout does with MinRate).
    """

    #: Bytes of a request's body.
    max_body: int = 10_000_000
    #: Connections at once, those that are served and those that wait.
    max_connections: int = 4096
    #: Seconds until a new connection has sent the head of its first request.
    head_seconds: float = 10.0
    #: Seconds until the head of the next request is there. Longer than load balancers keep idle connections (60 s).
    idle_seconds: float = 75.0
    body_seconds: float = 20.0
    body_rate: float = 10_000.0
    #: Seconds after an answer in which the rest of its request may still come, to be thrown away: who is cut off
    #: while sending often cannot see the answer. At most as many bytes as a body may have.
    linger_seconds: float = 2.0
    #: Seconds for which a reader may leave unread what the buffers have no more room for.
    write_seconds: float = 30.0

    def __post_init__(self) -> None:
        for name in self.__slots__:
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0")
