"""Options of a prompt that a wire has no form for."""

from __future__ import annotations

from dataclasses import replace as with_fields

import pytest
from msgspec.structs import replace

from libs.conversation import ReasoningEffort, ReasoningSummary
from services.router.providers.wires.wire import Endpoint, HttpRequest
from services.router.request.generation import Prompt
from tests.unit.router.providers.wires.conversations import WEATHER, called, prompt
from tests.unit.router.providers.wires.samples import WIRES
from tests.unit.router.providers.wires.test_strict import TARGETS

ENDPOINT = Endpoint("https://x.test/v1", "", "key:secret", {"project": "p", "region": "us-east-1"})
OPTIONS: dict[str, object] = {
    "temperature": 0.5,
    "top_p": 0.5,
    "seed": 7,
    "presence_penalty": 0.5,
    "frequency_penalty": -0.5,
    "reasoning_effort": ReasoningEffort.HIGH,
    "reasoning_summary": ReasoningSummary.DETAILED,
}
PROMPTS = {
    "alone": prompt(),
    "beside a temperature": prompt(temperature=0.7),
    "beside an effort": prompt(reasoning_effort=ReasoningEffort.LOW),
    "little output": prompt(max_output_tokens=100),
    "a forced tool": called(tool_choice="required", reasoning_effort=ReasoningEffort.LOW),
}


def send(name: str, asked: Prompt, *, reasons: bool) -> HttpRequest:
    target = TARGETS[name]
    endpoint = with_fields(ENDPOINT, model=target.model, reasons=reasons)
    return WIRES[target.kind].request(asked, endpoint, stream=False)


@pytest.mark.parametrize("reasons", [False, True], ids=["", "reasons"])
@pytest.mark.parametrize("name", TARGETS)
def test_an_option_is_in_the_request_or_named(name: str, reasons: bool) -> None:
    """One or the other, never neither, whatever stands beside it; and where it is not set it is not named."""
    silent: list[str] = []
    for situation, asked in PROMPTS.items():
        for option, value in OPTIONS.items():
            without = send(name, replace(asked, **{option: None}), reasons=reasons)
            request = send(name, replace(asked, **{option: value}), reasons=reasons)
            assert option not in without.ignored
            said = request.body != without.body
            # Some show what they think wherever they think.
            thinks = b"thinking" in request.body and b"disabled" not in request.body
            said |= option == "reasoning_summary" and thinks
            if said is (option in request.ignored):
                silent.append(f"{option} {situation}")
    assert silent == []


def test_a_choice_of_tools_that_cannot_be_told_is_made_by_what_is_on_offer() -> None:
    """At Ollama: none for none, the one for one, and what is left of it is named."""
    for choice, tools, ignored in (
        ("none", 0, ()),
        ("auto", 2, ()),
        ("required", 2, ("tool_choice",)),
        ("news", 1, ("tool_choice",)),
    ):
        asked = called(tools=(WEATHER, replace(WEATHER, name="news")), tool_choice=choice)
        request = WIRES["ollama_native"].request(asked, ENDPOINT, stream=False)
        assert request.body.count(b'"function":{') == tools
        assert request.ignored == ignored
