"""Azure OpenAI: chat completions by deployment, with `api-key`, `api-version` and content-filter annotations.

Source: learn.microsoft.com/azure/ai-services/openai/reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from dev.simulator.wires import openai_errors
from dev.simulator.wires.base import Ask, BadRequest, Problem, Quota, Reply, bearer, encode, sse
from dev.simulator.wires.openai_chat import OpenAIChat

_SAFE: dict[str, dict[str, Any]] = {
    name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")
}
_JAILBREAK = {"filtered": False, "detected": False}
_PROMPT: dict[str, Any] = {"prompt_index": 0, "content_filter_results": {**_SAFE, "jailbreak": _JAILBREAK}}
#: Azure's own first chunk: no choices, no id, no model.
_PREAMBLE = sse(
    encode(
        {"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": [_PROMPT]}
    )
)
_FILTERED = (
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify"
    " your prompt and retry."
)


class Azure(OpenAIChat):
    """POST /openai/deployments/<deployment>/chat/completions?api-version=…"""

    name: ClassVar[str] = "azure_openai"

    def parse(
        self, body: dict[str, Any], model: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> Ask:
        if not query.get("api-version"):
            raise BadRequest("Resource not found", "model_not_found")
        return super().parse(body, model, query, headers)

    def key(self, headers: Mapping[str, str], query: Mapping[str, str]) -> str | None:
        return headers.get("api-key") or bearer(headers)

    def headers(self, uid: str, quota: Quota) -> list[tuple[str, str]]:
        return [
            ("apim-request-id", f"{uid[:8]}-{uid[8:12]}-4000-8000-{uid[12:24]}"),
            ("x-request-id", f"{uid[:8]}-{uid[8:12]}-4000-8000-{uid[12:24]}"),
            ("x-ms-region", "East US"),
            *openai_errors.quota_headers(quota)[:4],
        ]

    def extra(self) -> dict[str, Any]:
        return {"content_filter_results": _SAFE}

    def preamble(self) -> bytes:
        return _PREAMBLE

    def error(self, problem: Problem, uid: str) -> Reply:
        headers = {"apim-request-id": f"{uid[:8]}-{uid[8:12]}-4000-8000-{uid[12:24]}"}
        plain = openai_errors.plain(problem)
        if plain is not None:
            return plain
        status, body = openai_errors.details(problem)
        fields: dict[str, Any] = dict(body)
        if problem.preset in ("timeout", "too_large"):
            return Reply(status, str(fields["message"]).encode(), "text/plain", headers)
        if problem.preset == "content_filter":
            flagged = {**_SAFE, "violence": {"filtered": True, "severity": "medium"}}
            inner = {"code": "ResponsibleAIPolicyViolation", "content_filter_result": flagged}
            fields.update(message=_FILTERED, type=None, param="prompt", code="content_filter", status=400)
            fields["innererror"] = inner
        elif problem.preset == "authentication":
            text = "Access denied due to invalid subscription key or wrong API endpoint."
            fields = {"code": "401", "message": problem.message or text}
        elif problem.preset == "model_not_found" and problem.message:
            fields = {"code": "404", "message": problem.message}
        elif problem.preset == "model_not_found":
            fields = {
                "code": "DeploymentNotFound",
                "message": "The API deployment for this resource does not exist.",
            }
        elif problem.preset == "rate_limited":
            wait = (
                "" if problem.retry_after is None else f" Please retry after {problem.retry_after:g} seconds."
            )
            text = "Requests to the ChatCompletions_Create Operation have exceeded call rate limit." + wait
            fields = {"code": "429", "message": problem.message or text}
        headers |= openai_errors.retry_headers(problem, native=("retry-after", "retry-after-ms"))
        return Reply(status, encode({"error": fields}), "application/json", headers)
