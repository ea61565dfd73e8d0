"""From what a caller sent to a request that can be served: every wrong field named, every default filled in."""

from __future__ import annotations

import json
from collections.abc import Mapping
from operator import attrgetter
from random import getrandbits

from msgspec import Struct, field, structs

from libs.catalog.model import Catalog, Tenant
from libs.errors import FieldViolation, InvalidArgument
from libs.types import Priority
from services.router.domain.generation import (
    Generation,
    Prompt,
    Role,
    Strategy,
)

MAX_ID = 128
MAX_MESSAGES = 1000
MAX_PROMPT_BYTES = 8 * 1024 * 1024
MAX_OUTPUT_TOKENS = 1_000_000
MAX_STOP_SEQUENCES = 8
MAX_TOOLS = 128
MAX_MODELS = 20
MAX_LABELS = 16
MAX_ATTEMPTS = 10
DEFAULT_ATTEMPTS = 4

_RANGES = {
    "temperature": (0, 2),
    "top_p": (0, 1),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
}
_ranged = attrgetter(*_RANGES)
#: Most requests name none of them.
_NONE_OF_THEM = (None,) * len(_RANGES)


class Draft(Struct, frozen=True):
    """A request as it was sent. None and empty mean unset."""

    #: With 0 output tokens where it names none.
    prompt: Prompt
    #: Which of its messages have no role.
    roleless: tuple[int, ...] = ()
    request_id: str = ""
    content_type: str = ""
    #: The answer must fit a schema, so there must be one.
    needs_schema: bool = False
    models: tuple[str, ...] = ()
    strategy: Strategy | None = None
    priority: Priority | None = None
    campaign: str = ""
    max_cost_micro_usd: int | None = None
    max_attempts: int | None = None
    hedge: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    #: Fields whose value has no name here.
    unknown: tuple[str, ...] = ()


def accept(catalog: Catalog, tenant: Tenant, draft: Draft, now: float, remaining: float | None) -> Generation:
    """The request to serve. `now`: monotonic seconds; `remaining`: seconds until the caller's deadline, None: it set
    none. Raises InvalidArgument naming every wrong field."""
    content_type = catalog.content_types.get(draft.content_type or catalog.default_content_type)
    violations = _violations(draft)
    if content_type is None:
        known = ", ".join(sorted(catalog.content_types))
        violations.append(
            FieldViolation(
                "generation.content_type", f"no content type {draft.content_type[:64]!r}; known: {known}"
            )
        )
    if violations or content_type is None:
        raise InvalidArgument(violations)
    policy = catalog.policy_for(tenant, content_type.name)
    strategy = content_type.strategy or policy.strategy or tenant.strategy
    bounds = (draft.max_cost_micro_usd, tenant.max_cost_micro_usd, policy.max_cost_micro_usd)
    costs = [bound for bound in bounds if bound]
    prompt = draft.prompt
    if not prompt.max_output_tokens:
        prompt = structs.replace(prompt, max_output_tokens=content_type.max_output_tokens)
    return Generation(
        request_id=draft.request_id or f"{getrandbits(128):032x}",
        tenant=tenant.name,
        content_type=content_type.name,
        prompt=prompt,
        deadline=now + (tenant.default_deadline if remaining is None else remaining),
        models=draft.models,
        strategy=draft.strategy or (Strategy(strategy) if strategy else Strategy.BALANCED),
        priority=draft.priority or tenant.priority,
        campaign=draft.campaign,
        max_cost_micro_usd=min(costs) if costs else None,
        max_attempts=draft.max_attempts or policy.max_attempts or DEFAULT_ATTEMPTS,
        hedge=draft.hedge,
        labels=draft.labels,
    )


class _Faults(list[FieldViolation]):
    """What is wrong with a request."""

    def check(self, ok: bool, name: str, description: str) -> None:
        """Notes the fault where it is not `ok`."""
        if not ok:
            self.append(FieldViolation(f"generation.{name}", description))

    def check_range(self, value: float, name: str, low: int, high: int) -> None:
        """Bounds included."""
        if not low <= value <= high:
            self.check(False, name, f"must be from {low:,} to {high:,}")

    def check_kept(self, name: str, text: str) -> None:
        """What the ledger keeps: bounded, and without NUL, which PostgreSQL cannot store."""
        self.check(len(text) <= MAX_ID, name, f"must be at most {MAX_ID} characters")
        self.check("\0" not in text, name, "must not hold NUL characters")


