"""Every kind of provider and the wire it speaks."""

from __future__ import annotations

from libs.clock import Clock
from services.router.providers.wires import openai_compatible as dialects
from services.router.providers.wires.anthropic import AnthropicWire
from services.router.providers.wires.azure_openai import (
    AZURE_AI,
    AZURE_OPENAI,
    azure_headers,
    azure_responses_url,
)
from services.router.providers.wires.bedrock import BedrockWire
from services.router.providers.wires.bedrock_invoke import BedrockInvokeWire
from services.router.providers.wires.cohere import CohereWire
from services.router.providers.wires.deepseek import DEEPSEEK
from services.router.providers.wires.gemini import GeminiWire
from services.router.providers.wires.ollama import OllamaWire
from services.router.providers.wires.openai_chat import OpenAIChatWire
from services.router.providers.wires.openai_responses import OpenAIResponsesWire
from services.router.providers.wires.vertex import vertex_address, vertex_key
from services.router.providers.wires.wire import Wire


def wires(clock: Clock) -> dict[str, Wire]:
    """Returns kind → wire. Wires hold no state; one serves every provider of its kind. `clock` dates
    signatures, and tells when a provider's day ends."""
    return {
        "openai": OpenAIChatWire(dialects.OPENAI),
        "openai_compatible": OpenAIChatWire(dialects.PLAIN),
        "openai_responses": OpenAIResponsesWire(),
        "azure_openai": OpenAIChatWire(AZURE_OPENAI),
        "azure_responses": OpenAIResponsesWire(azure_responses_url, azure_headers),
        "azure_ai": OpenAIChatWire(AZURE_AI),
        "anthropic": AnthropicWire(),
        "gemini": GeminiWire(clock),
        "vertex": GeminiWire(clock, vertex_address, vertex_key),
        "bedrock": BedrockWire(clock),
        "bedrock_invoke": BedrockInvokeWire(clock),
        "cohere": CohereWire(),
        "mistral": OpenAIChatWire(dialects.MISTRAL),
        "groq": OpenAIChatWire(dialects.GROQ),
        "deepseek": OpenAIChatWire(DEEPSEEK),
        "xai": OpenAIChatWire(dialects.XAI),
        "openrouter": OpenAIChatWire(dialects.OPENROUTER),
        "together": OpenAIChatWire(dialects.TOGETHER),
        "cerebras": OpenAIChatWire(dialects.CEREBRAS),
        "perplexity": OpenAIChatWire(dialects.PERPLEXITY),
        "fireworks": OpenAIChatWire(dialects.FIREWORKS),
        "huggingface": OpenAIChatWire(dialects.HUGGINGFACE),
        "snowflake": OpenAIChatWire(dialects.SNOWFLAKE),
        "writer": OpenAIChatWire(dialects.WRITER),
        "zai": OpenAIChatWire(dialects.ZAI),
        "ollama": OpenAIChatWire(dialects.OLLAMA),
        "ollama_native": OllamaWire(),
        "vllm": OpenAIChatWire(dialects.VLLM),
        "llamacpp": OpenAIChatWire(dialects.LLAMACPP),
    }
