"""The router's two doors, asked alike: gRPC, and its HTTP door with OpenAI's official client.

answer = await edge.ask("Describe a mug", ["first/m", "second/m"], "request-1", stream=True)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import openai

from libs.client import Client, Restarted, Result, TextAssembler
from libs.errors import PointsmanError

#: The HTTP door's words for what the router says.
_CODES = {"content_filter": "CONTENT_REFUSED", "context_length_exceeded": "CONTEXT_TOO_LONG"}


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer that a caller got. `failed`: attempts that did not give the answer, `provider/model: class`."""

    text: str
    finish: str
    model: str
    attempts: int
    failed: tuple[str, ...]
    cost_micro_usd: int
    restarts: int = 0


class Refused(Exception):
    """The error that a caller got instead. `retry_after` is in seconds."""

    def __init__(self, reason: str, status: str, retry_after: float | None) -> None:
        super().__init__(f"{status}: {reason}")
        self.reason = reason
        self.status = status
        self.retry_after = retry_after


class Edge(Protocol):
    """A way in."""

    name: str

    async def ask(
        self, prompt: str, models: Sequence[str], request_id: str, *, stream: bool, timeout: float = 60.0
    ) -> Answer:
        """One answer. Raises Refused."""
        ...


class Grpc:
    """The router itself, with the project's client."""

    name = "grpc"

    def __init__(self, client: Client) -> None:
        self._client = client

    async def ask(
        self, prompt: str, models: Sequence[str], request_id: str, *, stream: bool, timeout: float = 60.0
    ) -> Answer:
        """See Edge.ask."""
        restarts = 0
        try:
            if stream:
                assembler = TextAssembler()
                events = self._client.stream(prompt, models=models, request_id=request_id, timeout=timeout)
                async for event in events:
                    assembler.feed(event)
                    restarts += isinstance(event, Restarted)
                assert assembler.result is not None
                result = assembler.result
            else:
                result = await self._client.generate(
                    prompt, models=models, request_id=request_id, timeout=timeout
                )
        except PointsmanError as error:
            raise Refused(error.reason, type(error).__name__, error.retry_after) from error
        return _answer(result, restarts)


def _answer(result: Result, restarts: int) -> Answer:
    return Answer(
        result.text,
        str(result.finish_reason),
        f"{result.selection.provider}/{result.selection.model}",
        len(result.attempts),
        tuple(f"{a.provider}/{a.model}: {a.error_class}" for a in result.attempts if a.error_class),
        result.cost_micro_usd,
        restarts,
    )


class Http:
    """The OpenAI-compatible edge, with the official client; its own retries are off."""

    name = "http"

    def __init__(self, client: openai.AsyncOpenAI) -> None:
        self._client = client

    async def ask(
        self, prompt: str, models: Sequence[str], request_id: str, *, stream: bool, timeout: float = 60.0
    ) -> Answer:
        """See Edge.ask."""
        asked: dict[str, Any] = {
            "model": models[0],
            "messages": [{"role": "user", "content": prompt}],
            "extra_body": {"fallbacks": list(models[1:])},
            "extra_headers": {"x-request-id": request_id, "x-pointsman-timeout": str(timeout)},
            "timeout": timeout + 5,
        }
        try:
            if not stream:
                whole = await self._client.chat.completions.create(**asked)
                choice = whole.choices[0]
                return _read(choice.message.content or "", str(choice.finish_reason), whole.model_extra)
            text, finish, account = "", "", None
            async for chunk in await self._client.chat.completions.create(**asked, stream=True):
                for part in chunk.choices:
                    text += part.delta.content or ""
                    finish = part.finish_reason or finish
                account = chunk.model_extra or account
            return _read(text, finish, account)
        except openai.APIStatusError as error:
            wait = error.response.headers.get("retry-after-ms")
            raise Refused(
                _reason(error.code), str(error.status_code), float(wait) / 1000 if wait else None
            ) from error
        except openai.APIError as error:
            # In the middle of a stream.
            raise Refused(_reason(error.code), "stream", None) from error


def _reason(code: str | None) -> str:
    return _CODES.get(code or "", (code or "").upper())


def _read(text: str, finish: str, extra: dict[str, Any] | None) -> Answer:
    account = (extra or {})["pointsman"]
    return Answer(
        text,
        finish,
        f"{account['provider']}/{account['model']}",
        account["attempts"],
        tuple(account["failed"]),
        round(float(account["cost_usd"]) * 1_000_000),
    )
