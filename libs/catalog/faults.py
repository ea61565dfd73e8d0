"""The faults of a catalog file, with their lines."""

from __future__ import annotations

from dataclasses import dataclass

from libs.catalog.references import Path

#: The most faults that are shown; more are counted, as one cause (a wrong indent) can have thousands of effects.
MAX_SHOWN = 50


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong. `line` counts from 1; 0: the file as a whole. Never holds a secret's value."""

    line: int
    path: Path
    message: str

    def __str__(self) -> str:
        """Returns e.g. `12: providers.openai.kind: unknown kind "opnai"`."""
        place = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path)
        return ": ".join(filter(None, (str(self.line or ""), place.removeprefix("."), self.message)))


class CatalogError(Exception):
    """A catalog that cannot be used. `faults` are all that were found, by line."""

    def __init__(self, file: str, faults: list[Fault]) -> None:
        self.file = file
        self.faults = tuple(sorted(faults, key=lambda fault: fault.line))
        lines = [f"{file}:{fault}" if fault.line else f"{file}: {fault}" for fault in self.faults[:MAX_SHOWN]]
        if len(self.faults) > MAX_SHOWN:
            lines.append(f"{file}: and {len(self.faults) - MAX_SHOWN} more faults")
        super().__init__("\n".join(lines))
