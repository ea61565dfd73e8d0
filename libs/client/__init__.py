"""The client for callers. `Client` generates; `HealthClient`, `SetAsideClient`, `QuotaClient` and `CostClient` are
for operators. Errors are those of `libs.errors`, with the server's details."""

from libs.answer import (
    Attempt,
    BudgetNotice,
    Completed,
    Delta,
    Event,
    Head,
    LimitState,
    Restarted,
    Result,
    Selected,
    Selection,
    SwitchedProvider,
)
from libs.client.assembler import TextAssembler
from libs.client.client import Client
from libs.client.connection import DEFAULT_TIMEOUT, Tls
from libs.client.model import Alternative, CostEstimate, ListedModel, Listing, SelectResult
from libs.client.operations import (
    CostClient,
    CostGroup,
    CostInterval,
    CostRow,
    Costs,
    HealthClient,
    LearnedState,
    ProviderState,
    QuotaAlert,
    QuotaClient,
    QuotaForecast,
    QuotaState,
)
from libs.client.request import Options, Prompt
from libs.client.set_aside import SetAside, SetAsideClient
from libs.conversation import Message, ReasoningEffort, ResponseFormat, Role, Tool, ToolCall, ToolCallDelta
from libs.selection import Degradation, Scores, SelectionReason, Strategy

__all__ = [
    "DEFAULT_TIMEOUT",
    "Alternative",
    "Attempt",
    "BudgetNotice",
    "Client",
    "Completed",
    "CostClient",
    "CostEstimate",
    "CostGroup",
    "CostInterval",
    "CostRow",
    "Costs",
    "Degradation",
    "Delta",
    "Event",
    "Head",
    "HealthClient",
    "LearnedState",
    "LimitState",
    "ListedModel",
    "Listing",
    "Message",
    "Options",
    "Prompt",
    "ProviderState",
    "QuotaAlert",
    "QuotaClient",
    "QuotaForecast",
    "QuotaState",
    "ReasoningEffort",
    "ResponseFormat",
    "Restarted",
    "Result",
    "Role",
    "Scores",
    "SelectResult",
    "Selected",
    "Selection",
    "SelectionReason",
    "SetAside",
    "SetAsideClient",
    "Strategy",
    "SwitchedProvider",
    "TextAssembler",
    "Tls",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
]
