"""Finds the virtual provider, the wire and the endpoint of a path."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote

from dev.simulator import wires
from dev.simulator.wires.base import Wire

_GEMINI = re.compile(r"models/([^/]+:(?:streamG|g)enerateContent)$")
_BEDROCK = re.compile(r"(?:^|/)model/([^/]+)/(converse(?:-stream)?|invoke(?:-with-response-stream)?)$")
_AZURE = re.compile(r"(?:^|/)deployments/([^/]+)/chat/completions$")
_MODELS = re.compile(r"(?:^|/)(?:(?:foundation-)?models(?:/([^/]+))?|api/tags)$")
_SUFFIXES: tuple[tuple[str, Wire], ...] = (
    ("chat/completions", wires.OPENAI_CHAT),
    ("responses", wires.OPENAI_RESPONSES),
    ("messages", wires.ANTHROPIC),
    ("v2/chat", wires.COHERE),
    ("api/chat", wires.OLLAMA),
)


@dataclass(frozen=True, slots=True)
class Route:
    """The endpoint of a path. `wire` is None for a list of models whose wire only the request's headers tell. `model`
    is the one in the path, with the verb where the path has one; of a list, the one asked for."""

    provider: str
    operation: str
    wire: Wire | None
    model: str = ""


@lru_cache(maxsize=4096)
def find(method: str, path: str) -> Route | None:
    """Returns the route; None: there is no such endpoint. `path` is percent-encoded and has no query."""
    name, _, rest = path.lstrip("/").partition("/")
    name = unquote(name)
    if method == "POST":
        found = _AZURE.search(rest)
        if found:
            return Route(name, "generate", wires.AZURE, unquote(found[1]))
        for suffix, wire in _SUFFIXES:
            if rest == suffix or rest.endswith("/" + suffix):
                return Route(name, "generate", wire)
        found = _GEMINI.search(rest)
        if found:
            return Route(name, "generate", wires.GEMINI, unquote(found[1]))
        found = _BEDROCK.search(rest)
        if found:
            bedrock: Wire = wires.BEDROCK_INVOKE if found[2].startswith("invoke") else wires.BEDROCK
            return Route(name, "generate", bedrock, f"{unquote(found[1])}/{found[2]}")
    elif method == "GET":
        found = _MODELS.search(rest)
        if found:
            wire_of_list: Wire | None = wires.GEMINI if rest.startswith("v1beta") else None
            if "foundation-models" in rest:
                wire_of_list = wires.BEDROCK
            elif rest.endswith("api/tags"):
                wire_of_list = wires.OLLAMA
            return Route(name, "models", wire_of_list, unquote(found[1] or ""))
    return None
