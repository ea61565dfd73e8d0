"""Undoes in an answer what was changed in the request, and gives every call an id that is valid everywhere.

Servers give ids that are empty, that they make up anew in each turn (`call_0`), or that another vendor refuses.
Callers send them back, to whichever vendor comes next; so what does not fit is replaced before they see it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from random import getrandbits

from msgspec import Struct, field
from msgspec.structs import replace

from libs.conversation import Reasoning, ReasoningDelta, ToolCall, ToolCallDelta
from libs.types import FinishReason
from services.router.providers.wires.validity.names import rename_keys
from services.router.providers.wires.validity.stops import StopSearch
from services.router.request.generation import Completion, StreamEnd, StreamEvent, TextDelta

#: The ids that are valid everywhere; not those that servers, and our wires, number anew in each answer.
_ID = re.compile(r"(?!call_\d+$)[a-zA-Z0-9_-]{1,40}")


class Inverse(Struct, frozen=True):
    """The changes of one request. `ids`: id sent → the caller's, of the conversation's calls; `names`: name sent →
    the caller's, of tools that were renamed; `stops`: stop sequences that the vendor was not told; `keys`: name sent
    → the caller's, of parameters that were renamed, by the tool's name as it was sent."""

    ids: Mapping[str, str] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    stops: tuple[str, ...] = ()
    keys: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def whole(self, completion: Completion, bits: Callable[[int], int] = getrandbits) -> Completion:
        """Returns an answer as the caller shall see it. `bits`: makes random numbers of that many bits."""
        if not self.stops and not completion.tool_calls:
            return completion
        reader = AnswerReader(self, bits)
        calls = tuple(
            ToolCall(reader.begin_call(call.id), self.names.get(call.name, call.name), self.arguments(call))
            for call in completion.tool_calls
        )
        text, finish = completion.text, completion.finish_reason
        if self.stops:
            search = StopSearch(self.stops)
            text = search.feed(text) + search.flush()
            if search.found:
                calls, finish = (), FinishReason.STOP
        reasoning = tuple(map(reader.name_call, completion.reasoning))
        return replace(completion, text=text, tool_calls=calls, finish_reason=finish, reasoning=reasoning)

    def arguments(self, call: ToolCall) -> str:
        """Returns the arguments of a call by its name as it was sent."""
        keys = self.keys.get(call.name)
        return rename_keys(call.arguments_json, keys) if keys else call.arguments_json

    def reader(self, bits: Callable[[int], int] = getrandbits) -> AnswerReader:
        """Returns the reader of one stream. `bits`: makes random numbers of that many bits."""
        return AnswerReader(self, bits)


#: Of a request in which no call or tool had to be looked at.
UNCHANGED = Inverse()


class AnswerReader:
    """Reads one stream's events as the caller shall see them. A call is held back until its name is known; one whose
    parameters are to be renamed, and those after it, to the end."""

    __slots__ = ("_begun", "_bits", "_expected", "_held", "_ids", "_inverse", "_stops", "_taken", "_waits")

    def __init__(self, inverse: Inverse, bits: Callable[[int], int]) -> None:
        self._inverse = inverse
        self._bits = bits
        self._stops = StopSearch(inverse.stops) if inverse.stops else None
        self._taken: set[str] | None = None
        #: Calls whose id and name the caller has.
        self._begun: set[int] = set()
        #: A call has come whose parameters are to be renamed.
        self._waits = False
        #: Pieces of calls that are held back.
        self._held: dict[int, list[ToolCallDelta]] = {}
        #: The provider's id of a call → the caller's; and of calls that thoughts have named and that come yet.
        self._ids: dict[str, str] = {}
        self._expected: set[str] = set()

    @property
    def stopped(self) -> bool:
        """Returns True once a stop sequence has come: the answer ends there."""
        return self._stops is not None and self._stops.found

    def read(self, events: Sequence[StreamEvent]) -> Sequence[StreamEvent]:
        """Returns the events for the caller. Most are what they were."""
        if self._stops is None and not self._held:
            for event in events:
                if type(event) in (ToolCallDelta, ReasoningDelta):
                    break
            else:
                return events
        out: list[StreamEvent] = []
        for event in events:
            if self.stopped:
                break
            if type(event) is TextDelta:
                text = event.text if self._stops is None else self._stops.feed(event.text)
                if text:
                    out.append(event if text == event.text else TextDelta(text))
                continue
            if type(event) is ReasoningDelta:
                out.append(replace(event, piece=self.name_call(event.piece)))
                continue
            if type(event) not in (ToolCallDelta, StreamEnd):
                out.append(event)
                continue
            if self._stops is not None and (held := self._stops.flush()):
                out.append(TextDelta(held))
            if type(event) is ToolCallDelta:
                out.extend(self._call(event))
                continue
            if type(event) is StreamEnd:
                out.extend([self._begin(pieces) for pieces in self._held.values()])
            out.append(event)
        return out

    def begin_call(self, given: str) -> str:
        """Returns the id of a new call, to which the provider gave one that may be empty."""
        if given in self._expected:
            self._expected.remove(given)
            return self._ids[given]
        new = self._new_id(given)
        # Thoughts stand before the first of several calls with one id.
        self._ids.setdefault(given, new)
        return new

    def name_call(self, thought: Reasoning) -> Reasoning:
        """Returns a thought with the caller's id of its call, which may come yet."""
        given = thought.tool_call_id
        if not given:
            return thought
        if given not in self._ids:
            self._ids[given] = self._new_id(given)
            self._expected.add(given)
        return replace(thought, tool_call_id=self._ids[given])

    def _new_id(self, given: str) -> str:
        """Returns the id given, where it is valid everywhere and new in the conversation; else a random one."""
        taken = self._taken
        if taken is None:
            ids = self._inverse.ids
            taken = self._taken = {*ids, *ids.values()}
        if not _ID.fullmatch(given) or given in taken:
            given = f"call_{self._bits(96):024x}"
        taken.add(given)
        return given

    def _call(self, piece: ToolCallDelta) -> list[StreamEvent]:
        if piece.index in self._begun:
            # Two ids or names of one call would be one long one at the caller's.
            text = piece.arguments_json
            return [ToolCallDelta(piece.index, "", "", text)] if text else []
        held = self._held.setdefault(piece.index, [])
        held.append(piece)
        # Clients want calls in their order.
        self._waits |= piece.name in self._inverse.keys
        if not piece.name or self._waits:
            return []
        self._begun.add(piece.index)
        return [self._begin(self._held.pop(piece.index))]

    def _begin(self, pieces: list[ToolCallDelta]) -> ToolCallDelta:
        """Returns the first piece of a call for the caller, from those that came so far."""
        first = pieces[0]
        given = next((piece.id for piece in pieces if piece.id), "")
        sent = next((piece.name for piece in pieces if piece.name), "")
        arguments = "".join([piece.arguments_json for piece in pieces])
        whole = self._inverse.arguments(ToolCall(given, sent, arguments))
        name = self._inverse.names.get(sent, sent)
        return ToolCallDelta(first.index, self.begin_call(given), name, whole)
