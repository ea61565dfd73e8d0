"""Estimates of tokens, until a provider's own counts replace them."""

from __future__ import annotations

import math

from libs.conversation import Reasoning, Refusal, Text
from services.router.request.generation import Prompt


def estimate_input_tokens(prompt: Prompt) -> int:
    """Returns the tokens of the prompt's text, estimated as UTF-8 bytes / 4 plus 4 a message: four letters of
    English, a little over one Chinese character."""
    size = 0
    for message in prompt.messages:
        text = message.text
        size += len(text) if text.isascii() else len(text.encode())
        for part in message.parts:
            if isinstance(part, Text | Reasoning | Refusal):
                size += len(part.text.encode())
        for call in message.tool_calls:
            size += len(call.arguments_json)
    for tool in prompt.tools:
        size += len(tool.description) + len(tool.parameters_json)
    if prompt.response_format is not None:
        size += len(prompt.response_format.schema_json)
    return math.ceil(size / 4) + 4 * len(prompt.messages)


def estimate_text_tokens(text: str) -> int:
    """Returns an answer's tokens, estimated by the same rule."""
    return math.ceil(len(text.encode()) / 4)
