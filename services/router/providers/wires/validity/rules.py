"""The rules of each wire's vendor for a conversation, with the page that each comes from.

Rules that every vendor has in common (results follow their calls in the calls' order, no blank turns, schemas of
tools are of objects) are no fields here: they hold for all, see `turns.py` and `schemas.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import lru_cache

from services.router.providers.wires.validity.call_ids import call_id, nine_characters
from services.router.providers.wires.validity.subset import Subset


class Begun(Enum):
    """The treatment of a last message of the assistant's."""

    #: It takes it as it stands.
    KEPT = auto()
    #: It goes on from it, as from a prefill.
    PREFILL = auto()
    #: It refuses it: the user must have the last word.
    REFUSED = auto()


#: Short enough for OpenAI (40) and without the characters that Anthropic refuses.
_IDS = re.compile(r"[a-zA-Z0-9_-]{1,40}")
_NAMES = re.compile(r"[a-zA-Z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Rules:
    """The conversations that a vendor takes.

    `ids`: of tool calls, and `make_id`, which makes one from any text. `names`: of tools. `keys`:
    of the properties of a tool's parameters, None for any.
    `system_anywhere`: system messages may stand between others; else they come first, and the last of them is the
    user's where there is nothing else. `alternates`: neighbours of one role must be one
    turn (some bodies see to that themselves). `user_first`: the first turn
    must be the user's. `user_after_results`: a user may speak right after results of calls. `blank_results`: a
    result may be blank. `object_arguments`: those of calls must be objects (some bodies see to
    that themselves). `begun`: see there. `tools_for_calls`: calls in the history need tools.
    `json_with_tools`: JSON answers and tools go together. `json_word`: JSON of any shape needs the word in a message.
    `subset`: the schemas of answers, None for all. `description`: characters of a tool's, None for any
    number. `stops`: stop sequences at most, and `blank_stops`: they may be blank. `least_output`: tokens.
    `temperature`: at most. `top_p`, `penalties`, `seed`: from and to. `one_sampling`: temperature or top_p, not both.
    `fixed_sampling`: only the defaults are taken, and best left out.
    """

    ids: re.Pattern[str] = _IDS
    make_id: Callable[[str], str] = call_id
    names: re.Pattern[str] = _NAMES
    keys: re.Pattern[str] | None = None
    system_anywhere: bool = False
    alternates: bool = False
    user_first: bool = False
    user_after_results: bool = True
    blank_results: bool = True
    object_arguments: bool = True
    begun: Begun = Begun.PREFILL
    tools_for_calls: bool = False
    json_with_tools: bool = True
    json_word: bool = True
    subset: Subset | None = None
    description: int | None = None
    stops: int | None = None
    blank_stops: bool = True
    least_output: int = 1
    temperature: float = 2.0
    top_p: tuple[float, float] = (0.0, 1.0)
    penalties: tuple[float, float] = (-2.0, 2.0)
    seed: tuple[int, int] = (-(2**63), 2**63 - 1)
    one_sampling: bool = False
    fixed_sampling: bool = False


#: Any server of chat completions: the templates of many models want the system first and turns that alternate, as in
#: https://github.com/vllm-project/vllm/tree/main/examples.
COMPATIBLE = Rules(alternates=True, user_first=True)
#: An answer is an object: https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
_OBJECT = Subset(any_root=False)
#: https://platform.openai.com/docs/api-reference/chat/create (ids: 40, descriptions: 1024, stops: 4)
OPENAI = Rules(
    system_anywhere=True,
    object_arguments=False,
    begun=Begun.KEPT,
    subset=_OBJECT,
    description=1024,
    stops=4,
)
#: https://platform.openai.com/docs/guides/reasoning
OPENAI_REASONING = replace(OPENAI, stops=0, fixed_sampling=True)
#: https://platform.openai.com/docs/api-reference/responses/create (no stops; 16 tokens at least)
RESPONSES = replace(OPENAI, description=None, stops=0, least_output=16)
RESPONSES_REASONING = replace(RESPONSES, fixed_sampling=True)
#: https://console.groq.com/docs/api-reference#chat-create, https://console.groq.com/docs/structured-outputs
GROQ = Rules(system_anywhere=True, begun=Begun.KEPT, stops=4, json_with_tools=False)
#: https://docs.x.ai/docs/guides/chat: any order of roles; models that reason take no stop sequences.
XAI = Rules(system_anywhere=True, begun=Begun.KEPT)
XAI_REASONING = replace(XAI, stops=0)
#: https://api-docs.deepseek.com/api/create-chat-completion
DEEPSEEK = Rules(system_anywhere=True, stops=16)
#: https://docs.mistral.ai/api/endpoint/chat; ids, order of roles: github.com/mistralai/mistral-common
MISTRAL = Rules(
    ids=re.compile(r"[a-zA-Z0-9]{9}"),
    make_id=nine_characters,
    user_after_results=False,
    temperature=1.5,
    seed=(0, 2**63 - 1),
)
#: https://inference-docs.cerebras.ai/capabilities/structured-outputs
CEREBRAS = replace(
    COMPATIBLE, subset=Subset(frozenset(("minItems", "maxItems", "pattern", "format")), recursive=False)
)
#: https://docs.perplexity.ai/api-reference/chat-completions-post: roles alternate, the last is a user's or a tool's.
PERPLEXITY = replace(COMPATIBLE, begun=Begun.REFUSED)
_NO_GRAMMAR = """
maxItems uniqueItems contains minContains maxContains prefixItems minLength maxLength minimum maximum
exclusiveMinimum exclusiveMaximum multipleOf minProperties maxProperties patternProperties propertyNames
unevaluatedProperties dependentRequired dependentSchemas not if then else
"""
#: https://docs.claude.com/en/api/messages, …/build-with-claude/structured-outputs. An answer's schema becomes a
#: grammar; Anthropic's own SDK leaves out what it lacks and says it in the description.
_GRAMMAR = Subset(
    unknown=frozenset(_NO_GRAMMAR.split()),
    most_min_items=1,
    one_of=False,
    closed=True,
    recursive=False,
)
ANTHROPIC = Rules(
    # Recorded in https://github.com/ComposioHQ/composio/issues/3500.
    keys=re.compile(r"[a-zA-Z0-9_.-]{1,64}"),
    object_arguments=False,
    user_first=True,
    tools_for_calls=True,
    json_word=False,
    subset=_GRAMMAR,
    blank_stops=False,
)
#: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html
BEDROCK = replace(ANTHROPIC, subset=None, blank_stops=True, temperature=1.0)
#: Converse with a model of Anthropic's behind it, which adds its own rules.
BEDROCK_ANTHROPIC = replace(ANTHROPIC, blank_results=False, temperature=1.0, one_sampling=True)
#: https://ai.google.dev/api/generate-content, https://ai.google.dev/gemini-api/docs/function-calling
GEMINI_3 = Rules(
    names=re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}"),
    user_first=True,
    object_arguments=False,
    json_word=False,
    stops=5,
    # An int32: https://ai.google.dev/api/generate-content#generationconfig
    seed=(0, 2**31 - 1),
)
GEMINI = replace(GEMINI_3, json_with_tools=False)
_NOT_AT_COHERE = """
minLength maxLength minimum maximum exclusiveMinimum exclusiveMaximum minItems maxItems uniqueItems multipleOf
minProperties maxProperties allOf
"""
#: https://docs.cohere.com/reference/chat, https://docs.cohere.com/docs/structured-outputs
COHERE = Rules(
    begun=Begun.REFUSED,
    json_with_tools=False,
    subset=Subset(
        unknown=frozenset(_NOT_AT_COHERE.split()),
        one_of=False,
        needs_required=True,
        any_root=False,
    ),
    stops=5,
    temperature=1.0,
    top_p=(0.01, 0.99),
    penalties=(0.0, 1.0),
    seed=(0, 2**63 - 1),
)
#: https://github.com/ollama/ollama/blob/main/docs/api.md
OLLAMA = COMPATIBLE

