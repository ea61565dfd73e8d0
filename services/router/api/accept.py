"""Makes a request that can be served from a draft: names every wrong field, fills in every default."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter

from msgspec import Struct, field, structs

from libs.bounds import MAX_ID
from libs.catalog.catalog import Catalog
from libs.catalog.model import MAX_ATTEMPTS, Tenant
from libs.conversation import Role
from libs.errors import FieldViolation, InvalidArgument, check_count
from libs.selection import Strategy
from libs.types import Priority
from services.router.api.faults import Faults, count_bytes
from services.router.api.json_text import (
    MAX_ARGUMENT_VALUES,
    MAX_SCHEMA_BYTES,
    MAX_SCHEMA_VALUES,
    count_values,
    find_arguments_fault,
    find_schema_fault,
)
from services.router.api.parts import check_parts, count_parts, has_content
from services.router.request.generation import Generation, Prompt

#: Characters of the name of a tool or a schema, as vendors bound them.
MAX_NAME = 64
#: Catalog names of provider and model with a slash between them.
MAX_MODEL_NAME = 2 * MAX_ID + 1
#: Bytes of a prompt together: text, tools and schemas as UTF-8, images and files as they are.
MAX_PROMPT_BYTES = 8 * 1024 * 1024
MAX_OUTPUT_TOKENS = 1_000_000
#: Characters of a stop sequence.
MAX_STOP = 1024
DEFAULT_ATTEMPTS = 4
#: Repeated fields of a generation → the most entries that each may have.
MOST = {
    "messages": 1000,
    # Of all messages together: each call is answered by a message.
    "messages.tool_calls": 1000,
    # Of all messages together, and the images and files among them: Anthropic takes 100, others more.
    "messages.parts": 2000,
    "messages.parts.data": 100,
    "stop_sequences": 8,
    "tools": 128,
    "models": 20,
    "labels": 16,
}

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
    """A request as it was sent, over either door. None and empty mean unset."""

    #: With 0 output tokens where it names none.
    prompt: Prompt
    #: Indexes of the messages without a role.
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


def check_entries(field: str, count: int) -> None:
    """Raises InvalidArgument where a repeated field of a generation has too many entries, before anything is made of
    them."""
    if count > MOST[field]:
        check_count(f"generation.{field}", count, MOST[field])


def accept(
    catalog: Catalog,
    tenant: Tenant,
    draft: Draft,
    now: float,
    remaining: float | None,
    new_id: Callable[[], str],
) -> Generation:
    """Returns the request to serve. `now`: monotonic seconds; `remaining`: seconds until the caller's deadline, None:
    it set none; `new_id`: returns an id for a request that has none. Raises InvalidArgument naming every wrong field,
    of a field with too many entries that field alone."""
    _check_counts(draft)
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
    prompt = draft.prompt
    if not prompt.max_output_tokens:
        prompt = structs.replace(prompt, max_output_tokens=content_type.max_output_tokens)
    return Generation(
        request_id=draft.request_id or new_id(),
        tenant=tenant.name,
        content_type=content_type.name,
        prompt=prompt,
        deadline=now + (tenant.default_deadline if remaining is None else remaining),
        models=draft.models,
        strategy=draft.strategy or (Strategy(strategy) if strategy else Strategy.BALANCED),
        strategy_asked=draft.strategy is not None,
        priority=draft.priority or tenant.priority,
        campaign=draft.campaign,
        max_cost_micro_usd=min(filter(None, bounds), default=None),
        max_attempts=draft.max_attempts or policy.max_attempts or DEFAULT_ATTEMPTS,
        hedge=draft.hedge,
        labels=draft.labels,
        attachments=tuple(violations.attachments),
    )


def _check_counts(draft: Draft) -> None:
    """Raises InvalidArgument where there are too many entries of anything; first, since all else loops over them."""
    prompt = draft.prompt
    check_entries("messages", len(prompt.messages))
    # Most requests have none of these.
    more = [message for message in prompt.messages if message.tool_calls or message.parts]
    if more:
        check_entries("messages.tool_calls", sum([len(message.tool_calls) for message in more]))
        parts, attachments = count_parts(more)
        check_entries("messages.parts", parts)
        check_entries("messages.parts.data", attachments)
    if prompt.stop_sequences or prompt.tools or draft.models or draft.labels:
        check_entries("stop_sequences", len(prompt.stop_sequences))
        check_entries("tools", len(prompt.tools))
        check_entries("models", len(draft.models))
        check_entries("labels", len(draft.labels))


def _violations(draft: Draft) -> Faults:
    found = Faults()
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
    for index, model in enumerate(draft.models):
        ok = len(model) <= MAX_MODEL_NAME and count_bytes(model) is not None
        found.check(ok, f"models[{index}]", f"must be at most {MAX_MODEL_NAME} characters of Unicode")
    for name, text in draft.labels.items():
        found.check(bool(name), "labels", "a name must not be empty")
        found.check_kept("labels", name)
        found.check_kept("labels", text)
    _check_prompt(draft, found)
    return found


def _check_prompt(draft: Draft, found: Faults) -> None:
    """Adds the faults of the prompt. Bytes and values are counted first: JSON is decoded only where all of it
    together is bounded."""
    prompt = draft.prompt
    _check_messages(draft, found)
    for text in prompt.stop_sequences:
        found.check(bool(text), "stop_sequences", "none may be empty")
        found.check(len(text) <= MAX_STOP, "stop_sequences", f"each must be at most {MAX_STOP} characters")
        found.measure("stop_sequences", text)
    if prompt.tools or prompt.tool_choice:
        _check_tools(prompt, found)
    shape = prompt.response_format
    if shape is not None:
        found.measure("response_format.schema_name", shape.schema_name)
        found.measure("response_format.schema_json", shape.schema_json)
    if found.size > MAX_PROMPT_BYTES:
        most = f"at most {MAX_PROMPT_BYTES} are accepted"
        found.check(
            False, "messages", f"are {found.size} bytes, tools, schemas, images and files included; {most}"
        )
        return
    if found.calls:
        _check_arguments(prompt, found)
    if prompt.tools or shape is not None:
        _check_schemas(prompt, found, needs_schema=draft.needs_schema)


def _check_messages(draft: Draft, found: Faults) -> None:
    messages = draft.prompt.messages
    if not messages:
        found.check(False, "messages", f"needs from 1 to {MOST['messages']} messages")
    said = nameless = False
    #: Places of messages that say nothing: the conversation must say something, not each of them.
    silent: list[str] = []
    for index, message in enumerate(messages):
        text = message.text
        role = message.role
        # Most messages.
        if (
            role is Role.USER
            and not (message.tool_calls or message.parts)
            and text.isascii()
            and text
            and not text.isspace()
        ):
            found.size += len(text)
            said = True
            continue
        at = f"messages[{index}]"
        found.measure(f"{at}.text", text)
        spoken = bool(text and not text.isspace())
        if message.parts:
            check_parts(message, at, found)
            spoken = has_content(message)
        if spoken or message.tool_calls:
            said = True
        elif role in (Role.SYSTEM, Role.USER):
            silent.append(at)
        found.measure(f"{at}.tool_call_id", message.tool_call_id)
        # Some servers give no ids; then results follow their calls in order.
        nameless |= any(not call.id for call in message.tool_calls)
        named = role is not Role.TOOL or bool(message.tool_call_id) or nameless
        found.check(named, f"{at}.tool_call_id", "must name the call")
        if message.tool_calls:
            found.calls += len(message.tool_calls)
            found.check(role is Role.ASSISTANT, f"{at}.tool_calls", "only an assistant calls tools")
            for place, call in enumerate(message.tool_calls):
                found.measure(f"{at}.tool_calls[{place}].id", call.id)
                found.measure(f"{at}.tool_calls[{place}].name", call.name)
                found.measure(f"{at}.tool_calls[{place}].arguments_json", call.arguments_json)
    for index in draft.roleless:
        found.check(False, f"messages[{index}].role", "must be set")
    if not said:
        for at in silent:
            found.check(False, f"{at}.text", "must not be empty")


def _check_tools(prompt: Prompt, found: Faults) -> None:
    names: set[str] = set()
    for index, tool in enumerate(prompt.tools):
        at = f"tools[{index}]"
        found.check(0 < len(tool.name) <= MAX_NAME, f"{at}.name", f"must be 1 to {MAX_NAME} characters")
        found.check(tool.name not in names, f"{at}.name", "must be unique")
        names.add(tool.name)
        found.measure(f"{at}.name", tool.name)
        found.measure(f"{at}.description", tool.description)
        found.measure(f"{at}.parameters_json", tool.parameters_json)
    choices = {"", "auto", "none", *(("required",) if names else ()), *names}
    known = prompt.tool_choice in choices
    found.check(known, "tool_choice", "must be auto, none, required or the name of a tool")


def _check_arguments(prompt: Prompt, found: Faults) -> None:
    calls = {
        f"messages[{index}].tool_calls[{place}].arguments_json": call.arguments_json
        for index, message in enumerate(prompt.messages)
        for place, call in enumerate(message.tool_calls)
    }
    if sum(map(count_values, calls.values())) > MAX_ARGUMENT_VALUES:
        most = f"at most {MAX_ARGUMENT_VALUES} are accepted"
        found.check(False, "messages.tool_calls", f"have too many JSON values in their arguments; {most}")
        return
    for name, text in calls.items():
        fault = find_arguments_fault(text)
        found.check(fault is None, name, fault or "")


def _check_schemas(prompt: Prompt, found: Faults, *, needs_schema: bool) -> None:
    """Adds the faults of the schemas of the tools and of the answer."""
    schemas = {
        f"tools[{index}].parameters_json": tool.parameters_json
        for index, tool in enumerate(prompt.tools)
        if tool.parameters_json
    }
    shape = prompt.response_format
    if shape is not None and (shape.schema_json or needs_schema):
        schemas["response_format.schema_json"] = shape.schema_json
        ok = 0 < len(shape.schema_name) <= MAX_NAME
        found.check(ok, "response_format.schema_name", f"must be 1 to {MAX_NAME} characters")
    size = sum([count_bytes(text) or 0 for text in schemas.values()])
    if size > MAX_SCHEMA_BYTES or sum(map(count_values, schemas.values())) > MAX_SCHEMA_VALUES:
        most = f"at most {MAX_SCHEMA_BYTES} bytes and {MAX_SCHEMA_VALUES} JSON values are accepted"
        where = "tools" if prompt.tools else "response_format.schema_json"
        found.check(False, where, f"have too large schemas; all together, {most}")
        return
    for name, text in schemas.items():
        fault = find_schema_fault(text)
        found.check(fault is None, name, fault or "")
