"""The hard constraints of a plan. A candidate that breaks one is excluded, whatever its score."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import Struct

from libs.catalog.model import Tenant
from libs.conversation import File, Image, Role
from services.router.planning.candidate import Candidate
from services.router.request.attachment_limits import find_excess
from services.router.request.attachments import Attachment
from services.router.request.generation import Prompt


class Needs(Struct, frozen=True):
    """A request's needs, which every model that serves it must meet."""

    tenant: Tenant
    capabilities: frozenset[str]
    attachments: tuple[Attachment, ...]
    max_cost_micro_usd: int | None


#: Returns why the candidate may not serve, in words for a person; empty where it may.
Constraint = Callable[[Candidate, Needs], str]


def _permitted(candidate: Candidate, needs: Needs) -> str:
    allowed = needs.tenant.allowed_providers
    if allowed is None or candidate.model.provider in allowed:
        return ""
    return f"tenant {needs.tenant.name} may not use provider {candidate.model.provider}"


def _capable(candidate: Candidate, needs: Needs) -> str:
    missing = needs.capabilities - candidate.model.capabilities
    return f"cannot do {', '.join(sorted(missing))}" if missing else ""


def _takes_attachments(candidate: Candidate, needs: Needs) -> str:
    return find_excess(needs.attachments, candidate.provider.kind)


def _large_enough(candidate: Candidate, needs: Needs) -> str:
    window = candidate.model.context_window
    if candidate.input_tokens < window:
        return ""
    return f"about {candidate.input_tokens} prompt tokens do not fit its context window of {window}"


def _affordable(candidate: Candidate, needs: Needs) -> str:
    limit, most = needs.max_cost_micro_usd, candidate.estimated_micro_usd
    if limit is None or most <= limit:
        return ""
    return f"may cost {most} micro-USD, more than the {limit} allowed"


def constraints_of(needs: Needs) -> tuple[Constraint, ...]:
    """Returns the constraints that these needs bring into question, in order: the first that is broken is the reason
    that is given."""
    constraints: tuple[Constraint, ...] = (_capable, _large_enough)
    if needs.attachments:
        constraints = (_capable, _takes_attachments, _large_enough)
    if needs.tenant.allowed_providers is not None:
        constraints = (_permitted, *constraints)
    if needs.max_cost_micro_usd is not None:
        constraints = (*constraints, _affordable)
    return constraints


def find_broken(candidate: Candidate, needs: Needs, constraints: Sequence[Constraint]) -> str:
    """Returns why the candidate may not serve by the first of the constraints that it breaks; empty where it breaks
    none."""
    for constraint in constraints:
        broken = constraint(candidate, needs)
        if broken:
            return broken
    return ""


def capabilities_needed(prompt: Prompt, *, stream: bool) -> frozenset[str]:
    """Returns the capabilities without which a model cannot serve the prompt."""
    needed = set()
    if stream:
        needed.add("streaming")
    if prompt.tools:
        needed.add("tools")
    if prompt.response_format is not None:
        needed.add("json_schema" if prompt.response_format.schema_json else "json")
    for message in prompt.messages:
        if message.role is Role.SYSTEM:
            needed.add("system")
        elif message.tool_calls or message.role is Role.TOOL:
            # Those who know no tools have no place for earlier calls either.
            needed.add("tools")
        for part in message.parts:
            if isinstance(part, Image):
                needed.add("image_url" if part.url else "image")
            elif isinstance(part, File):
                needed.add("pdf_url" if part.url else "pdf")
    return frozenset(needed)
