"""The recorded exchanges, and what they say, read without any of the project's code.

The extraction here is deliberately its own: plain `json`, one small function per answer format, no streaming parser.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[3].parent / "shared" / "data" / "wire"

Row = dict[str, Any]

#: Endpoints that do not generate text, by the end of their path.
OTHER_ENDPOINTS = re.compile(
    r"/(embeddings|embed|rerank|count_tokens|input_tokens)$|:(batchEmbedContents|embedContent|countTokens)$"
    r"|/model/[^/]*(embed)[^/]*/invoke$"
)
#: An embedding model behind an inference profile, which its address does not show.
OTHER_ROWS = {"b8057dfb5139eb44"}
#: A base64 body, or text of one, of which the recording keeps the beginning only.
CUT = re.compile(r"<\d+ (base64 )?chars cut>")

_KINDS = {
    "anthropic": "anthropic",
    "azure_ai": "azure_ai",
    "azure_openai": "azure_openai",
    "cerebras": "cerebras",
    "cohere": "cohere",
    "deepseek": "deepseek",
    "fireworks": "fireworks",
    "gemini": "gemini",
    "groq": "groq",
    "huggingface": "huggingface",
    "mistral": "mistral",
    "openai": "openai",
    "openrouter": "openrouter",
    "perplexity": "perplexity",
    "snowflake": "snowflake",
    "together": "together",
    "vertex": "vertex",
    "writer": "writer",
    "xai": "xai",
    "zai": "zai",
}


@dataclass(frozen=True, slots=True)
class Said:
    """The content of an exchange. `tools`: (name, arguments) of each call. `finish`: the provider's own word, None
    where it gave none.
    it gave none."""

    text: str
    tools: tuple[tuple[str, Any], ...]
    finish: str | int | None


@cache
def rows() -> tuple[Row, ...]:
    """Every recorded exchange. Skips the test where the folder is absent."""
    path = FOLDER / "exchanges.jsonl.gz"
    if not path.exists():
        pytest.skip("../shared/data/wire/exchanges.jsonl.gz is not there")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return tuple(json.loads(line) for line in file)


@cache
def oracle() -> dict[str, Row]:
    """Usage and cost by the row's id."""
    with gzip.open(FOLDER / "usage_cost_oracle.jsonl.gz", "rt", encoding="utf-8") as file:
        return {row["id"]: row for row in map(json.loads, file)}


def generates_text(row: Row) -> bool:
    """Returns True if the endpoint generates text."""
    endpoint = row.get("endpoint", "").partition("#")[0]
    return row["id"] not in OTHER_ROWS and not OTHER_ENDPOINTS.search(endpoint)


def is_cut(row: Row) -> bool:
    """Returns True if the recording holds the answer's beginning only."""
    body = row.get("response_body")
    return isinstance(body, str) and CUT.search(body) is not None


def kind_of(row: Row) -> str:
    """The kind of provider that speaks this exchange."""
    provider, endpoint = row["provider"], row.get("endpoint", "")
    if endpoint.endswith("/responses"):
        return "azure_responses" if provider.startswith("azure") else "openai_responses"
    if provider == "bedrock":
        return "bedrock_invoke" if "/invoke" in endpoint else "bedrock"
    if provider == "ollama":
        return "ollama_native" if "/api/" in endpoint else "ollama"
    return _KINDS.get(provider, "openai_compatible")


def headers_of(row: Row) -> dict[str, str]:
    """Response headers, names in lower case."""
    return {name.lower(): value for name, value in (row.get("response_headers") or {}).items()}


