"""JSON answers as a vendor can be asked for them: by a field, by a schema that it knows, or in words."""

from __future__ import annotations

import re

from msgspec.structs import replace

from libs.conversation import Message, Role
from services.router.providers.wires.fields import encode
from services.router.providers.wires.schemas import schema
from services.router.providers.wires.validity.rules import Rules
from services.router.providers.wires.validity.subset import fit
from services.router.request.generation import Prompt

#: The instruction for any JSON object where a vendor has no field for it, or wants the word said.
JSON_ONLY = "Answer with a single JSON object and nothing else."
_WORD = re.compile("json", re.IGNORECASE)


def shape_answer(prompt: Prompt, rules: Rules) -> Prompt:
    """Returns the prompt with the form of its answer as the vendor takes it. Raises ProviderFailure(INVALID_REQUEST)
    for a schema that is not JSON."""
    wanted = prompt.response_format
    if wanted is None:
        return prompt
    if not wanted.schema_json:
        if prompt.tools and not rules.json_with_tools:
            return _ask(replace(prompt, response_format=None), JSON_ONLY)
        # An answer that is begun does not count: it may become a prefill, and is another one in the next turn.
        begun = bool(prompt.messages) and prompt.messages[-1].role is Role.ASSISTANT
        asked = prompt.messages[:-1] if begun else prompt.messages
        said = not rules.json_word or any(map(_says_word, asked))
        return prompt if said else _ask(prompt, JSON_ONLY)
    in_words = (
        f"Answer with one JSON object that fits this JSON Schema, and nothing else:\n{wanted.schema_json}"
    )
    if prompt.tools and not rules.json_with_tools:
        return _ask(replace(prompt, response_format=None), in_words)
    name = re.sub(r"[^a-zA-Z0-9_-]", "_", wanted.schema_name)
    if name != wanted.schema_name:
        prompt = replace(prompt, response_format=replace(wanted, schema_name=name))
    if rules.subset is None:
        return prompt
    fitted = fit(schema(wanted.schema_json), rules.subset)
    if fitted is None:
        return _ask(replace(prompt, response_format=None), in_words)
    text = encode(fitted).decode()
    return replace(prompt, response_format=replace(wanted, schema_json=text, schema_name=name))


def _ask(prompt: Prompt, words: str) -> Prompt:
    return replace(prompt, messages=(Message(Role.SYSTEM, words), *prompt.messages))


def _says_word(message: Message) -> bool:
    # At the responses API results are no messages.
    return message.role is not Role.TOOL and _WORD.search(message.written) is not None
