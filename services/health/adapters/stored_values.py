"""Circuits and changes as the store keeps them: JSON arrays that begin with what they are ordered by."""

from __future__ import annotations

from typing import Any

import msgspec

from libs.bounds import MAX_ID
from libs.change import Change
from libs.errors import InvalidArgument
from libs.resilience.circuit import BreakerState, CircuitState, TripCause
from services.health.domain.setting import Kind, ModeSetting, encode_setting
from services.health.domain.target import Mode

_SEVERITY = (CircuitState.CLOSED, CircuitState.HALF_OPEN, CircuitState.OPEN)
_encode = msgspec.json.Encoder().encode
_decode_order = msgspec.json.Decoder(list[Any]).decode


def decode_circuit(value: bytes) -> BreakerState | None:
    """Reads a value from its order; None where it is not understood."""
    try:
        generation, severity, open_until, since, trips, cause = _decode_order(value)
        return BreakerState(
            _SEVERITY[severity],
            int(generation),
            float(open_until),
            TripCause(cause),
            float(since),
            int(trips),
        )
    except (msgspec.MsgspecError, ValueError, TypeError, IndexError):
        return None


def field_of(change: Change) -> str:
    """Returns the field that what was changed has in a hash."""
    return f"{change.kind} {change.name}"


def encode_change(change: Change) -> bytes:
    """Returns a change as an array that begins with its order."""
    return _encode(
        (
            *change.order,
            *change.thing,
            change.author,
            change.reason,
            change.before,
            change.after,
            change.undoes,
        )
    )


def decode_change(value: bytes) -> Change | None:
    """Reads a change; None where it is not understood."""
    try:
        version, at, change_id, kind, name, author, reason, before, after, undoes = _decode_order(value)
        return Change(change_id, kind, name, version, at, author, reason, before, after, undoes)
    except (msgspec.MsgspecError, ValueError, TypeError, AttributeError, InvalidArgument):
        return None


def decode_earlier_mode(field: bytes, value: bytes) -> Change | None:
    """Reads a mode as an earlier release kept it; None where it is not understood."""
    try:
        version, at, mode, reason = _decode_order(value)
        name, setting = field.decode(), encode_setting(ModeSetting(Mode(mode)))
        return Change(
            f"{Kind.MODE}-{name}-{version}"[:MAX_ID],
            Kind.MODE,
            name,
            version,
            at,
            "unknown",
            reason,
            "",
            setting,
        )
    except (msgspec.MsgspecError, ValueError, TypeError, AttributeError, InvalidArgument):
        return None