def body_of(row: Row) -> bytes:
    """The answer's bytes."""
    body = row.get("response_body", row.get("body"))
    if body is None:
        return (row.get("sse") or "").encode()
    if not isinstance(body, str):
        return json.dumps(body).encode()
    if body.startswith("<binary base64>"):
        return base64.b64decode(body.removeprefix("<binary base64>"))
    if is_cut(row):
        start = body.partition("...<")[0]
        return base64.b64decode(start[: len(start) // 4 * 4])
    if re.fullmatch(r"[A-Za-z0-9+/]+=*", body):
        return base64.b64decode(body)
    return body.encode()


def said(row: Row) -> Said:
    """Returns the content of a successful exchange."""
    kind, body = kind_of(row), body_of(row)
    events = list(_events(kind, body)) if row["stream"] else [json.loads(body)]
    if kind in ("gemini", "vertex"):
        return _gemini(events)
    if kind.endswith("_responses"):
        return _responses(events)
    if kind == "anthropic":
        return _anthropic(events)
    if kind == "cohere":
        return _cohere(events)
    if kind == "ollama_native":
        return _ollama(events)
    if kind == "bedrock":
        return _converse(events)
    if kind == "bedrock_invoke":
        return _invoke(events)
    return _chat(events)


def _events(kind: str, body: bytes) -> Iterator[Any]:
    if kind.startswith("bedrock"):
        yield from _frames(body)
        return
    for line in re.split(r"\r\n|\n|\r", body.decode()):
        text = line.removeprefix("data:").strip()
        if text.startswith("{"):
            yield json.loads(text)


def _frames(body: bytes) -> Iterator[Any]:
    while body:
        total, headers = struct.unpack_from(">II", body)
        name = re.search(rb":event-type\x07\x00.([A-Za-z]+)", body[12 : 12 + headers])
        payload = json.loads(body[12 + headers : total - 4])
        body = body[total:]
        assert name is not None
        yield (
            json.loads(base64.b64decode(payload["bytes"]))
            if "bytes" in payload
            else {name[1].decode(): payload}
        )


def _chat(events: list[Any]) -> Said:
    text, finish = "", None
    calls: dict[Any, list[str]] = {}
    for event in events:
        for choice in event.get("choices") or []:
            part = choice.get("delta") or choice.get("message") or {}
            content = part.get("content") or part.get("refusal") or choice.get("text") or ""
            if isinstance(content, list):
                content = "".join(block["text"] for block in content if block["type"] == "text")
            text += content
            for place, call in enumerate(part.get("tool_calls") or []):
                index = call.get("index")
                function = call["function"]
                entry = calls.setdefault(place if index is None else index, ["", ""])
                entry[0] = entry[0] or function.get("name") or ""
                entry[1] += function.get("arguments") or ""
            finish = choice.get("finish_reason") or finish
    return Said(text, tuple((name, json.loads(args or "{}")) for name, args in calls.values()), finish)


def _responses(events: list[Any]) -> Said:
    last = events[-1].get("response", events[-1])
    output = last["output"] or [e["item"] for e in events if e.get("type") == "response.output_item.done"]
    text = "".join(part["text"] for item in output if item["type"] == "message" for part in item["content"])
    tools = tuple((i["name"], json.loads(i["arguments"])) for i in output if i["type"] == "function_call")
    return Said(text, tools, last["status"])


def _anthropic(events: list[Any]) -> Said:
    if len(events) == 1:
        blocks = dict(enumerate(events[0]["content"]))
        finish = events[0]["stop_reason"]
    else:
        blocks, finish = {}, None
        for event in events:
            if event["type"] == "content_block_start":
                blocks[event["index"]] = {"json": "", **event["content_block"]}
            elif event["type"] == "content_block_delta":
                delta, block = event["delta"], blocks[event["index"]]
                block["text"] = block.get("text", "") + delta.get("text", "")
                block["json"] += delta.get("partial_json", "")
            elif event["type"] == "message_delta":
                finish = event["delta"]["stop_reason"]
    text = "".join(block["text"] for block in blocks.values() if block["type"] == "text")
    calls = [block for block in blocks.values() if block["type"] == "tool_use"]
    return Said(
        text,
        tuple((c["name"], json.loads(c["json"]) if c.get("json") else c["input"]) for c in calls),
        finish,
    )


def _gemini(events: list[Any]) -> Said:
    candidates = [event["candidates"][0] for event in events if event.get("candidates")]
    parts = [part for one in candidates for part in (one.get("content") or {}).get("parts") or []]
    text = "".join(part["text"] for part in parts if "text" in part and not part.get("thought"))
    tools = tuple(
        (p["functionCall"]["name"], p["functionCall"].get("args", {})) for p in parts if "functionCall" in p
    )
    return Said(
        text, tools, next((c["finishReason"] for c in reversed(candidates) if "finishReason" in c), None)
    )


def _cohere(events: list[Any]) -> Said:
    last = events[-1]
    if "event_type" in last:
        return Said("".join(e.get("text", "") for e in events), (), last["finish_reason"])
    if "text" in last:
        return Said(last["text"], (), last["finish_reason"])
    if "message" in last:
        message = last["message"]
        tools = [call["function"] for call in message.get("tool_calls") or []]
        text = "".join(part["text"] for part in message.get("content") or [] if part["type"] == "text")
        return Said(
            text, tuple((t["name"], json.loads(t["arguments"])) for t in tools), last["finish_reason"]
        )
    text = "".join(e["delta"]["message"]["content"]["text"] for e in events if e["type"] == "content-delta")
    finish = next(e["delta"]["finish_reason"] for e in events if e["type"] == "message-end")
    return Said(text, (), finish)


def _ollama(events: list[Any]) -> Said:
    calls = [call["function"] for event in events for call in event["message"].get("tool_calls") or []]
    text = "".join(event["message"]["content"] for event in events)
    return Said(
        text, tuple((c["name"], c["arguments"]) for c in calls), events[-1].get("done_reason", "stop")
    )


def _converse(events: list[Any]) -> Said:
    if "output" in events[0]:
        blocks = events[0]["output"]["message"]["content"]
        tools = tuple((b["toolUse"]["name"], b["toolUse"]["input"]) for b in blocks if "toolUse" in b)
        return Said("".join(b.get("text", "") for b in blocks), tools, events[0]["stopReason"])
    text, finish = "", None
    calls: dict[int, list[str]] = {}
    for event in events:
        for name, value in event.items():
            if name == "contentBlockDelta":
                text += value["delta"].get("text", "")
                if value["contentBlockIndex"] in calls:
                    calls[value["contentBlockIndex"]][1] += value["delta"].get("toolUse", {}).get("input", "")
            elif name == "contentBlockStart" and "toolUse" in value["start"]:
                calls[value["contentBlockIndex"]] = [value["start"]["toolUse"]["name"], ""]
            elif name == "messageStop":
                finish = value["stopReason"]
    return Said(text, tuple((name, json.loads(args or "{}")) for name, args in calls.values()), finish)


def _invoke(events: list[Any]) -> Said:
    first = events[0]
    if first.get("type") in ("message", "message_start"):
        return _anthropic(events)
    if "output" in first or "messageStart" in first:
        return _converse(events)
    blocked = any(event.get("amazon-bedrock-guardrailAction") == "INTERVENED" for event in events)
    parts = [event["results"][0] if "results" in event else event for event in events]
    text = "".join(part.get("outputText", part.get("generation", part.get("text", ""))) for part in parts)
    reasons = [
        part.get(name) for part in parts for name in ("completionReason", "stop_reason", "finish_reason")
    ]
    return Said(text, (), "guardrail_intervened" if blocked else next(filter(None, reasons)))
