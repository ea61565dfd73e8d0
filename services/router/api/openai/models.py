"""The list of models as OpenAI shows it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from libs.catalog.model import Model
from services.router.api.openai.routing import ALIAS, AUTO

_OWNER = "pointsman"


def list_entries(models: Iterable[Model], content_types: Iterable[str]) -> list[dict[str, Any]]:
    """Returns every name that `model` may be, but for a model's name without its provider: `auto`, content types,
    models. `created` is 0: the catalog keeps no dates."""
    names = [AUTO, *(ALIAS + name for name in content_types)]
    return [_entry(name, _OWNER) for name in names] + [
        _entry(model.id, model.provider)
        | {
            "context_window": model.context_window,
            "max_output_tokens": model.max_output_tokens,
            "capabilities": sorted(model.capabilities),
        }
        for model in models
    ]


def find_entry(name: str, listed: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Returns the entry of that id; else the first model of that name at any provider; None: neither."""
    for entry in listed:
        if entry["id"] == name:
            return entry
    for entry in listed:
        if entry["owned_by"] != _OWNER and entry["id"].partition("/")[2] == name:
            return {**entry, "id": name}
    return None


def _entry(name: str, owner: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": owner}
