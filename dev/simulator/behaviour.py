"""The behaviour of a virtual provider: the JSON of `PUT /_control/<name>` and of a scenario file, validated.

A request meets the faults in the order they are listed. Every fault whose `when` holds takes part; of two of the same
kind the first wins. Faults that replace the whole answer (status, reset, silence, empty, content_type, raw) come
before the provider's own checks (key, request shape, prefill, limits), as a broken edge would.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

Count = Annotated[int, Meta(ge=0, le=1_000_000)]
Seconds = Annotated[float, Meta(ge=0, le=86_400)]
Milliseconds = Annotated[float, Meta(ge=0, le=600_000)]
#: The longest time that a fault may hold a connection, in seconds.
Hold = Annotated[float, Meta(ge=0, le=300)]
Positive = Annotated[int, Meta(ge=1)]

Preset = Literal[
    "invalid_request",
    "context_length",
    "content_filter",
    "authentication",
    "permission",
    "model_not_found",
    "timeout",
    "too_large",
    "rate_limited",
    "quota",
    "server_error",
    "bad_gateway",
    "unavailable",
    "overloaded",
    "prefill",
]
RetryStyle = Literal["native", "seconds", "milliseconds", "date", "body"]


class When(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The conditions under which a fault strikes. All must hold; an empty one always does.

    `first`, `skip`, `every` and `share` count the requests that passed the other conditions, since the behaviour was
    set or reset. Times count from that moment too.
    """

    #: The endpoint: generation, the model list, or both. A real outage takes both.
    endpoint: Literal["generate", "models", "any"] = "generate"
    #: Shell pattern on the model's wire name.
    model: str = "*"
    #: Only streamed (true) or only unary (false) requests.
    streaming: bool | None = None
    #: Only requests whose body holds these bytes of UTF-8.
    contains: str = ""
    #: Only requests with this key: one that was revoked or used up, of several.
    key: str | None = None
    #: Leave the first N alone.
    skip: Count = 0
    #: Then strike the first N.
    first: Count | None = None
    #: Then strike every k-th.
    every: Positive | None = None
    #: Then strike this share, drawn from `seed`.
    share: Annotated[float, Meta(ge=0, le=1)] | None = None
    seed: int = 0
    from_seconds: Seconds = 0.0
    until_seconds: Seconds | None = None
    #: Flapping: strike for this long, then leave alone for `up_seconds` (unset: for good), and so on.
    down_seconds: Seconds | None = None
    up_seconds: Seconds | None = None


class BaseFault(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, tag_field="kind"):
    """The condition that every fault has."""

    when: When = When()


class Status(BaseFault, frozen=True, tag="status"):
    """An error status, at once or after `delay_ms`. `preset` gives the wire's own status, body and headers;
    `status`, `body` (text, or JSON) and `headers` replace its parts. `retry_after` is in seconds, said in the wire's
    own way, or as an HTTP header in seconds, milliseconds or as a date, or (`body`) only in the error text."""

    preset: Preset | None = None
    status: Annotated[int, Meta(ge=100, le=599)] | None = None
    body: Any = None
    headers: dict[str, str] = {}
    retry_after: Seconds | None = None
    retry_after_as: RetryStyle = "native"
    delay_ms: Milliseconds = 0.0


class Reset(BaseFault, frozen=True, tag="reset"):
    """A TCP reset before any byte of the answer."""


class Silence(BaseFault, frozen=True, tag="silence"):
    """The request is taken and never answered; the connection is closed after `seconds`."""

    seconds: Hold = 300.0


class Empty(BaseFault, frozen=True, tag="empty"):
    """200 with a body of no bytes."""


class ContentType(BaseFault, frozen=True, tag="content_type"):
    """200 with another content type, and `body` where set, as a captive portal would."""

    content_type: str = "text/html; charset=utf-8"
    body: str | None = None


