"""Time zones by their IANA names."""

from __future__ import annotations

from zoneinfo import ZoneInfo


def load_zone(name: str) -> ZoneInfo | None:
    """Returns the time zone of an IANA name; None where there is none."""
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        # A missing name is a KeyError, a malformed one a ValueError, a directory of zones an OSError.
        return None
