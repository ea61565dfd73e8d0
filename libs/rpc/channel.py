"""Channels to other services: keepalive, load balancing over all addresses, and client-side health checking."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import grpc

from libs.tracing import propagation

#: The longest message that services of the fleet take from each other, in bytes. A server may take less, by the
#: bounds of its registration.
MAX_MESSAGE_BYTES = 32 * 1024 * 1024


def connect(
    target: str,
    *,
    health_service: str = "",
    credentials: grpc.ChannelCredentials | None = None,
    options: Sequence[tuple[str, str | int]] = (),
) -> grpc.aio.Channel:
    """Returns a channel to `target` (`host:port`, or `dns:///name:port` for all of a headless service's addresses).
    With `health_service`, addresses that do not report that service SERVING are left out. Calls are never retried by
    the transport: a Generate that was sent may have been paid for."""
    config: dict[str, object] = {"loadBalancingConfig": [{"round_robin": {}}]}
    if health_service:
        config["healthCheckConfig"] = {"serviceName": health_service}
    settings: list[tuple[str, str | int]] = [
        ("grpc.service_config", json.dumps(config)),
        ("grpc.enable_retries", 0),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 5_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        # Despite its name: how long one attempt to connect may take, handshakes included.
        ("grpc.min_reconnect_backoff_ms", 5_000),
        ("grpc.max_reconnect_backoff_ms", 2_000),
        *options,
    ]
    if credentials is not None:
        return grpc.aio.secure_channel(target, credentials, options=settings)
    return grpc.aio.insecure_channel(target, options=settings)


def metadata(token: str = "") -> tuple[tuple[str, str], ...]:
    """Returns the metadata that every call carries: identity, and the current trace."""
    pairs = propagation()
    if token:
        pairs.append(("authorization", f"Bearer {token}"))
    return tuple(pairs)


def client_credentials(
    ca: Path | None, certificate: Path | None = None, key: Path | None = None
) -> grpc.ChannelCredentials | None:
    """Returns TLS credentials from PEM files; None without a CA. Raises OSError where a file cannot be read."""
    if ca is None:
        return None
    return grpc.ssl_channel_credentials(
        ca.read_bytes(),
        key.read_bytes() if key else None,
        certificate.read_bytes() if certificate else None,
    )
