"""The request of a caller: the client's side of `pointsman.router.v1.Generation`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

from libs.conversation import Message, ReasoningEffort, ReasoningSummary, ResponseFormat, Tool
from libs.selection import Strategy
from libs.types import Priority

#: One user prompt, or a conversation, oldest turn first.
Prompt = str | Sequence[Message]


class Options(TypedDict, total=False):
    """The options that may accompany a prompt. Left out means unset: the catalog, the tenant or the provider
    decides."""

    #: The caller's id of this request, 1 to 128 characters.
    request_id: str
    #: A content type of the catalog, e.g. "product_description".
    content_type: str
    #: Instructions to the model, put before the prompt as a system message.
    system: str
    #: 1 to 1,000,000 tokens.
    max_output_tokens: int
    #: 0 to 2.
    temperature: float
    #: Above 0, at most 1.
    top_p: float
    seed: int
    #: At most 8, none empty.
    stop_sequences: Sequence[str]
    response_format: ResponseFormat
    tools: Sequence[Tool]
    #: "auto", "none", "required" or a tool's name.
    tool_choice: str
    #: False: at most one tool is called in a turn.
    parallel_tool_calls: bool
    reasoning_effort: ReasoningEffort
    #: Where the provider that answers can be told; see `Result.ignored`.
    reasoning_summary: ReasoningSummary
    #: -2 to 2.
    presence_penalty: float
    #: -2 to 2.
    frequency_penalty: float
    #: The only models that may answer, in this order.
    models: Sequence[str]
    strategy: Strategy
    priority: Priority
    #: The campaign whose budget pays.
    campaign: str
    #: The most this request may cost over all attempts, millionths of a US dollar, above 0.
    max_cost_micro_usd: int
    #: The most provider attempts, 1 to 10.
    max_attempts: int
    #: Try a second provider when the first is unusually slow to begin.
    hedge: bool
    #: Kept with the usage record.
    labels: Mapping[str, str]
