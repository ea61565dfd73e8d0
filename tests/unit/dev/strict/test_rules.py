"""Every strict rule refuses one request and takes another beside it."""

from __future__ import annotations

import re
from collections.abc import Mapping

import pytest

from dev.simulator.strict.judge import TABLES, judge, vendor_of
from dev.simulator.strict.rule import Rule, Sent, check
from tests.unit.dev.strict import (
    anthropic_examples,
    bedrock_examples,
    cohere_examples,
    gemini_examples,
    ollama_examples,
    openai_examples,
    others_examples,
    responses_examples,
)
from tests.unit.dev.strict.example import Example

EXAMPLES: Mapping[tuple[str, str], Mapping[str, Example]] = {
    ("openai_chat", "openai"): openai_examples.EXAMPLES,
    ("openai_chat", "mistral"): openai_examples.MISTRAL,
    ("openai_chat", "groq"): openai_examples.GROQ,
    ("openai_chat", "deepseek"): openai_examples.DEEPSEEK,
    ("openai_chat", "xai"): others_examples.XAI,
    ("openai_chat", "cerebras"): others_examples.CEREBRAS,
    ("openai_chat", "perplexity"): others_examples.PERPLEXITY,
    ("openai_chat", ""): openai_examples.COMMON,
    ("azure_openai", ""): openai_examples.EXAMPLES,
    ("openai_responses", ""): responses_examples.EXAMPLES,
    ("anthropic", ""): anthropic_examples.EXAMPLES,
    ("bedrock", ""): bedrock_examples.EXAMPLES,
    ("bedrock_invoke", ""): anthropic_examples.EXAMPLES,
    ("gemini", ""): gemini_examples.EXAMPLES,
    ("cohere", ""): cohere_examples.EXAMPLES,
    ("ollama", ""): ollama_examples.EXAMPLES,
}


EVERY_RULE = [(table, rule) for table, rules in TABLES.items() for rule in rules]


@pytest.mark.parametrize("table", TABLES)
def test_every_rule_has_an_example_and_a_name_of_its_own(table: tuple[str, str]) -> None:
    """A rule without examples, or an example of no rule, fails here."""
    names = [rule.name for rule in TABLES[table]]
    assert len(set(names)) == len(names)
    assert set(names) == set(EXAMPLES[table])


@pytest.mark.parametrize(
    ("table", "rule"), EVERY_RULE, ids=[f"{'-'.join(table)}: {rule.name}" for table, rule in EVERY_RULE]
)
def test_a_rule_refuses_one_request_and_takes_another(table: tuple[str, str], rule: Rule) -> None:
    """The refused body breaks this rule before any other, and says why in full; the accepted one breaks none."""
    example = EXAMPLES[table][rule.name]
    refusal = judge(*table, example.model, example.refused)
    assert refusal is not None
    assert refusal.rule == rule.name
    assert refusal.message
    assert not re.search(r"[{][a-z_]+[}]", refusal.message)
    model = example.model if example.other_model is None else example.other_model
    assert judge(*table, model, example.accepted) is None


@pytest.mark.parametrize(("table", "rule"), EVERY_RULE)
def test_a_rule_names_its_source(table: tuple[str, str], rule: Rule) -> None:
    """Each comes from a page, and is refused as a mistake of the client's."""
    assert rule.source.startswith("https://")
    assert 400 <= rule.status < 500


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize(
    "nonsense", [{}, {"messages": 7, "input": 7, "contents": "x"}, {"messages": [7, None, {"content": [3]}]}]
)
def test_no_rule_fails_on_nonsense(table: tuple[str, str], nonsense: Mapping[str, object]) -> None:
    """A body of any shape is judged without an exception."""
    wild = {
        **nonsense,
        "tools": [{"function": 3, "input_schema": []}, 4],
        "toolConfig": {"tools": [{"toolSpec": 3}]},
        "generationConfig": [],
        "tool_choice": 5,
        "stop": 5,
        "response_format": "json",
        "input": [{"type": "message", "content": [None]}, 3],
        "contents": [{"parts": [{"functionCall": 4, "text": 5}]}, 6],
    }
    for rule in TABLES[table]:
        check((rule,), Sent(wild, "m", table[1]))


@pytest.mark.parametrize(
    ("provider", "model", "vendor"),
    [
        ("openai", "m", "openai"),
        ("backup", "gpt-4o", "openai"),
        ("mistral-eu", "gpt-4o", "mistral"),
        ("openai_compatible", "gpt-4o", ""),
        ("local", "llama-3.1-8b-instruct", ""),
        ("local", "deepseek-chat", "deepseek"),
        ("local", "grok-4", "xai"),
        ("perplexity", "sonar", "perplexity"),
    ],
)
def test_a_vendor_is_told_by_the_provider_and_then_by_the_model(
    provider: str, model: str, vendor: str
) -> None:
    """A virtual provider's name counts before the model's."""
    assert vendor_of(provider, model) == vendor
