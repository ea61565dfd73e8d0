"""A prompt through one of the router's wires to a virtual provider of the simulator, and its answer back."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from libs.clock import SystemClock
from libs.conversation import ToolCall
from services.router.providers.wires.wire import Endpoint, Wire
from services.router.providers.wires.wires import wires
from services.router.request.generation import Completion, Prompt
from tests.support.simulator import Simulator
from tests.unit.router.providers.wires.samples import told

#: A model of every kind that the simulator plays; the kind is the virtual provider's name.
MODELS: Mapping[str, str] = {
    "openai": "gpt-4o",
    "openai_responses": "gpt-4o",
    "azure_openai": "gpt-4o",
    "anthropic": "claude-haiku-4-5",
    "gemini": "gemini-2.5-flash",
    "vertex": "gemini-2.5-flash",
    "bedrock": "anthropic.claude-sonnet-4-5-20250929-v1:0",
    "bedrock_invoke": "anthropic.claude-sonnet-4-5-20250929-v1:0",
    "cohere": "command-a-03-2025",
    "mistral": "mistral-large-latest",
    "groq": "llama-3.3-70b-versatile",
    "deepseek": "deepseek-chat",
    "openai_compatible": "llama-3.1-8b-instruct",
    "ollama_native": "llama3.1",
}
_OPTIONS = {"api_version": "2024-10-21", "project": "p", "region": "us-east-1"}
_ROOTED = ("azure_openai", "bedrock", "vertex")
WIRES: Mapping[str, Wire] = wires(SystemClock())


async def send(simulator: Simulator, kind: str, prompt: Prompt, *, stream: bool) -> httpx.Response:
    """Sends the prompt as that kind's wire makes it, and returns what came."""
    base = simulator.base(kind) + ("" if kind in _ROOTED else "/v1")
    endpoint = Endpoint(base, MODELS[kind], "key:secret", _OPTIONS)
    request = WIRES[kind].request(prompt, endpoint, stream=stream)
    return await simulator.client.post(request.url, content=request.body, headers=dict(request.headers))


def read(kind: str, answer: httpx.Response, *, stream: bool) -> Completion:
    """Returns the whole answer, whichever way it came."""
    headers = {key.lower(): value for key, value in answer.headers.items()}
    if not stream:
        return WIRES[kind].completion(200, headers, answer.content)
    decoder = WIRES[kind].decoder()
    seen = told([*decoder.feed(answer.content), *decoder.close()])
    calls = tuple(ToolCall(*call) for call in seen.tools)
    return Completion(seen.text, seen.end.finish_reason, seen.end.usage, calls, seen.end.response_model)


async def ask(simulator: Simulator, kind: str, prompt: Prompt, *, stream: bool) -> Completion:
    """Returns the answer, which must be one. Raises AssertionError with the provider's words."""
    answer = await send(simulator, kind, prompt, stream=stream)
    assert answer.status_code == 200, answer.text
    return read(kind, answer, stream=stream)