class Piece(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bytes of a raw answer: text as UTF-8, then `base64`, all of it `times` times over."""

    text: str = ""
    base64: str = ""
    times: Annotated[int, Meta(ge=1, le=1_000_000_000)] = 1


class Raw(BaseFault, frozen=True, tag="raw"):
    """Exactly this answer, chunked, whatever was asked. `gzip` packs it on the way and says so; `endless` repeats the
    last piece until the client leaves."""

    status: Annotated[int, Meta(ge=100, le=599)] = 200
    content_type: str = "text/event-stream"
    headers: dict[str, str] = {}
    body: tuple[Piece, ...] = ()
    gzip: bool = False
    endless: bool = False


class SlowFirstToken(BaseFault, frozen=True, tag="slow_first_token"):
    """Headers at once, then nothing for `seconds`, then the rest as usual. Unary: the whole answer is late."""

    seconds: Hold = 20.0


class Cut(BaseFault, frozen=True, tag="cut"):
    """The connection ends after `after_tokens` tokens, without a terminating chunk. Unary: the declared length is not
    reached. `reset` may destroy bytes that the client has not read yet; `close` never does."""

    after_tokens: Count = 40
    how: Literal["close", "reset"] = "close"


class Stall(BaseFault, frozen=True, tag="stall"):
    """Silence of `seconds` after `after_tokens` tokens with the connection open, then the end or the rest. Unary: the
    headers come, the body does not."""

    after_tokens: Count = 20
    seconds: Hold = 30.0
    then: Literal["close", "continue"] = "close"


class Malformed(BaseFault, frozen=True, tag="malformed"):
    """An event that cannot be parsed, before token number `at_token` (from 0) or in its place. Unary: bad JSON."""

    at_token: Count = 10
    replace: bool = False


class ErrorEvent(BaseFault, frozen=True, tag="error_event"):
    """An error inside the 200, after `after_tokens` tokens, in the wire's own shape. Unary: an error body."""

    after_tokens: Count = 0
    preset: Preset = "overloaded"


class NoTerminator(BaseFault, frozen=True, tag="no_terminator"):
    """The finish reason comes, the wire's last word ([DONE], message_stop, metadata) does not. Gemini, OpenAI
    responses and Ollama have no word after the finish reason: nothing changes there."""


class NoFinish(BaseFault, frozen=True, tag="no_finish"):
    """A clean end of the HTTP body without finish reason and terminator, after `after_tokens` tokens or all."""

    after_tokens: Count | None = None


class ContentFilter(BaseFault, frozen=True, tag="content_filter"):
    """The answer ends with the wire's content-filter finish, after `after_tokens` tokens or half of them."""

    after_tokens: Count | None = None


class PrefillRejection(BaseFault, frozen=True, tag="prefill_rejection"):
    """400 where the last message is the assistant's."""


class OddCalls(BaseFault, frozen=True, tag="odd_calls"):
    """Calls of tools as some servers send them: ended with another word than the wire's own, without ids or with odd
    ones, without arguments."""

    finish: Literal["own", "stop"] = "own"
    #: none: no such field; repeated: the same in every answer; long: 65 characters; dotted: "functions.name:0".
    ids: Literal["own", "none", "empty", "repeated", "long", "dotted"] = "own"
    no_arguments: bool = False


class Thinks(BaseFault, frozen=True, tag="thinks"):
    """The answer begins with thinking that nobody asked for; on the responses API as parts of `reasoning_text`."""


class SplitEmoji(BaseFault, frozen=True, tag="split_emoji"):
    """The answer ends in an emoji whose halves come in two deltas, each half escaped."""


class Brownout(BaseFault, frozen=True, tag="brownout"):
    """Latency and token times are `factor` times as long."""

    factor: Annotated[float, Meta(gt=0, le=1000)] = 10.0


Fault = (
    Status
    | Reset
    | Silence
    | Empty
    | ContentType
    | Raw
    | SlowFirstToken
    | Cut
    | Stall
    | Malformed
    | ErrorEvent
    | NoTerminator
    | NoFinish
    | ContentFilter
    | PrefillRejection
    | OddCalls
    | Thinks
    | SplitEmoji
    | Brownout
)


class Limits(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Limits the virtual provider enforces itself, with authentic 429s. Buckets that refill continuously and hold one
    window's worth, as OpenAI and Anthropic document theirs. Tokens are charged on admission, input plus answer."""

    rpm: Positive | None = None
    tpm: Positive | None = None
    input_tpm: Positive | None = None
    output_tpm: Positive | None = None
    concurrency: Positive | None = None
    #: The seconds of "per minute"; shorter in tests.
    window_seconds: Annotated[float, Meta(gt=0, le=3600)] = 60.0
    #: Part of a window's worth that may be used at once.
    burst: Annotated[float, Meta(gt=0, le=1)] = 1.0


class UsageReport(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The usage that the provider reports, where that shall differ from the rule (see `answers.py`)."""

    input_tokens: Count | None = None
    output_tokens: Count | None = None
    #: Part of the input tokens read from, or written to, the provider's prompt cache.
    cache_read_tokens: Count = 0
    cache_write_tokens: Count = 0
    #: Thinking, on top of the answer's tokens; part of the reported output.
    reasoning_tokens: Count = 0
    #: No usage at all.
    omit: bool = False
    #: Chat completions: the finishing chunk of a stream carries it unasked, as with Mistral and Perplexity.
    with_finish: bool = False


class Behaviour(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A virtual provider. The defaults answer at once and never fail."""

    #: Time to the first token.
    latency_ms: Milliseconds = 0.0
    #: Time per token; `tokens_per_second` is another way to say it and wins.
    ms_per_token: Milliseconds = 0.0
    tokens_per_second: Annotated[float, Meta(gt=0)] | None = None
    #: Time of a whole unary answer; unset: latency plus the tokens' time.
    unary_ms: Milliseconds | None = None
    #: Tokens of the answer; unset: 45 to 85, by the prompt. `max_tokens` of the request always caps it.
    tokens: Annotated[int, Meta(ge=0, le=200_000)] | None = None
    #: Another text than the other virtual providers give for the same prompt.
    own_answer: bool = False
    seed: int = 0
    #: The request's own seed changes the text too.
    use_request_seed: bool = False
    #: The only key accepted (for Bedrock: access key id or bearer token); unset: any.
    expect_key: str | None = None
    #: The vendor of chat completions that it plays; empty: any other server. Unset: what its name or the model's
    #: begins with.
    vendor: Literal["openai", "mistral", "groq", "deepseek", "xai", "cerebras", "perplexity", ""] | None = (
        None
    )
    #: It refuses what its vendor refuses; unset: as the whole process does (`strict` of a scenario or of the control
    #: API).
    strict: bool | None = None
    #: The only models served; unset: any name.
    models: tuple[str, ...] | None = None
    usage: UsageReport = UsageReport()
    limits: Limits = Limits()
    faults: tuple[Fault, ...] = ()

    @property
    def seconds_per_token(self) -> float:
        """Returns the pace of the answer."""
        return 1 / self.tokens_per_second if self.tokens_per_second else self.ms_per_token / 1000


class Scenario(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A start-up file: behaviours by virtual provider; `default` is what any other name gets."""

    default: Behaviour = Behaviour()
    providers: dict[str, Behaviour] = {}
    #: Every virtual provider that says nothing of it refuses what its vendor refuses (`strict/`).
    strict: bool = True


class Settings(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of the whole process, by the control API."""

    strict: bool


_settings = msgspec.json.Decoder(Settings)
_behaviour = msgspec.json.Decoder(Behaviour)
_scenario = msgspec.json.Decoder(Scenario)


def parse_behaviour(data: bytes) -> Behaviour:
    """Reads a behaviour. Raises msgspec.ValidationError naming the field, or msgspec.DecodeError for broken JSON."""
    return _behaviour.decode(data or b"{}")


def parse_scenario(data: bytes) -> Scenario:
    """Reads a scenario. Raises as `parse_behaviour`."""
    return _scenario.decode(data)


def parse_settings(data: bytes) -> Settings:
    """Reads settings of the process. Raises as `parse_behaviour`."""
    return _settings.decode(data)