_REASONS = re.compile(r"(^|/)(o[134](-|$)|gpt-5(?!-chat))")

_GROK_REASONS = re.compile(r"grok-(3-mini|4|code)")


@lru_cache(1024)
def openai_rules(model: str) -> Rules:
    """Returns the rules of a model at OpenAI's chat completions."""
    return OPENAI_REASONING if _REASONS.search(model) else OPENAI


@lru_cache(1024)
def xai_rules(model: str) -> Rules:
    """Returns the rules of a model of xAI's."""
    reasons = _GROK_REASONS.search(model) is not None and "non-reasoning" not in model
    return XAI_REASONING if reasons else XAI


@lru_cache(1024)
def responses_rules(model: str) -> Rules:
    """Returns the rules of a model at the responses API."""
    return RESPONSES_REASONING if _REASONS.search(model) else RESPONSES


@lru_cache(1024)
def bedrock_rules(model: str) -> Rules:
    """Returns the rules of a model at Bedrock's Converse."""
    return BEDROCK_ANTHROPIC if "anthropic." in model else BEDROCK


@lru_cache(1024)
def gemini_rules(model: str) -> Rules:
    """Returns the rules of a model of Google's."""
    return GEMINI_3 if model.rpartition("/")[2].startswith("gemini-3") else GEMINI
