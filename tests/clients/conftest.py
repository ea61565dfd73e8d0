"""A real stack with the provider simulator, and the door that OpenAI's clients are pointed at.

These tests run in an environment of their own (`.venv-clients`), which holds the clients and nothing of the project:
the stack is another process, of the project's environment.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).resolve().parents[2]
#: The project's own interpreter; it takes no part in these tests but to run the stack.
PYTHON = os.environ.get("POINTSMAN_STACK_PYTHON", str(ROOT / ".venv/bin/python"))
START_SECONDS = 60.0
STOP_SECONDS = 15.0
#: The tenant's.
KEY = "clients-key"
#: One model for each of three wires, and one of a provider that answers as a test says.
MODELS = ("openai/gpt-4.1-mini", "anthropic/claude-haiku-4-5", "gemini/gemini-2.5-flash")
ODD = "odd/gpt-4o-mini"
#: Of providers that tests may break for good. LlamaIndex calls only models that it knows.
BROKEN = {
    "openai": "broken-openai/m",
    "openai, cut": "broken-stream/m",
    "langchain": "broken-langchain/m",
    "llamaindex": "broken-llamaindex/gpt-4.1-nano",
    "instructor": "broken-instructor/m",
    "pydanticai": "broken-pydanticai/m",
}
_COMPATIBLE = [model.partition("/")[0] for model in (ODD, *BROKEN.values())]
_MODEL = {
    "context_window": 200_000,
    "max_output_tokens": 32_000,
    "capabilities": ["streaming", "system", "json", "json_schema", "tools", "seed", "stop"],
    "price": {"input": 1, "output": 2},
}


def provider(name: str, version: str = "/v1", **more: str) -> dict[str, str]:
    """A virtual provider of the simulator, which asks for no key."""
    return {
        "base_url": f"${{POINTSMAN_SIMULATOR_URL:-http://127.0.0.1:7790}}/{name}{version}",
        "api_key_env": "",
        **more,
    }


#: JSON is YAML.
CATALOG = {
    "version": 1,
    "domain": "clients",
    "providers": {
        "openai": provider("openai"),
        "anthropic": provider("anthropic", version="") | {"api_key_file": "simulator.key"},
        "gemini": provider("gemini", version=""),
        **{name: provider(name, kind="openai_compatible") for name in _COMPATIBLE},
    },
    "models": dict.fromkeys((*MODELS, ODD, *BROKEN.values()), _MODEL),
    "policies": {"default": {"tiers": [[MODELS[0]]]}},
    "default_content_type": "general",
    "content_types": {"general": {"max_output_tokens": 200}},
    "tenants": {"demo": {"key_sha256": [hashlib.sha256(KEY.encode()).hexdigest()]}},
}


@dataclass(frozen=True, slots=True)
class Door:
    """A running stack's HTTP door, a tenant's key, and the simulator behind it. `sent`: requests that `http` made."""

    url: str
    key: str
    simulator: str
    http: httpx.AsyncClient
    sent: list[httpx.Request] = field(default_factory=list)

    async def set(self, provider: str, **behaviour: Any) -> None:
        """Replaces a virtual provider's behaviour."""
        async with httpx.AsyncClient(trust_env=False) as http:
            answer = await http.put(f"{self.simulator}/_control/{provider}", json=behaviour)
        assert answer.status_code == 200, answer.text

    async def says(self, *calls: tuple[str, str, str], stream: bool) -> None:
        """Lets the odd provider call tools (id, name, arguments) once, in the very shape of OpenAI's; from then on it
        answers with text."""
        body = streamed_calls(calls) if stream else whole_calls(calls)
        kind = "text/event-stream" if stream else "application/json"
        raw = {"kind": "raw", "content_type": kind, "body": [{"text": body}], "when": {"first": 1}}
        await self.set("odd", faults=[raw])


USAGE = {"prompt_tokens": 21, "completion_tokens": 34, "total_tokens": 55}


def whole_calls(calls: tuple[tuple[str, str, str], ...]) -> str:
    """A chat completion that calls tools."""
    made = [
        {"id": i, "type": "function", "function": {"name": name, "arguments": arguments}}
        for i, name, arguments in calls
    ]
    message = {"role": "assistant", "content": None, "tool_calls": made}
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls"}
    return json.dumps({"object": "chat.completion", "model": "m", "choices": [choice], "usage": USAGE})


def streamed_calls(calls: tuple[tuple[str, str, str], ...]) -> str:
    """The same as chunks: each call begins with its id and name, and its arguments come seven letters at a time."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None}]
    for index, (i, name, arguments) in enumerate(calls):
        begin = {"index": index, "id": i, "type": "function", "function": {"name": name, "arguments": ""}}
        deltas.append({"tool_calls": [begin]})
        for at in range(0, len(arguments), 7):
            piece = {"index": index, "function": {"arguments": arguments[at : at + 7]}}
            deltas.append({"tool_calls": [piece]})
    common = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    chunks: list[dict[str, Any]] = [
        {**common, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas
    ]
    chunks.append({**common, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    chunks.append({**common, "choices": [], "usage": USAGE})
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + "data: [DONE]\n\n"


@pytest.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[dict[str, str]]:
    """The addresses of a stack on free ports, ended with this process however that ends."""
    data = tmp_path_factory.mktemp("clients")
    (data / "simulator.key").write_text("any")
    (data / "catalog.yaml").write_text(json.dumps(CATALOG))
    guard = (sys.executable, "-I", "-S", str(ROOT / "dev/engines/guard.py"), str(os.getpid()))
    arguments = ("--data", str(data / "stack"), "--port-base", "0", "--simulator")
    with (data / "up.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *(*guard, str(int(signal.SIGTERM)), "-", PYTHON, "-m", "dev", "up", *arguments),
            *("--catalog", str(data / "catalog.yaml")),
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "gen")])},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=asyncio.subprocess.STDOUT,
        )
    state = data / "stack" / "stack.json"
    try:
        async with asyncio.timeout(START_SECONDS):
            while not state.exists():
                assert process.returncode is None, (data / "up.log").read_text()
                await asyncio.sleep(0.05)
        yield json.loads(state.read_text())
    finally:
        if process.returncode is None:
            process.terminate()
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()


@pytest.fixture
async def door(stack: dict[str, str]) -> AsyncIterator[Door]:
    """The door, with providers that answer at once and as ever."""
    sent: list[httpx.Request] = []

    async def count(request: httpx.Request) -> None:
        sent.append(request)

    hooks = {"request": [count]}
    async with httpx.AsyncClient(trust_env=False, timeout=30, event_hooks=hooks) as http:
        url = f"http://{stack['router http']}/v1"
        found = Door(url, KEY, f"http://{stack['simulator']}", http, sent)
        for name in ("openai", "anthropic", "gemini", "odd"):
            await found.set(name)
        yield found
