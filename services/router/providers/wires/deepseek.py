"""DeepSeek: chat completions; prefill exists only under its beta address. https://api-docs.deepseek.com"""

from __future__ import annotations

from services.router.providers.wires.openai_compatible import Dialect, EffortField
from services.router.providers.wires.validity.rules import DEEPSEEK as RULES
from services.router.providers.wires.validity.rules import Rules
from services.router.providers.wires.wire import Endpoint
from services.router.request.generation import Prompt


def _url(prompt: Prompt, endpoint: Endpoint) -> str:
    base = endpoint.base_url.rstrip("/")
    if prompt.prefill and not base.endswith("/beta"):
        base = base.removesuffix("/v1") + "/beta"
    return f"{base}/chat/completions"


def _rules(model: str) -> Rules:
    return RULES


DEEPSEEK = Dialect(
    json_schema=False,
    seed="",
    reasoning=EffortField.SWITCH_AND_EFFORT,
    prefill_fields={"prefix": True},
    # It thinks unless told otherwise, and then refuses turns with calls but without its thoughts, and choices that
    # demand a call.
    # https://api-docs.deepseek.com/guides/thinking_mode
    thoughtless={"thinking": {"type": "disabled"}},
    one_call=False,
    url=_url,
    rules=_rules,
)
