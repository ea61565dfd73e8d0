"""Every conversation on every wire against the rules of the simulator's strict mode."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from dev.simulator.strict.judge import judge
from dev.simulator.strict.models import most_output
from services.router.planning.constraints import capabilities_needed
from services.router.providers.wires.wire import Endpoint
from services.router.request.generation import Prompt
from tests.unit.router.providers.wires.conversations import CONVERSATIONS
from tests.unit.router.providers.wires.refused import REFUSED
from tests.unit.router.providers.wires.samples import WIRES


@dataclass(frozen=True, slots=True)
class Target:
    """A model of a vendor: the kind of provider in the catalog, the table that judges it, and the capabilities that a
    catalog does not promise of it, so that no request that needs them comes to it."""

    kind: str
    model: str
    table: tuple[str, str]
    lacks: frozenset[str] = frozenset()


TARGETS = {
    f"{target.kind}/{target.model}": target
    for target in (
        Target("openai", "gpt-4o", ("openai_chat", "openai")),
        Target("openai", "gpt-5-mini", ("openai_chat", "openai"), frozenset({"prefill"})),
        Target("openai_responses", "gpt-4o", ("openai_responses", ""), frozenset({"prefill"})),
        Target("openai_responses", "gpt-5-mini", ("openai_responses", ""), frozenset({"prefill"})),
        Target("azure_openai", "gpt-4o", ("azure_openai", "")),
        Target("anthropic", "claude-haiku-4-5", ("anthropic", "")),
        Target("anthropic", "claude-opus-4-6", ("anthropic", ""), frozenset({"prefill"})),
        Target("anthropic", "claude-opus-4-7", ("anthropic", ""), frozenset({"prefill"})),
        Target("bedrock", "us.anthropic.claude-opus-4-7", ("bedrock", ""), frozenset({"prefill"})),
        Target("gemini", "gemini-2.5-flash", ("gemini", "")),
        Target("gemini", "gemini-2.5-pro", ("gemini", "")),
        Target("gemini", "gemini-3-pro-preview", ("gemini", "")),
        Target("vertex", "gemini-2.5-flash", ("gemini", "")),
        Target("bedrock", "anthropic.claude-sonnet-4-5-20250929-v1:0", ("bedrock", "")),
        Target("bedrock", "amazon.nova-pro-v1:0", ("bedrock", ""), frozenset({"json_schema"})),
        Target("bedrock_invoke", "anthropic.claude-sonnet-4-5-20250929-v1:0", ("bedrock_invoke", "")),
        Target("cohere", "command-a-03-2025", ("cohere", ""), frozenset({"prefill"})),
        Target("mistral", "mistral-large-latest", ("openai_chat", "mistral")),
        Target("groq", "llama-3.3-70b-versatile", ("openai_chat", "groq"), frozenset({"json_schema"})),
        Target("deepseek", "deepseek-chat", ("openai_chat", "deepseek"), frozenset({"json_schema"})),
        Target("deepseek", "deepseek-v4-flash", ("openai_chat", "deepseek"), frozenset({"json_schema"})),
        Target("xai", "grok-4", ("openai_chat", "xai")),
        Target("cerebras", "gpt-oss-120b", ("openai_chat", "cerebras")),
        Target("perplexity", "sonar", ("openai_chat", "perplexity"), frozenset({"tools", "prefill"})),
        Target("openai_compatible", "llama-3.1-8b-instruct", ("openai_chat", "")),
        Target("ollama_native", "llama3.1", ("ollama", "")),
    )
}
#: Kinds of providers whose models here see no images, or read no documents.
_UNSEEN = {
    **dict.fromkeys(("deepseek", "groq", "cerebras", "perplexity"), frozenset({"image", "pdf"})),
    **dict.fromkeys(("cohere", "xai", "openai_compatible", "ollama_native"), frozenset({"pdf"})),
}
_OPTIONS = {"api_version": "2024-10-21", "project": "p", "region": "us-east-1"}


def refusal(target: Target, prompt: Prompt) -> str:
    """Returns the rule that the wire's request breaks; empty: none, or the router sends no such request there."""
    lacks = target.lacks | _UNSEEN.get(target.kind, frozenset())
    needed = capabilities_needed(prompt, stream=False) | ({"prefill"} if prompt.prefill else set())
    if needed & lacks:
        return ""
    endpoint = Endpoint(
        "https://x.test/v1",
        target.model,
        "key:secret",
        _OPTIONS,
        max_output_tokens=most_output(target.model),
        prefill="prefill" not in target.lacks,
    )
    request = WIRES[target.kind].request(prompt, endpoint, stream=False)
    found = judge(*target.table, target.model, json.loads(request.body))
    return found.rule if found else ""


@pytest.mark.parametrize("name", TARGETS)
def test_a_vendor_refuses_nothing_but_what_is_known(name: str) -> None:
    """Each conversation as a wire sends it is taken by its vendor, or stands in the list of those still to mend,
    which a mended one has left."""
    refused = {
        conversation: rule
        for conversation, prompt in CONVERSATIONS.items()
        if (rule := refusal(TARGETS[name], prompt))
    }
    assert refused == REFUSED.get(name, {})
