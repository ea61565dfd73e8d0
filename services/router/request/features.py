"""The features beyond plain text that a request may use, and one that a model says it does not support."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct

from libs.conversation import ReasoningEffort


class Feature(StrEnum):
    """A feature of a model that a request may use, sorted by name."""

    IMAGE = "image"
    JSON = "json"
    JSON_SCHEMA = "json_schema"
    PDF = "pdf"
    PENALTIES = "penalties"
    REASONING = "reasoning"
    SAMPLING = "sampling"
    SEED = "seed"
    STOP = "stop"
    STREAM = "stream"
    SYSTEM = "system"
    TOOL_CHOICE = "tool_choice"
    TOOLS = "tools"


class Unsupported(Struct, frozen=True, cache_hash=True):
    """A feature that a model does not support. `keyword`: only this keyword of JSON Schema, in an answer's schema or
    a tool's; `effort`: only this effort of reasoning."""

    feature: Feature
    keyword: str = ""
    effort: ReasoningEffort | None = None

    @property
    def name(self) -> str:
        """The name for operators: `sampling`, `json_schema:maxItems`, `reasoning:low`."""
        detail = self.keyword or self.effort
        return f"{self.feature}:{detail}" if detail else self.feature
