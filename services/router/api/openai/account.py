"""The account of an answer: response headers, OpenAI's `usage`, and the `pointsman` object."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from libs.answer import Head, Result, Selection
from libs.types import FinishReason, Usage
from services.router.api.openai.limit_headers import limit_headers

#: OpenAI knows no "other". Such a reason may not have been a proper end, so it is shown as the word that makes
#: clients look for a missing rest; `pointsman.finish_reason` tells it from a length limit.
FINISH_REASONS: dict[FinishReason | None, str] = {
    FinishReason.STOP: "stop",
    FinishReason.LENGTH: "length",
    FinishReason.TOOL_CALLS: "tool_calls",
    FinishReason.CONTENT_FILTER: "content_filter",
    FinishReason.OTHER: "length",
    None: "length",
}


def usd(micro_usd: int) -> str:
    """Returns exact decimal US dollars: 50 → "0.000050"."""
    return f"{micro_usd // 1_000_000}.{micro_usd % 1_000_000:06d}"


def selection_headers(selection: Selection) -> dict[str, str]:
    """Returns the headers that name who answers: known before the first byte of a stream."""
    return {"x-pointsman-provider": selection.provider, "x-pointsman-model": selection.model}


def head_headers(head: Head) -> dict[str, str]:
    """Returns the headers of the account so far: known before the first byte of a stream too."""
    return {
        "x-pointsman-attempts": str(head.attempts),
        "x-pointsman-cached": "true" if head.cached else "false",
        **limit_headers(head.limits),
    }


def head_of(result: Result) -> Head:
    """Returns the head of an answer that is whole."""
    return Head(len(result.attempts), result.cached, result.limits, result.ignored)


def result_headers(result: Result) -> dict[str, str]:
    """Returns the headers of the whole account, for an answer in one piece."""
    headers = selection_headers(result.selection) | head_headers(head_of(result))
    headers["x-pointsman-cost-usd"] = usd(result.cost_micro_usd)
    if result.degradation is not None:
        headers["x-pointsman-degradation"] = str(result.degradation)
    if result.budgets:
        headers["x-pointsman-budgets"] = ", ".join(map(str, result.budgets))
    return headers


def pointsman_object(result: Result) -> dict[str, Any]:
    """Returns the account as the `pointsman` object of a body. Tokens in `usage` and `cost_usd` are over all
    attempts."""
    return {
        "request_id": result.request_id,
        "provider": result.selection.provider,
        "model": result.selection.model,
        "finish_reason": result.finish_reason,
        "attempts": len(result.attempts),
        "failed": [
            f"{attempt.provider}/{attempt.model}: {attempt.error_class}"
            for attempt in result.attempts
            if attempt.error_class is not None
        ],
        "cached": result.cached,
        "degradation": result.degradation,
        "budgets": [str(notice) for notice in result.budgets],
        "cost_usd": usd(result.cost_micro_usd),
        "usage_accuracy": result.usage.accuracy,
        **({"ignored": result.ignored} if result.ignored else {}),
    }


def ignored_headers(
    ignored: Sequence[str], by_provider: Sequence[str], names: Mapping[str, str]
) -> dict[str, str]:
    """Returns the header that names the fields of a request of which nothing was made. `by_provider`: those that the
    provider which answers could not be told, by the router's names; `names`: router's name → the client's."""
    if by_provider:
        ignored = [*ignored, *(names.get(name, name) for name in by_provider)]
    return {"x-pointsman-ignored": ", ".join(ignored)} if ignored else {}


def chat_usage(usage: Usage) -> dict[str, Any]:
    """Returns `usage` of chat completions."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": usage.reasoning_tokens, "audio_tokens": 0},
    }


def responses_usage(usage: Usage) -> dict[str, Any]:
    """Returns `usage` of responses."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
