"""Changes as messages."""

from __future__ import annotations

from pointsman.types.v1 import types_pb2

from libs.change import Change
from libs.rpc.convert import timestamp_from_proto, timestamp_to_proto


def change_to_proto(change: Change) -> types_pb2.Change:
    """Returns the message."""
    return types_pb2.Change(
        change_id=change.change_id,
        kind=change.kind,
        name=change.name,
        version=change.version,
        at=timestamp_to_proto(change.at),
        author=change.author,
        reason=change.reason,
        before=change.before,
        after=change.after,
        undoes=change.undoes,
    )


def change_from_proto(message: types_pb2.Change) -> Change:
    """Returns the change. Raises InvalidArgument naming each wrong field."""
    return Change(
        message.change_id,
        message.kind,
        message.name,
        message.version,
        timestamp_from_proto(message.at),
        message.author,
        message.reason,
        message.before,
        message.after,
        message.undoes,
    )
