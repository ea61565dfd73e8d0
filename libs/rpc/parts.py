"""Converts between the parts of a conversation and their protos, for the router and its callers."""

from __future__ import annotations

from typing import cast

from pointsman.router.v1 import router_pb2 as pb

from libs.conversation import (
    Citation,
    File,
    Image,
    ImageDetail,
    Part,
    Reasoning,
    ReasoningDelta,
    Refusal,
    Text,
)

_DETAIL_TO = {
    item: cast("pb.ImageDetail", pb.ImageDetail.Value(f"IMAGE_DETAIL_{item.name}")) for item in ImageDetail
}
_DETAIL_FROM: dict[int, ImageDetail | None] = {number: item for item, number in _DETAIL_TO.items()} | {
    0: None
}


def part_from_proto(proto: pb.Part) -> Part | None:
    """Returns the part; None where none is set, or a kind or a value that this version does not know."""
    match proto.WhichOneof("content"):
        case "text":
            return Text(proto.text)
        case "image":
            image = proto.image
            if image.detail not in _DETAIL_FROM:
                return None
            return Image(image.data, image.url, image.media_type, _DETAIL_FROM[image.detail])
        case "file":
            file = proto.file
            return File(file.data, file.url, file.media_type, file.name)
        case "reasoning":
            return reasoning_from_proto(proto.reasoning)
        case "refusal":
            return Refusal(proto.refusal)
        case _:
            return None


def part_to_proto(part: Part) -> pb.Part:
    """Returns the proto."""
    match part:
        case Text():
            return pb.Part(text=part.text)
        case Image():
            detail = pb.IMAGE_DETAIL_UNSPECIFIED if part.detail is None else _DETAIL_TO[part.detail]
            return pb.Part(
                image=pb.Image(data=part.data, url=part.url, media_type=part.media_type, detail=detail)
            )
        case File():
            return pb.Part(
                file=pb.File(data=part.data, url=part.url, media_type=part.media_type, name=part.name)
            )
        case Reasoning():
            proto = pb.Part()
            proto.reasoning.SetInParent()
            fill_reasoning(proto.reasoning, part)
            return proto
        case Refusal():
            return pb.Part(refusal=part.text)


def reasoning_from_proto(proto: pb.Reasoning) -> Reasoning:
    """Returns the thoughts."""
    return Reasoning(
        proto.text,
        proto.opaque,
        proto.summary,
        proto.redacted,
        proto.kind,
        proto.id,
        proto.tool_call_id,
    )


def fill_reasoning(proto: pb.Reasoning, value: Reasoning) -> None:
    """Fills in a proto in place, as all functions `fill_…` do."""
    proto.text = value.text
    proto.opaque = value.opaque
    proto.summary = value.summary
    proto.redacted = value.redacted
    proto.kind = value.kind
    proto.id = value.id
    proto.tool_call_id = value.tool_call_id


def reasoning_delta_from_proto(proto: pb.ReasoningDelta) -> ReasoningDelta:
    """Returns a piece of thoughts."""
    return ReasoningDelta(proto.index, reasoning_from_proto(proto.piece))


def fill_reasoning_delta(proto: pb.ReasoningDelta, value: ReasoningDelta) -> None:
    """Fills in a proto in place."""
    proto.index = value.index
    fill_reasoning(proto.piece, value.piece)


def citation_from_proto(proto: pb.Citation) -> Citation:
    """Returns a source."""
    return Citation(
        proto.url,
        proto.title,
        proto.quote,
        proto.start if proto.HasField("start") else None,
        proto.end if proto.HasField("end") else None,
    )


def fill_citation(proto: pb.Citation, value: Citation) -> None:
    """Fills in a proto in place."""
    proto.url = value.url
    proto.title = value.title
    proto.quote = value.quote
    if value.start is not None:
        proto.start = value.start
    if value.end is not None:
        proto.end = value.end
