"""OpenAI's responses API, also spoken by Azure, xAI, OpenRouter, DeepSeek and Bedrock.

https://platform.openai.com/docs/api-reference/responses
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from services.router.providers.wires.errors import classify, malformed
from services.router.providers.wires.fields import as_list, as_str, encode
from services.router.providers.wires.openai_responses_body import responses_body
from services.router.providers.wires.request_parts import Headers, bearer_headers, left_out
from services.router.providers.wires.responses_output import calls_of, citations_of, texts_of, thoughts_of
from services.router.providers.wires.responses_stream import (
    ResponsesDecoder,
    finish_of,
    unfinished_failure,
    usage_of,
)
from services.router.providers.wires.stream import Decoder, needs_content
from services.router.providers.wires.validity.make_valid import make_valid
from services.router.providers.wires.validity.rules import responses_rules
from services.router.providers.wires.whole_answer import complete, decode_answer
from services.router.providers.wires.wire import Endpoint, HttpRequest
from services.router.request.generation import Completion, Prompt, ProviderFailure


def responses_url(endpoint: Endpoint) -> str:
    """Returns the address at OpenAI and servers like it."""
    return endpoint.base_url.rstrip("/") + "/responses"


class OpenAIResponsesWire:
    """The responses API, at OpenAI unless another address and other headers are given."""

    def __init__(
        self, url: Callable[[Endpoint], str] = responses_url, headers: Headers = bearer_headers
    ) -> None:
        self._url = url
        self._headers = headers

    def request(self, prompt: Prompt, endpoint: Endpoint, *, stream: bool) -> HttpRequest:
        """See Wire.request."""
        valid = make_valid(prompt, responses_rules(endpoint.model), endpoint.max_output_tokens)
        body = responses_body(valid.prompt, endpoint, stream=stream)
        headers = self._headers(endpoint, stream=stream)
        ignored = (
            left_out(
                prompt,
                seed=False,
                presence_penalty=False,
                frequency_penalty=False,
                reasoning_summary=endpoint.reasons,
            )
            if valid.has_options
            else ()
        )
        return HttpRequest("POST", self._url(endpoint), headers, encode(body), valid.inverse, ignored)

    def completion(self, status: int, headers: Mapping[str, str], body: bytes) -> Completion:
        """See Wire.completion."""
        data = decode_answer(body)
        usage, output, state = usage_of(data), as_list(data.get("output")), as_str(data.get("status"))
        if data.get("error") and state != "completed":
            raise unfinished_failure(data, usage, state)
        found, texts = calls_of(output), list(texts_of(output))
        answer = "".join(text for text, refused in texts if not refused)
        refusal = "".join(text for text, refused in texts if refused)
        finish = finish_of(data, calls=bool(found), refused=bool(refusal and not answer), usage=usage)
        if "output" not in data and needs_content(finish):
            raise malformed("the answer holds no output", usage)
        return complete(
            answer,
            finish,
            usage,
            found,
            as_str(data.get("model")),
            reasoning=thoughts_of(output),
            refusal=refusal,
            citations=tuple(citations_of(output)),
        )

    def failure(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderFailure:
        """See Wire.failure."""
        return classify(status, headers, body)

    def decoder(self, *, may_be_empty: bool = False) -> Decoder:
        """See Wire.decoder."""
        return ResponsesDecoder(may_be_empty=may_be_empty)
