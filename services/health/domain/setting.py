"""The settings that operators change, one for each thing, and their form as JSON, which is kept and shared."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from services.health.domain.target import BlockCause, Failover, Mode
from services.health.domain.window import Window


class Kind(StrEnum):
    """The kinds of things that operators change. Stored."""

    #: Of a target.
    MODE = "mode"
    #: Of a provider and its models.
    WINDOWS = "windows"
    #: From a target.
    FAILOVERS = "failovers"


class ModeSetting(msgspec.Struct, frozen=True, omit_defaults=True):
    """A target's mode. While it is rehabilitated: `share` of its usual traffic, and `by_hand` where a person alone
    takes the next step. `cause`: of a block by rule, and of the rehabilitation after it; None: a person's word."""

    mode: Mode = Mode.AUTOMATIC
    share: float = 1.0
    by_hand: bool = False
    cause: BlockCause | None = None


class WindowsSetting(msgspec.Struct, frozen=True):
    """The maintenance windows of a provider and of its models."""

    windows: tuple[Window, ...] = ()


class FailoversSetting(msgspec.Struct, frozen=True):
    """The failovers from a target."""

    failovers: tuple[Failover, ...] = ()


Setting = ModeSetting | WindowsSetting | FailoversSetting

_TYPES: dict[Kind, type[Setting]] = {
    Kind.MODE: ModeSetting,
    Kind.WINDOWS: WindowsSetting,
    Kind.FAILOVERS: FailoversSetting,
}


def encode_setting(setting: Setting) -> str:
    """Returns the setting as JSON."""
    return msgspec.json.encode(setting).decode()


def decode_setting(kind: str, text: str) -> Setting | None:
    """Reads a setting; of an empty text the one that stands at first. Returns None for what is none here, such as one
    of a later release."""
    try:
        return msgspec.json.decode(text or "{}", type=_TYPES[Kind(kind)])
    except (msgspec.MsgspecError, ValueError):
        return None
