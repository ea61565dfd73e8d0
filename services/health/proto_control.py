"""Operators' words: proto ↔ domain."""

from __future__ import annotations

from pointsman.health.v1 import health_pb2 as pb

from libs.bounds import MAX_ID, MAX_REASON
from libs.errors import FieldViolation, InvalidArgument, check_count
from libs.rpc.convert import duration_from_proto, duration_to_proto, timestamp_from_proto, timestamp_to_proto
from services.health.domain.rehabilitation import STEPS
from services.health.domain.setting import ModeSetting
from services.health.domain.target import Failover, Mode, Target
from services.health.domain.window import Window

#: Tenants, and content types, of one failover.
MAX_NAMED = 100
MODES = {
    Mode.AUTOMATIC: pb.PROVIDER_MODE_AUTOMATIC,
    Mode.MAINTENANCE: pb.PROVIDER_MODE_MAINTENANCE,
    Mode.DRAIN: pb.PROVIDER_MODE_DRAIN,
    Mode.BLOCKED: pb.PROVIDER_MODE_BLOCKED,
    Mode.REHABILITATING: pb.PROVIDER_MODE_REHABILITATING,
}
_MODES_FROM = {number: mode for mode, number in MODES.items()}


def target_from_proto(provider: str, model: str) -> Target:
    """Returns the target of these names. Raises InvalidArgument."""
    if not provider:
        raise InvalidArgument([FieldViolation("provider", "is required")])
    return Target(provider, model)


def check_words(author: str, reason: str, reason_field: str = "reason") -> None:
    """Raises InvalidArgument where nobody says who does it, or why."""
    faults = []
    for field, text, most in (("author", author, MAX_ID), (reason_field, reason, MAX_REASON)):
        if not 1 <= len(text.strip()) <= len(text) <= most or "\0" in text:
            faults.append(FieldViolation(field, f"must be 1 to {most} characters without NUL"))
    if faults:
        raise InvalidArgument(faults)


def mode_from_proto(request: pb.SetProviderModeRequest) -> ModeSetting:
    """Returns the mode to set. Raises InvalidArgument."""
    mode = _MODES_FROM.get(request.mode)
    if mode is None:
        raise InvalidArgument([FieldViolation("mode", "must be one of the modes")])
    if mode is Mode.REHABILITATING:
        return ModeSetting(mode, request.share if request.HasField("share") else STEPS[0], request.by_hand)
    for field, present in (("share", request.HasField("share")), ("by_hand", request.by_hand)):
        if present:
            raise InvalidArgument([FieldViolation(field, "is of REHABILITATING only")])
    return ModeSetting(mode)


def failover_from_proto(request: pb.TriggerFailoverRequest) -> Failover:
    """Returns the failover, whose end is not known yet. Raises InvalidArgument."""
    check_count("tenants", len(request.tenants), MAX_NAMED)
    check_count("content_types", len(request.content_types), MAX_NAMED)
    if request.to_model and not request.to_provider:
        raise InvalidArgument([FieldViolation("to_provider", "is required where to_model is set")])
    return Failover(
        target_from_proto(request.provider, request.model),
        0.0,
        request.reason,
        Target(request.to_provider, request.to_model) if request.to_provider else None,
        tuple(request.tenants),
        tuple(request.content_types),
    )


def failover_to_proto(failover: Failover) -> pb.Failover:
    """Returns the message."""
    to = failover.to or Target("")
    return pb.Failover(
        tenants=failover.tenants,
        content_types=failover.content_types,
        to_provider=to.provider,
        to_model=to.model,
        until=timestamp_to_proto(failover.until),
        reason=failover.reason,
    )


def window_from_proto(window: pb.MaintenanceWindow) -> Window:
    """Returns the window, without an id. Raises InvalidArgument."""
    for field in ("starts", "ends"):
        if not window.HasField(field):
            raise InvalidArgument([FieldViolation(f"window.{field}", "is required")], reason="BAD_WINDOW")
    return Window(
        "",
        target_from_proto(window.provider, window.model),
        timestamp_from_proto(window.starts),
        timestamp_from_proto(window.ends),
        window.time_zone or "UTC",
        duration_from_proto(window.drain),
        window.weekly,
        window.reason,
    )


def window_to_proto(window: Window) -> pb.MaintenanceWindow:
    """Returns the message."""
    return pb.MaintenanceWindow(
        window_id=window.window_id,
        provider=window.target.provider,
        model=window.target.model,
        starts=timestamp_to_proto(window.starts),
        ends=timestamp_to_proto(window.ends),
        weekly=window.weekly,
        time_zone=window.zone,
        drain=duration_to_proto(window.drain),
        reason=window.reason,
    )
