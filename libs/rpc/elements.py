"""Bounds on how many elements a message holds, counted on its bytes before it is decoded.

An empty message costs its sender two bytes and a decoder that builds it about a hundred, so that a bound on bytes
alone does not bound memory: 10 MiB of them are 5 million objects. The scan reads tags and lengths, steps over texts,
and descends only where the message's type has messages. Each step counts, so its work ends with the bound however
large the message is. Wire format: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from libs.errors import FieldViolation, InvalidArgument

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
#: Bytes of the longest varint.
_LONGEST_VARINT = 10
_FIXED_SIZES = {
    FieldDescriptor.TYPE_DOUBLE: 8,
    FieldDescriptor.TYPE_FIXED64: 8,
    FieldDescriptor.TYPE_SFIXED64: 8,
    FieldDescriptor.TYPE_FLOAT: 4,
    FieldDescriptor.TYPE_FIXED32: 4,
    FieldDescriptor.TYPE_SFIXED32: 4,
}
_TEXTS = (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES)

#: The shape of one message type, by tag: the shape of a message inside it, or the least bytes of an entry of a packed
#: field.
Shape = dict[int, "Shape | int"]

_shapes: dict[str, Shape] = {}


def shape_of(descriptor: Descriptor) -> Shape:
    """Returns the shape of a message type; the same object for the same type, so that recursive types end."""
    shape = _shapes.get(descriptor.full_name)
    if shape is None:
        shape = _shapes[descriptor.full_name] = {}
        for field in descriptor.fields:
            tag = field.number << 3 | _LENGTH
            if field.message_type is not None:
                shape[tag] = shape_of(field.message_type)
            elif field.is_repeated and field.type not in _TEXTS:
                shape[tag] = _FIXED_SIZES.get(field.type, 1)
    return shape


def check_elements(message: bytes, shape: Shape, most: int) -> None:
    """Raises InvalidArgument where a serialized message holds more than `most` elements (set fields, entries of
    repeated ones, and theirs), or where it is no message of any type."""
    # An element takes at least two bytes, but for entries of packed fields, which cost no object each.
    if len(message) > 2 * most:
        try:
            _count(message, shape, most)
        except (IndexError, ValueError):
            raise bad_message("its fields do not fit its length") from None


def bad_message(why: str) -> InvalidArgument:
    """Returns the refusal of bytes that are not a message of the method's type."""
    return InvalidArgument(
        [FieldViolation("request", f"is not a valid message: {why}")], reason="BAD_MESSAGE"
    )


def _count(message: bytes, shape: Shape, most: int) -> None:
    """Raises IndexError or ValueError where the message is malformed."""
    at, end, count = 0, len(message), 0
    outer: list[tuple[int, Shape]] = []
    while True:
        while at >= end:
            if at > end:
                raise ValueError
            if not outer:
                return
            end, shape = outer.pop()
        count += 1
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == _LENGTH:
            length, at = _varint(message, at)
            inner = shape.get(tag)
            if inner is None:
                at += length
            elif isinstance(inner, int):
                at += length
                count += length // inner
            elif at + length > end:
                raise ValueError
            else:
                outer.append((end, shape))
                end, shape = at + length, inner
        elif kind == _VARINT:
            _, at = _varint(message, at)
        elif kind == _FIXED64:
            at += 8
        elif kind == _FIXED32:
            at += 4
        else:
            raise ValueError  # groups, which none of our types has
        if count > most:
            raise InvalidArgument(
                [FieldViolation("request", f"holds more than {most:,} fields and entries")],
                reason="TOO_MANY_ELEMENTS",
            )


def _varint(message: bytes, at: int) -> tuple[int, int]:
    """Returns the number at a place, and the place behind it."""
    byte = message[at]
    if byte < 0x80:
        return byte, at + 1
    number, shift = byte & 0x7F, 7
    for place in range(at + 1, at + _LONGEST_VARINT):
        byte = message[place]
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, place + 1
        shift += 7
    raise ValueError
