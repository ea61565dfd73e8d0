"""Reads vendors' lists of models, and compares the catalog with one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import msgspec

from libs.catalog.model import Model
from libs.connectivity import ModelFinding, ModelState


@dataclass(frozen=True, slots=True)
class ListedModel:
    """A model as its vendor lists it. `retiring`: called deprecated or not active; `ends`: the end that is named for
    it, epoch seconds, None: none."""

    name: str
    retiring: bool = False
    ends: float | None = None


def read_list(body: bytes) -> tuple[ListedModel, ...] | None:
    """Returns the models of a vendor's list; None where it is none. An entry without a name is left out."""
    document = _decode(body)
    if isinstance(document, dict):
        document = document.get("data", document.get("models"))
    if not isinstance(document, list):
        return None
    return tuple(found for entry in document if (found := _read(entry)) is not None)


def read_model(body: bytes) -> ListedModel | None:
    """Returns the one model of a vendor's answer; None where it is none."""
    return _read(_decode(body))


def _decode(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _read(entry: Any) -> ListedModel | None:
    if not isinstance(entry, dict):
        return None
    # OpenAI, Anthropic and Mistral have an `id`; Gemini, Cohere and Ollama a `name`.
    name = entry.get("id", entry.get("name"))
    if not isinstance(name, str):
        return None
    ends = _instant(entry.get("deprecation"))
    # Mistral's `deprecation` is an instant, Cohere's `is_deprecated` and Groq's `active` are flags.
    retiring = ends is not None or entry.get("is_deprecated") is True or entry.get("active") is False
    return ListedModel(name.removeprefix("models/"), retiring, ends)


def _instant(value: Any) -> float | None:
    if not isinstance(value, str):
        return None
    try:
        moment = datetime.fromisoformat(value)
        seconds = (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
    return seconds if math.isfinite(seconds) else None


def find_listed(listed: Sequence[ListedModel], models: Sequence[Model]) -> dict[str, ListedModel]:
    """Returns the listed model of each of the catalog's, by its name in requests; without those that are not listed.
    Ollama lists a name without a tag under `:latest`; OpenRouter and Hugging Face serve a listed model under its name
    with a variant after a colon too."""
    names = {model.name: model for model in listed}
    found: dict[str, ListedModel] = {}
    for model in models:
        wire_name = model.wire_name.removeprefix("models/")
        for name in (wire_name, f"{wire_name}:latest", wire_name.rpartition(":")[0]):
            if name in names:
                found[model.wire_name] = names[name]
                break
    return found


def findings(models: Sequence[Model], found: Mapping[str, ListedModel]) -> tuple[ModelFinding, ...]:
    """Returns the models of the catalog that are missing or retiring, in the catalog's order. `found`: those that
    the vendor has, by the name in requests."""
    named = []
    for model in models:
        listed = found.get(model.wire_name)
        if listed is None:
            named.append(ModelFinding(model.name, model.wire_name, ModelState.MISSING))
        elif listed.retiring:
            named.append(ModelFinding(model.name, model.wire_name, ModelState.RETIRING, listed.ends))
    return tuple(named)
