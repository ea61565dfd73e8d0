"""The answers of the router's other calls, as frozen dataclasses (a generation's are `libs.answer`). Money is integer
micro-USD; sizes are in tokens."""

from __future__ import annotations

from dataclasses import dataclass

from libs.answer import Selection
from libs.types import Usage


@dataclass(frozen=True, slots=True)
class Alternative:
    """Another model that was considered; `excluded_because` is empty where it may be used."""

    selection: Selection
    excluded_because: str = ""


@dataclass(frozen=True, slots=True)
class SelectResult:
    """The order in which Generate would try models: the first, those it would fall back to, then the excluded
    ones."""

    selection: Selection
    alternatives: tuple[Alternative, ...] = ()


@dataclass(frozen=True, slots=True)
class CostEstimate:
    """The cost of a generation on one model: likely, and if the whole output limit is used."""

    provider: str
    model: str
    usage: Usage
    expected_micro_usd: int
    maximum_micro_usd: int


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model that the caller may name, as `provider/model`. Sizes are in tokens."""

    provider: str
    model: str
    context_window: int
    max_output_tokens: int
    capabilities: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Returns `provider/model`."""
        return f"{self.provider}/{self.model}"


@dataclass(frozen=True, slots=True)
class Listing:
    """The models and content types that the caller may name."""

    models: tuple[ListedModel, ...]
    content_types: tuple[str, ...] = ()
