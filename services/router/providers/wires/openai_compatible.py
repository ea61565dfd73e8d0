"""The dialects of chat completions that differ in fields only; a provider that differs in more has a file.

Read from each vendor's API reference; a field that a vendor ignores is sent, one that it refuses is not.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from libs.conversation import File
from services.router.providers.wires.chat_thoughts import ThoughtsField
from services.router.providers.wires.media import address_of, file_name
from services.router.providers.wires.request_parts import Headers, WriteFile, bearer_headers, chat_file
from services.router.providers.wires.validity import rules as vendors
from services.router.providers.wires.validity.rules import Rules
from services.router.providers.wires.wire import Endpoint
from services.router.request.generation import Prompt


def chat_url(prompt: Prompt, endpoint: Endpoint) -> str:
    """Returns the usual address of chat completions."""
    return endpoint.base_url.rstrip("/") + "/chat/completions"


def _writer_url(prompt: Prompt, endpoint: Endpoint) -> str:
    return endpoint.base_url.rstrip("/") + "/chat"


def compatible_rules(model: str) -> Rules:
    """Returns the rules of any server that speaks the wire."""
    return vendors.COMPATIBLE


def _groq_rules(model: str) -> Rules:
    return vendors.GROQ


def _cerebras_rules(model: str) -> Rules:
    return vendors.CEREBRAS


def _mistral_rules(model: str) -> Rules:
    return vendors.MISTRAL


def _perplexity_rules(model: str) -> Rules:
    return vendors.PERPLEXITY


def _document_url(file: File) -> dict[str, Any]:
    """https://docs.mistral.ai/capabilities/document_ai/document_qna"""
    return {"type": "document_url", "document_url": address_of(file)}


def _file_or_address(file: File) -> dict[str, Any]:
    """https://openrouter.ai/docs/features/multimodal/pdfs"""
    return {"type": "file", "file": {"filename": file_name(file), "file_data": address_of(file)}}


class EffortField(StrEnum):
    """The fields that tell a vendor how hard to think."""

    NONE = ""
    #: `reasoning_effort`.
    EFFORT = "effort"
    #: `reasoning`, with the effort inside: OpenRouter.
    OBJECT = "object"
    #: `thinking`, on or off.
    SWITCH = "switch"
    #: `thinking`, and beside it `reasoning_effort`.
    SWITCH_AND_EFFORT = "switch_and_effort"


@dataclass(frozen=True, slots=True)
class Dialect:
    """The differences of one provider's chat completions.

    `max_tokens`, `seed`: the field's name; empty `seed`: it has none. `required`: its word for "call some tool".
    `named_tool`: one tool can be demanded by name. `stream_options`: usage must be asked for. `json_schema`: answers
    can be bound to a schema (else any JSON object). `penalties`: it takes them. `reasoning`: how it is told to think.
    `cache_key`: `prompt_cache_key` is sent. `prefill_fields`: fields of an unfinished assistant message;
    `prefill_body`: of the request. `thoughts`: the field in which it takes its thoughts back. `thoughtless`: it
    thinks by itself, wants its thoughts back with every call, and refuses choices that demand one; the fields with
    which it goes on without them. `one_call`: it can be kept to one tool call a turn. `reasoning_apart`: completion
    tokens leave out reasoning tokens. `output_apart`: other counts of usage that are billed as output beside them.
    `reasonless`: it never gives a finish reason, so only the terminator marks the end. `file`: writes a document.
    `tools_show`: a tool's result may hold images. `url` and `headers`: of a request. `extra`: fields sent with every
    request. `rules`: returns those of a model for conversations. `not_strict`: keywords that its strict mode refuses
    beside those that OpenAI's does.
    """

    max_tokens: str = "max_tokens"
    seed: str = "seed"
    required: str = "required"
    named_tool: bool = True
    stream_options: bool = True
    json_schema: bool = True
    penalties: bool = True
    reasoning: EffortField = EffortField.EFFORT
    cache_key: bool = False
    prefill_fields: Mapping[str, Any] | None = None
    prefill_body: Mapping[str, Any] | None = None
    thoughts: ThoughtsField = ThoughtsField.REASONING_CONTENT
    thoughtless: Mapping[str, Any] | None = None
    one_call: bool = True
    reasoning_apart: bool = False
    output_apart: tuple[str, ...] = ()
    reasonless: bool = False
    file: WriteFile = chat_file
    tools_show: bool = False
    url: Callable[[Prompt, Endpoint], str] = chat_url
    headers: Headers = bearer_headers
    extra: Mapping[str, Any] | None = None
    rules: Callable[[str], Rules] = compatible_rules
    not_strict: frozenset[str] = frozenset()


OPENAI = Dialect(max_tokens="max_completion_tokens", cache_key=True, rules=vendors.openai_rules)
#: Any other server that speaks the wire.
PLAIN = Dialect()
GROQ = Dialect(max_tokens="max_completion_tokens", thoughts=ThoughtsField.REASONING, rules=_groq_rules)
#: Refuses unknown fields, and a user right after tools; always reports usage.
MISTRAL = Dialect(
    seed="random_seed",
    required="any",
    stream_options=False,
    prefill_fields={"prefix": True},
    rules=_mistral_rules,
    not_strict=frozenset({"minItems", "maxItems"}),
    thoughts=ThoughtsField.CONTENT,
    file=_document_url,
    tools_show=True,
)
#: Reasoning tokens stand beside completion tokens.
XAI = Dialect(max_tokens="max_completion_tokens", reasoning_apart=True, rules=vendors.xai_rules)
OPENROUTER = Dialect(
    reasoning=EffortField.OBJECT,
    thoughts=ThoughtsField.DETAILS,
    file=_file_or_address,
    extra={"usage": {"include": True}},
)
TOGETHER = Dialect(thoughts=ThoughtsField.REASONING, one_call=False)
CEREBRAS = Dialect(
    max_tokens="max_completion_tokens",
    penalties=False,
    thoughts=ThoughtsField.REASONING,
    rules=_cerebras_rules,
)
#: Reasoning and citations are billed beside completion tokens; no stream options, tools or seeds.
PERPLEXITY = Dialect(
    one_call=False,
    stream_options=False,
    seed="",
    reasoning_apart=True,
    output_apart=("citation_tokens",),
    rules=_perplexity_rules,
)
FIREWORKS = Dialect()
OLLAMA = Dialect(thoughts=ThoughtsField.REASONING, one_call=False)
#: Continues an unfinished assistant message only with these fields.
VLLM = Dialect(prefill_body={"continue_final_message": True, "add_generation_prompt": False})
LLAMACPP = Dialect()
HUGGINGFACE = Dialect(one_call=False)
#: https://docs.z.ai/guides/capabilities/thinking-mode
ZAI = Dialect(seed="", json_schema=False, reasoning=EffortField.SWITCH, one_call=False)
#: Every recorded answer, whole ones and tool calls alike, has an empty finish reason.
SNOWFLAKE = Dialect(max_tokens="max_completion_tokens", reasonless=True, one_call=False)
WRITER = Dialect(url=_writer_url, seed="", reasoning=EffortField.NONE, one_call=False)
