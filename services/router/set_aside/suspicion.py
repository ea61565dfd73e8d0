"""Evidence against a combination, and the rule of when it is enough to set it aside. Pure.

A kind of request is its tenant's own: different prompts that fail while others are answered are enough. A feature
that its model refuses is avoided for the tenant that met it, and for all once another tenant has met it too.
Everything else is shared by all tenants. An explicit failure (by a status or a code) counts against it at once. Mere
words may be the caller's own, so they need evidence from unrelated requests: of several tenants, or several different
ones where only one tenant calls.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from libs.types import ErrorClass
from services.router.health.answer_times import CONTRADICTED, RECENT
from services.router.set_aside.combinations import Call, Combination, CombinationKind, mark_of

#: Successes of other requests on the same model without which no shape is blamed.
CONTRAST = 3
#: Content is refused for what it says, so it takes more to blame the shape.
REFUSALS = 10
#: Different requests of the only tenant that calls that are as good as those of two tenants.
UNRELATED = 3


@dataclass(slots=True)
class Suspicion:
    """The failures in a row of one combination, counted. Instants in epoch seconds."""

    combination: Combination
    #: The model's successes when it began.
    baseline: int
    #: The version of the key that was used; empty: not about a key.
    key: str
    last: float = 0.0
    count: int = 0
    explicit: int = 0
    refused: bool = False
    #: No more of each than the rule asks for.
    prompts: set[int] = field(default_factory=set)
    models: set[str] = field(default_factory=set)
    tenants: set[str] = field(default_factory=set)

    def add(self, now: float, call: Call, error_class: ErrorClass, *, explicit: bool) -> None:
        """Counts one more failure."""
        rule = self.combination.rule
        self.last = now
        self.count += 1
        self.explicit += explicit
        self.refused |= error_class is ErrorClass.CONTENT_REFUSED
        if len(self.prompts) < max(self.failures, UNRELATED):
            self.prompts.add(mark_of(call.generation.prompt))
        if len(self.models) < rule.different:
            self.models.add(call.model.name)
        if len(self.tenants) < 2:
            self.tenants.add(call.generation.tenant)

    @property
    def failures(self) -> int:
        """The number of failures in a row that the rule asks for."""
        return REFUSALS if self.refused else self.combination.rule.failures

    def proven(self, successes: int, quiet: float) -> bool:
        """Returns True if the evidence is enough. `successes`: the model's by now; `quiet`: seconds since another
        tenant than the one that fails was answered there."""
        if self.count < self.failures:
            return False
        if self.combination.kind is CombinationKind.SHAPE:
            return len(self.prompts) >= self.failures and successes - self.baseline >= CONTRAST
        if self.combination.kind is CombinationKind.FEATURE:
            return bool(self.combination.tenant) or len(self.tenants) > 1
        if (
            self.combination.kind is CombinationKind.KEY
            and len(self.models) < self.combination.rule.different
        ):
            return False
        if len(self.tenants) > 1:
            return True
        if self.explicit >= self.failures:
            return quiet > CONTRADICTED
        return quiet > RECENT and len(self.prompts) >= UNRELATED

    def explain(self, error_class: ErrorClass) -> str:
        """Returns the reason in words, for a person."""
        combination, count, failure = self.combination, self.count, error_class.replace("_", " ")
        if combination.kind is CombinationKind.KEY:
            where = combination.model or "several models"
            return f"{combination.provider} failed {count} calls in a row on {where}: {failure}"
        if combination.unsupported is not None:
            what = combination.unsupported.name
            return f"{combination.provider} said {count} times in a row that it does not support {what} here"
        if combination.kind is CombinationKind.MODEL:
            return f"{combination.provider} said {count} times in a row that it has no such model"
        return f"it failed {count} requests of this kind in a row ({failure}) while others succeeded"
