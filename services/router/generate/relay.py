"""The events that a caller of a stream gets while providers come and go. Pure.

Until the first piece of content (the commit point) another provider simply begins. White space is none: it is held
back until something follows. After the commit point, a provider that accepts a prefill goes on from the part already
sent; from any other the answer comes anew, the part already sent is matched and suppressed, and where it does not
match the caller is told to start over. So does the same target where it was cut and nobody else is left.
"""

from __future__ import annotations

from collections.abc import Sequence

from libs.answer import Delta, Event, Restarted, Selected, SwitchedProvider
from libs.conversation import ToolCallDelta
from libs.types import ErrorClass
from services.router.planning.candidate import Candidate
from services.router.request.generation import StreamEnd, StreamEvent, TextDelta


class Relay:
    """One caller's view of one streamed answer, over all attempts."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._sent: list[str] = []
        self._sent_tools = False
        self._candidate: Candidate | None = None
        self._from = ""
        self._why: ErrorClass | None = None
        #: The part of what was sent that the present attempt must repeat before anything new passes.
        self._expected = ""
        self._matched = 0
        #: Trailing white space that was sent but left out of a prefill; repeated by most models, so dropped once.
        self._held = ""
        self._announced = True
        #: The present attempt goes on where the same target was cut: nothing to announce.
        self._same = False
        #: White space of the present attempt that nothing was sent before.
        self._blank = ""
        #: Text of the present attempt alone, and its tool calls.
        self._received: list[str] = []
        self._received_tools: list[str] = []

    @property
    def committed(self) -> bool:
        """Returns True if content has reached the caller."""
        return bool(self._sent) or self._sent_tools

    def sent(self) -> str:
        """Returns the text that has reached the caller; empty where tool calls have too."""
        return "" if self._sent_tools else "".join(self._sent)

    def generated(self) -> str:
        """Returns all that the present attempt has generated, tool calls included, for estimates of its tokens."""
        return "".join(self._received + self._received_tools)

    def prefill(self) -> str:
        """Returns the text that a continuing model is given; empty where a prefill cannot express what was sent.
        Without trailing white space, which some providers refuse."""
        return self.sent().rstrip()

    def begin(self, candidate: Candidate, failure: ErrorClass | None, *, prefilled: bool) -> list[Event]:
        """Begins an attempt and returns its events. `failure`: the class in which the one before ended; None: it has
        not, a hedge was faster."""
        before, self._candidate = self._candidate, candidate
        self._received, self._received_tools = [], []
        self._expected, self._matched, self._held, self._blank = "", 0, "", ""
        if before is None:
            return [Selected(self._request_id, candidate.selection)]
        self._from = before.model.provider
        self._why = failure
        if not self.committed:
            return [] if before.target == candidate.target else [self._switched()]
        self._announced = False
        self._same = before.target == candidate.target
        sent = "".join(self._sent)
        if prefilled:
            self._held = sent[len(sent.rstrip()) :]
        else:
            self._expected = sent
        return []

    def feed(self, events: Sequence[StreamEvent]) -> list[Event]:
        """Returns the events that a piece of the provider's stream makes. Text of one piece is one delta."""
        text = "".join(event.text for event in events if isinstance(event, TextDelta))
        tools = [event for event in events if isinstance(event, ToolCallDelta)]
        out: list[Event] = []
        if text:
            self._received.append(text)
            out += self._text(text)
        if tools:
            self._received_tools += [tool.name + tool.arguments_json for tool in tools]
            # A tool call where text was expected is another answer; so is any after tool calls were sent.
            another = self._repeating or (not self._announced and self._sent_tools)
            out += self._restart() if another else self._announce()
            out += self._delta("", tools)
        if self._repeating and any(isinstance(event, StreamEnd) for event in events):
            # The new answer is shorter than what was sent.
            out += self._restart()
        if self._blank and any(isinstance(event, StreamEnd) for event in events):
            # Nothing follows it.
            out += self._delta("", [], last=True)
        return out

    @property
    def _repeating(self) -> bool:
        return not self._announced and self._matched < len(self._expected)

    def _text(self, text: str) -> list[Event]:
        if not self._announced and self._sent_tools:
            return self._restart()
        if self._repeating:
            overlap = self._expected[self._matched : self._matched + len(text)]
            if text[: len(overlap)] != overlap:
                return self._restart()
            self._matched += len(overlap)
            if self._matched < len(self._expected):
                return []
            text = text[len(overlap) :]
        if self._held:
            common = 0
            while common < min(len(text), len(self._held)) and text[common] == self._held[common]:
                common += 1
            self._held = self._held[common:] if common == len(text) else ""
            text = text[common:]
        return [*self._announce(), *self._delta(text, [])]

    def _delta(self, text: str, tools: Sequence[ToolCallDelta], *, last: bool = False) -> list[Event]:
        if not self._sent and not self._sent_tools:
            text, self._blank = self._blank + text, ""
            if not tools and not last and text.isspace():
                self._blank = text
                return []
        if not text and not tools:
            return []
        if text:
            self._sent.append(text)
        if tools:
            self._sent_tools = True
        return [Delta(text, tuple(tools))]

    def _announce(self) -> list[Event]:
        if self._announced:
            return []
        self._announced = True
        return [] if self._same else [self._switched()]

    def _switched(self) -> SwitchedProvider:
        assert self._candidate is not None
        return SwitchedProvider(self._from, self._candidate.selection, self._why)

    def _restart(self) -> list[Event]:
        """The new answer is another one: all of it so far is sent after the notice."""
        assert self._candidate is not None
        self._announced = True
        self._sent, self._sent_tools = [], False
        restarted = Restarted(self._from, self._candidate.selection, self._why)
        self._blank = ""
        return [restarted, *self._delta("".join(self._received), [])]
