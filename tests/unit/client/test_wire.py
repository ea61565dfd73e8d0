"""The values ↔ the router's protos, and the assembling of streams."""

from __future__ import annotations

import pytest
from pointsman.router.v1 import router_pb2 as pb
from pointsman.types.v1 import types_pb2

from libs.answer import Attempt, LimitState, Result
from libs.client import (
    Citation,
    Client,
    Completed,
    Degradation,
    Delta,
    Message,
    Reasoning,
    ReasoningDelta,
    ReasoningEffort,
    ReasoningSummary,
    ResponseFormat,
    Restarted,
    Role,
    Selected,
    Selection,
    SelectionReason,
    Strategy,
    SwitchedProvider,
    TextAssembler,
    Tool,
    ToolCall,
    ToolCallDelta,
)
from libs.client.wire import event_from_proto, generation_to_proto, result_from_proto
from libs.errors import InvalidArgument
from libs.limits import Period, Unit
from libs.types import ErrorClass, FinishReason, Priority, RoutePart, UsageAccuracy
from services.router.api.proto_answer import fill_result
from tests.support import router as fake

HERE = Selection("alpha", "small")


def test_a_bare_prompt_sets_one_user_message_and_nothing_else() -> None:
    """Options that the caller did not give stay unset on the wire."""
    assert generation_to_proto("hi", {}) == pb.Generation(messages=[pb.Message(role=pb.ROLE_USER, text="hi")])


def test_every_option_reaches_its_field() -> None:
    """No option is lost, and explicit zeros are sent as zeros."""
    made = generation_to_proto(
        [Message(Role.USER, "a"), Message(Role.TOOL, "b", (ToolCall("1", "f", "{}"),), "1")],
        {
            "request_id": "r",
            "content_type": "blog",
            "system": "be brief",
            "max_output_tokens": 5,
            "temperature": 0.0,
            "top_p": 0.5,
            "seed": 0,
            "stop_sequences": ["x"],
            "response_format": ResponseFormat("{}", "s"),
            "tools": [Tool("f", "d", "{}")],
            "tool_choice": "auto",
            "parallel_tool_calls": False,
            "reasoning_effort": ReasoningEffort.LOW,
            "reasoning_summary": ReasoningSummary.AUTO,
            "presence_penalty": -1.0,
            "frequency_penalty": 0.0,
            "models": ["alpha/small"],
            "strategy": Strategy.COST_FIRST,
            "priority": Priority.BULK,
            "campaign": "c",
            "max_cost_micro_usd": 7,
            "max_attempts": 2,
            "hedge": True,
            "labels": {"k": "v"},
        },
    )
    assert made == pb.Generation(
        request_id="r",
        content_type="blog",
        messages=[
            pb.Message(role=pb.ROLE_SYSTEM, text="be brief"),
            pb.Message(role=pb.ROLE_USER, text="a"),
            pb.Message(
                role=pb.ROLE_TOOL,
                text="b",
                tool_calls=[pb.ToolCall(id="1", name="f", arguments_json="{}")],
                tool_call_id="1",
            ),
        ],
        max_output_tokens=5,
        temperature=0.0,
        top_p=0.5,
        seed=0,
        stop_sequences=["x"],
        response_format=pb.ResponseFormat(
            kind=pb.ResponseFormat.KIND_JSON_SCHEMA, schema_json="{}", schema_name="s"
        ),
        tools=[pb.Tool(name="f", description="d", parameters_json="{}")],
        tool_choice="auto",
        parallel_tool_calls=False,
        reasoning_effort=pb.REASONING_EFFORT_LOW,
        reasoning_summary=pb.REASONING_SUMMARY_AUTO,
        presence_penalty=-1.0,
        frequency_penalty=0.0,
        models=["alpha/small"],
        strategy=pb.STRATEGY_COST_FIRST,
        priority=types_pb2.PRIORITY_BULK,
        campaign="c",
        max_cost=types_pb2.Money(micro_usd=7),
        max_attempts=2,
        hedge=True,
        labels={"k": "v"},
    )
    unset = {field.name for field in pb.Generation.DESCRIPTOR.fields} - {f.name for f, _ in made.ListFields()}
    assert unset == set()
    assert made.HasField("temperature")
    assert made.HasField("seed")


@pytest.mark.parametrize(
    "options",
    [{"max_output_tokens": 2**40}, {"strategy": "lucky"}, {"nonsense": 1}, {"campaign": 5}],
)
def test_what_cannot_be_put_on_the_wire_is_an_invalid_argument(options: dict[str, object]) -> None:
    """The caller meets one kind of error for a bad request, wherever it is found."""
    with pytest.raises(InvalidArgument):
        generation_to_proto("hi", options)  # type: ignore[arg-type]


def test_text_that_is_not_unicode_is_refused_without_quoting_it() -> None:
    """A lone surrogate cannot be sent, and the prompt does not end up in the message."""
    with pytest.raises(InvalidArgument) as caught:
        generation_to_proto("secret \ud800 prompt", {})
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_result_keeps_unset_apart_from_zero() -> None:
    """A cost of nothing and a cost not known are different."""
    proto = fake.result("r", "text", failed=("beta",))
    proto.degradation = pb.DEGRADATION_QUEUED
    made = result_from_proto(proto)
    assert made.selection.reason is SelectionReason.COST
    assert made.finish_reason is FinishReason.STOP
    assert made.degradation is Degradation.QUEUED
    assert made.usage.accuracy is UsageAccuracy.EXACT
    failed, succeeded = made.attempts
    assert (failed.error_class, failed.cost_micro_usd, failed.usage) == (ErrorClass.SERVER_ERROR, None, None)
    assert (succeeded.error_class, succeeded.cost_micro_usd) == (None, 50)
    assert made.time_to_first_token is None


