"""Every kind of provider and the wire it speaks."""

from __future__ import annotations

from libs.clock import Clock
from services.router.adapters.providers import openai_compatible as dialects
from services.router.adapters.providers.anthropic import AnthropicWire
from services.router.adapters.providers.azure_openai import AzureAIWire, AzureOpenAIWire
from services.router.adapters.providers.bedrock import BedrockWire
from services.router.adapters.providers.bedrock_invoke import BedrockInvokeWire
from services.router.adapters.providers.cohere import CohereWire
from services.router.adapters.providers.deepseek import DeepSeekWire
from services.router.adapters.providers.gemini import GeminiWire
from services.router.adapters.providers.ollama import OllamaWire
from services.router.adapters.providers.openai_chat import OpenAIChatWire
from services.router.adapters.providers.openai_responses import AzureResponsesWire, OpenAIResponsesWire
from services.router.adapters.providers.vertex import VertexWire
from services.router.adapters.providers.wire import Wire


def wires(clock: Clock) -> dict[str, Wire]:
    """Kind → wire. Wires hold no state; one serves every provider of its kind. `clock`: to sign requests with."""
    return {
        "openai": OpenAIChatWire(dialects.OPENAI),
        "openai_compatible": OpenAIChatWire(dialects.PLAIN),
        "openai_responses": OpenAIResponsesWire(),
        "azure_openai": AzureOpenAIWire(),
        "azure_responses": AzureResponsesWire(),
        "azure_ai": AzureAIWire(),
        "anthropic": AnthropicWire(),
        "gemini": GeminiWire(),
        "vertex": VertexWire(),
        "bedrock": BedrockWire(clock),
        "bedrock_invoke": BedrockInvokeWire(clock),
        "cohere": CohereWire(),
        "mistral": OpenAIChatWire(dialects.MISTRAL),
        "groq": OpenAIChatWire(dialects.GROQ),
        "deepseek": DeepSeekWire(),
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
