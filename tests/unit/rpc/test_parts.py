"""The parts of messages on the wire between the router and its callers."""

from __future__ import annotations

import pytest
from pointsman.router.v1 import router_pb2 as pb

from libs.answer import Completed, Delta, Result, Selection
from libs.client.wire import event_from_proto, generation_to_proto, result_from_proto
from libs.conversation import (
    Citation,
    File,
    Image,
    ImageDetail,
    Message,
    Part,
    Reasoning,
    ReasoningDelta,
    Refusal,
    Role,
    Text,
)
from libs.errors import InvalidArgument
from services.router.api.proto_answer import make_event
from services.router.api.proto_request import read_draft
from tests.support.pictures import png

PARTS: list[Part] = [
    Text(""),
    Text("नमस्ते"),
    Image(png()),
    Image(b"", "https://a.example/b.png", "image/png", ImageDetail.LOW),
    Image(png(), detail=ImageDetail.HIGH),
    File(b"%PDF-1.7", "", "application/pdf", "a.pdf"),
    File(url="https://a.example/b.pdf"),
    Reasoning(),
    Reasoning("hm", "c2ln", True, True, "anthropic", "rs_1", "call_1"),
    Refusal("No."),
]


@pytest.mark.parametrize("part", PARTS, ids=repr)
def test_a_part_is_read_as_it_was_sent(part: Part) -> None:
    """Every kind, with every field, from the client to the router's draft."""
    message = Message(Role.USER, parts=(part, Text("and")))
    sent = pb.Generation.FromString(generation_to_proto([message], {}).SerializeToString())
    draft = read_draft(sent)
    assert draft.prompt.messages == (message,)
    assert draft.unknown == ()


@pytest.mark.parametrize(
    "part",
    [pb.Part(), pb.Part(image=pb.Image(data=b"x", detail=9))],  # type: ignore[arg-type]
)
def test_a_part_without_a_name_is_refused_not_ignored(part: pb.Part) -> None:
    """One that is not set or of a later version is named by its place."""
    messages = [pb.Message(role=pb.ROLE_USER, text="a"), pb.Message(role=pb.ROLE_USER, parts=[part])]
    with pytest.raises(InvalidArgument) as caught:
        read_draft(pb.Generation(messages=messages))
    assert [v.field for v in caught.value.violations] == ["generation.messages[1].parts[0]"]


def test_an_answers_thoughts_refusal_and_citations_are_read_as_they_were_sent() -> None:
    """Of a whole answer and of a stream; a start of 0 is not unset."""
    thoughts = (Reasoning("hm", "c2ln", kind="anthropic"), Reasoning(opaque="x", redacted=True))
    sources = (Citation("https://a.example", "A", "so", 0, 2), Citation(title="a.pdf"))
    result = Result("r", "", Selection("a", "m"), reasoning=thoughts, refusal="No.", citations=sources)
    pieces = tuple(ReasoningDelta(index, thought) for index, thought in enumerate(thoughts))
    for event in (Completed(result), Delta("", reasoning=pieces, refusal="No.", citations=sources)):
        read = event_from_proto(make_event(event))
        assert read == event
    assert result_from_proto(make_event(Completed(result)).completed.result) == result
