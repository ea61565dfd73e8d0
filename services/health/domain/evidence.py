"""Evidence: outcomes of calls, as routers report them, and results of probes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from libs.resilience.evidence import BreakerSettings, Evidence
from libs.types import ErrorClass
from services.health.domain.target import Target

#: More than a router can see between two reports; a larger number is a mistake.
MAX_COUNT = 1_000_000
MAX_TEXT = 256


@dataclass(frozen=True, slots=True)
class Outcome:
    """Calls of one router to one model, summed. Durations in seconds, instants in epoch seconds.

    `permit` is the probe permit that the call held, which is the only one then, and `probe_tenant` its tenant.
    Generations are those of the model's and the provider's circuit when the calls began, None where unknown. `row`
    counts the provider faults after the last success. Raises ValueError where a number makes no sense.
    """

    provider: str
    model: str
    successes: int = 0
    failures: Mapping[ErrorClass, int] = field(default_factory=dict)
    latency_sum: float = 0.0
    first_token_sum: float = 0.0
    first_token_count: int = 0
    output_tokens: int = 0
    retry_not_before: float | None = None
    permit: str = ""
    generation: int | None = None
    provider_generation: int | None = None
    row: int = 0
    probe_tenant: str = ""

    def __post_init__(self) -> None:
        texts = (self.provider, self.model, self.permit, self.probe_tenant)
        if not self.provider or max(map(len, texts)) > MAX_TEXT:
            raise ValueError(f"names must be set and at most {MAX_TEXT} characters")
        counts = (self.successes, self.first_token_count, self.row, *self.failures.values())
        if not all(0 <= count <= MAX_COUNT for count in counts):
            raise ValueError(f"counts must be 0 to {MAX_COUNT}")
        if not all(0 <= s < math.inf for s in (self.latency_sum, self.first_token_sum)):
            raise ValueError("durations must be finite and >= 0")
        if not 0 <= self.output_tokens < 2**53:
            raise ValueError("output_tokens must be >= 0")
        for generation in (self.generation, self.provider_generation):
            if generation is not None and not 0 <= generation < 2**53:
                raise ValueError("generations must be 0 to 2**53")

    @property
    def target(self) -> Target:
        """The model that was called."""
        return Target(self.provider, self.model)

    @property
    def calls(self) -> int:
        """Number of calls, whoever is to blame for their failures."""
        return self.successes + sum(self.failures.values())

    @property
    def latency(self) -> float | None:
        """Mean latency of the successful calls. None without any: a fast failure is not a fast answer."""
        return self.latency_sum / self.successes if self.successes and self.latency_sum > 0 else None

    @property
    def first_token(self) -> float | None:
        """Mean time to first token of the successful streams; None without any."""
        if not self.successes or not self.first_token_count:
            return None
        return self.first_token_sum / self.first_token_count

    def evidence(self, settings: BreakerSettings, generation: int | None) -> Evidence:
        """Returns the evidence for a breaker. Sums hide single calls: successes count as slow when they are so on
        average."""
        tokens = self.output_tokens // self.successes if self.successes else 0
        slow = self.latency is not None and settings.is_slow(self.latency, tokens)
        return Evidence(
            self.successes,
            self.failures,
            self.successes if slow else 0,
            generation,
            self.retry_not_before,
            self.row,
        )


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """The result of a probe of a provider's free endpoint. `latency` in seconds. `error` None: it was reached, and
    took our key where it asks for one."""

    provider: str
    latency: float
    error: ErrorClass | None = None
    message: str = ""


def best_result(results: Sequence[ProbeResult]) -> ProbeResult:
    """Returns the result that speaks for a provider of several keys and endpoints: one that works is enough, and a
    refused key shows at least that the provider can be reached; the latest of equals. `results` is not empty."""

    def ranked(result: ProbeResult) -> tuple[bool, bool]:
        return result.error is not None, result.error is not ErrorClass.AUTHENTICATION

    return min(reversed(results), key=ranked)


@dataclass(frozen=True, slots=True)
class ProbePermit:
    """Permission for one call to a half-open target, named in its outcome. `expires`: epoch seconds.

    The id carries the generations of the provider's and the model's circuit, so any replica can read it, also after
    the lease has ended.
    """

    id: str
    expires: float


def permit_prefix(provider_generation: int, model_generation: int) -> str:
    """Returns the beginning of a permit's id; what follows makes it unique."""
    return f"{provider_generation}.{model_generation}."


def permit_generations(permit: str) -> tuple[int | None, int | None]:
    """Returns the provider's and the model's generation of a permit's id; None, None where it is not one of ours."""
    parts = permit.split(".")
    if len(parts) != 3 or not all(p.isascii() and p.isdigit() and len(p) <= 15 for p in parts[:2]):
        return None, None
    return int(parts[0]), int(parts[1])
