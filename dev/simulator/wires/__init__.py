"""The wire formats, one file each. Shapes follow the providers' public API references."""

from __future__ import annotations

from dev.simulator.wires.anthropic import Anthropic
from dev.simulator.wires.azure import Azure
from dev.simulator.wires.base import Wire
from dev.simulator.wires.bedrock import Bedrock
from dev.simulator.wires.bedrock_invoke import BedrockInvoke
from dev.simulator.wires.cohere import Cohere
from dev.simulator.wires.gemini import Gemini
from dev.simulator.wires.ollama import Ollama
from dev.simulator.wires.openai_chat import OpenAIChat
from dev.simulator.wires.openai_responses import OpenAIResponses

OPENAI_CHAT = OpenAIChat()
OPENAI_RESPONSES = OpenAIResponses()
AZURE = Azure()
ANTHROPIC = Anthropic()
GEMINI = Gemini()
COHERE = Cohere()
BEDROCK = Bedrock()
BEDROCK_INVOKE = BedrockInvoke()
OLLAMA = Ollama()

WIRES: tuple[Wire, ...] = (
    OPENAI_CHAT,
    OPENAI_RESPONSES,
    AZURE,
    ANTHROPIC,
    GEMINI,
    COHERE,
    BEDROCK,
    BEDROCK_INVOKE,
    OLLAMA,
)

__all__ = [
    "ANTHROPIC",
    "AZURE",
    "BEDROCK",
    "BEDROCK_INVOKE",
    "COHERE",
    "GEMINI",
    "OLLAMA",
    "OPENAI_CHAT",
    "OPENAI_RESPONSES",
    "WIRES",
]