def test_enum_numbers_of_a_newer_server_become_none() -> None:
    """An old client survives a new server."""
    proto = fake.result("r", "text")
    proto.selection.reason = 99  # type: ignore[assignment]
    proto.degradation = 99  # type: ignore[assignment]
    proto.finish_reason = 99  # type: ignore[assignment]
    made = result_from_proto(proto)
    assert (made.selection.reason, made.degradation, made.finish_reason) == (None, None, None)


def test_limits_of_a_unit_or_period_of_a_newer_server_are_left_out() -> None:
    """Those that this client knows come through."""
    proto = fake.result("r", "text")
    for unit, period in (("requests", "minute"), ("seconds_of_video", "day"), ("requests", "year")):
        proto.limits.add(unit=unit, period=period, limit=60, remaining=41)
    assert result_from_proto(proto).limits == (LimitState(Unit.REQUESTS, Period.MINUTE, 60, 41),)


def test_an_event_of_a_newer_server_is_skipped() -> None:
    """An event kind that this client does not know is no event."""
    assert event_from_proto(pb.StreamGenerateResponse()) is None


def test_the_assembler_discards_at_restarted_and_keeps_at_switched() -> None:
    """The text is what a reader should be shown now; tool calls follow the same rule."""
    assembler = TextAssembler()
    for event in (
        Selected("r", HERE),
        Delta("lost", (ToolCallDelta(0, "1", "f", "{"),)),
        Restarted("beta", HERE, ErrorClass.STALLED),
        Delta("ke", (ToolCallDelta(0, "2", "g", '{"a"'),)),
        SwitchedProvider("alpha", HERE, ErrorClass.TRANSPORT),
        Delta("pt", (ToolCallDelta(0, arguments_json=":1}"), ToolCallDelta(1, "3", "h", "{}"))),
    ):
        assembler.feed(event)
    assert assembler.text == "kept"
    assert assembler.result is None
    assembler.feed(Completed(Result("r", "", HERE)))
    assert assembler.result is not None
    assert assembler.result.text == "kept"
    assert assembler.result.tool_calls == (ToolCall("2", "g", '{"a":1}'), ToolCall("3", "h", "{}"))


def test_the_assembler_joins_pieces_of_thoughts_and_keeps_refusals_and_citations() -> None:
    """Pieces of one index make one thought with all that any of them said; a restart discards them all."""
    cited = Citation("https://a.example", "A", "as it was", 0, 4)
    wrong = Delta(reasoning=(ReasoningDelta(0, Reasoning("wrong")),), refusal="No", citations=(cited,))
    pieces = (
        ReasoningDelta(1, Reasoning("then", kind="gemini")),
        ReasoningDelta(0, Reasoning("first ", kind="anthropic", id="r1")),
        ReasoningDelta(0, Reasoning("this")),
        ReasoningDelta(0, Reasoning(opaque="c2ln")),
    )
    assembler = TextAssembler()
    for event in (
        wrong,
        Restarted("alpha", HERE),
        Delta("text", reasoning=pieces),
        Delta(refusal="I will"),
        Delta(refusal=" not", citations=(cited,)),
        Completed(Result("r", "", HERE)),
    ):
        assembler.feed(event)
    result = assembler.result
    assert result is not None
    assert result.reasoning == (
        Reasoning("first this", "c2ln", kind="anthropic", id="r1"),
        Reasoning("then", kind="gemini"),
    )
    assert (result.text, result.refusal, result.citations) == ("text", "I will not", (cited,))


@pytest.mark.parametrize(
    ("target", "key", "timeout"),
    [
        ("", "k", 1.0),
        ("h:1", "schlüssel", 1.0),
        ("h:1", "a b", 1.0),
        ("h:1", "k" * 600, 1.0),
        ("h:1", "k", 0),
    ],
)
def test_a_client_that_could_never_work_is_not_built(target: str, key: str, timeout: float) -> None:
    """The constructor validates; the message holds no key."""
    with pytest.raises(ValueError, match=r"must be|is empty") as caught:
        Client(target, key, timeout=timeout)
    assert key == "k" or key not in str(caught.value)


async def test_a_client_outside_of_async_with_says_so() -> None:
    """A mistake of use is named, not a crash in the transport."""
    with pytest.raises(RuntimeError, match="async with"):
        await Client("127.0.0.1:1").generate("hi")


@pytest.mark.parametrize("part", [None, *RoutePart])
def test_an_attempt_says_which_part_of_its_route_changed(part: RoutePart | None) -> None:
    """From the router's value to the caller's: another key or endpoint is told from another provider."""
    given = Result("r", "", HERE, attempts=(Attempt("a1", "alpha", "small", started=1.0, switched=part),))
    proto = pb.Result()
    fill_result(proto, given)
    assert result_from_proto(proto).attempts[0].switched is part
