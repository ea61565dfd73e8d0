"""The words in which a choice of a model is asked for and explained, shared by the router and its callers."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class SelectionReason(StrEnum):
    """The criterion that decided."""

    COST = "cost"
    PERFORMANCE = "performance"
    SPECIALIZATION = "specialization"
    AVAILABILITY = "availability"
    LOAD_BALANCE = "load_balance"
    REQUESTED = "requested"


class Scores(Struct, frozen=True):
    """Each criterion from 0 (worst) to 1 (best) among the candidates of one request, and their weighted sum."""

    cost: float = 0.0
    performance: float = 0.0
    reliability: float = 0.0
    suitability: float = 0.0
    total: float = 0.0


class Degradation(StrEnum):
    """A step of a declared degradation ladder."""

    CHEAPER_MODEL = "cheaper_model"
    STALE_CACHE = "stale_cache"
    QUEUED = "queued"


class Strategy(StrEnum):
    """The aim of a choice among several models that can serve a request."""

    COST_FIRST = "cost_first"
    PERFORMANCE_FIRST = "performance_first"
    BALANCED = "balanced"
    SPECIALIZED = "specialized"