def _violations(draft: Draft) -> list[FieldViolation]:
    found = _Faults()
    prompt = draft.prompt
    if prompt.max_output_tokens:
        found.check_range(prompt.max_output_tokens, "max_output_tokens", 1, MAX_OUTPUT_TOKENS)
    if draft.max_attempts is not None:
        found.check_range(draft.max_attempts, "max_attempts", 1, MAX_ATTEMPTS)
    values = _ranged(prompt)
    if values != _NONE_OF_THEM:
        for (name, (low, high)), value in zip(_RANGES.items(), values, strict=True):
            if value is not None:
                found.check_range(value, name, low, high)
        found.check(prompt.top_p != 0, "top_p", "must be above 0")
    for name in draft.unknown:
        found.check(False, name, "has a value that this router does not know")
    if draft.max_cost_micro_usd is not None and draft.max_cost_micro_usd <= 0:
        found.check(False, "max_cost", "must be above 0; leave it unset for no bound")
    if draft.request_id:
        found.check_kept("request_id", draft.request_id)
    # A campaign names a limit's scope.
    if draft.campaign:
        ok = len(draft.campaign) <= MAX_ID and draft.campaign.isprintable()
        found.check(ok, "campaign", f"must be at most {MAX_ID} printable characters")
    if prompt.stop_sequences:
        found.check(
            len(prompt.stop_sequences) <= MAX_STOP_SEQUENCES,
            "stop_sequences",
            f"at most {MAX_STOP_SEQUENCES}",
        )
        found.check(all(prompt.stop_sequences), "stop_sequences", "none may be empty")
    if len(draft.models) > MAX_MODELS:
        found.check(False, "models", f"at most {MAX_MODELS}")
    if draft.labels:
        found.check(len(draft.labels) <= MAX_LABELS, "labels", f"at most {MAX_LABELS}")
        for name, text in draft.labels.items():
            found.check(bool(name), "labels", "a name must not be empty")
            found.check_kept("labels", name)
            found.check_kept("labels", text)
    _check_messages(draft, found)
    if prompt.tools or prompt.tool_choice or prompt.response_format is not None:
        _check_tools(prompt, found, needs_schema=draft.needs_schema)
    return found


def _check_messages(draft: Draft, found: _Faults) -> None:
    messages = draft.prompt.messages
    count = len(messages)
    if not 0 < count <= MAX_MESSAGES:
        found.check(False, "messages", f"needs from 1 to {MAX_MESSAGES} messages")
    size = 0
    for index, message in enumerate(messages):
        text = message.text
        size += len(text) if text.isascii() else len(text.encode())
        role = message.role
        # Tools may have nothing to say, and a model's own turn may have been empty.
        if role is Role.USER and not message.tool_calls and text and not text.isspace():
            continue
        at = f"messages[{index}]"
        spoken = bool(text.strip()) or role in (Role.TOOL, Role.ASSISTANT)
        found.check(spoken, f"{at}.text", "must not be empty")
        found.check(
            role is not Role.TOOL or bool(message.tool_call_id), f"{at}.tool_call_id", "must name the call"
        )
        found.check(
            not message.tool_calls or role is Role.ASSISTANT,
            f"{at}.tool_calls",
            "only an assistant calls tools",
        )
    for index in draft.roleless:
        found.check(False, f"messages[{index}].role", "must be set")
    if size > MAX_PROMPT_BYTES:
        found.check(False, "messages", f"are {size} bytes; at most {MAX_PROMPT_BYTES} are accepted")
    if messages and messages[-1].role is Role.SYSTEM:
        found.check(False, "messages", "the last must not be a system message")


def _check_tools(prompt: Prompt, found: _Faults, *, needs_schema: bool) -> None:
    tools = prompt.tools
    found.check(len(tools) <= MAX_TOOLS, "tools", f"at most {MAX_TOOLS}")
    for index, tool in enumerate(tools):
        found.check(0 < len(tool.name) <= 64, f"tools[{index}].name", "must be 1 to 64 characters")
        ok = not tool.parameters_json or _is_object(tool.parameters_json)
        found.check(ok, f"tools[{index}].parameters_json", "must be a JSON object")
        found.check(
            tool.name not in {t.name for t in tools[:index]}, f"tools[{index}].name", "must be unique"
        )
    names = {"", "auto", "none", *(["required"] if tools else []), *(tool.name for tool in tools)}
    found.check(
        prompt.tool_choice in names, "tool_choice", "must be auto, none, required or the name of a tool"
    )
    shape = prompt.response_format
    if shape is not None and (shape.schema_json or needs_schema):
        found.check(_is_object(shape.schema_json), "response_format.schema_json", "must be a JSON object")
        found.check(len(shape.schema_name) <= 64, "response_format.schema_name", "must be 1 to 64 characters")


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False
