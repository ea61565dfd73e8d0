"""The events that a caller of a stream gets while providers come and go. Pure.

Until the first piece of content (the commit point) another provider simply begins. White space is none: it is held
back until something follows. After the commit point, a provider that accepts a prefill goes on from the part already
sent; from any other the answer comes anew, the part already sent is matched and suppressed, and where it does not
match the caller is told to start over. So does the same target where it was cut and nobody else is left.

Thoughts are passed on as they come and commit to nothing: until the commit point they are provisional. Where another
attempt begins then, `Restarted` makes them void, and nothing else was sent that it could. After the commit point the
thoughts of another attempt are passed on only where its answer is sent from its beginning: thoughts of an answer that
is merely continued belong to no part of it.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import structs

from libs.answer import Delta, Event, Restarted, Selected, SwitchedProvider
from libs.conversation import Citation, ReasoningDelta, ToolCallDelta
from libs.types import ErrorClass
from services.router.planning.candidate import Candidate
from services.router.request.generation import RefusalDelta, StreamEnd, StreamEvent, TextDelta


class Relay:
    """One caller's view of one streamed answer, over all attempts."""

    def __init__(self, request_id: str) -> None:
        self._request_id = request_id
        self._sent: list[str] = []
        #: Tool calls or a refusal were sent, which no prefill can express.
        self._sent_more = False
        #: Thoughts were sent since the beginning, or since a restart, and whether those of the present attempt are.
        self._sent_thoughts = False
        self._thinks_aloud = True
        self._candidate: Candidate | None = None
        self._from = ""
        self._why: ErrorClass | None = None
        #: The part of what was sent that the present attempt must repeat before anything new passes.
        self._expected = ""
        self._matched = 0
        #: Trailing white space that was sent but left out of a prefill; repeated by most models, so dropped once.
        self._held = ""
        self._announced = True
        #: Characters before the answer of the present attempt, which goes on from them.
        self._before = 0
        #: The present attempt goes on where the same target was cut: nothing to announce.
        self._same = False
        #: White space of the present attempt that nothing was sent before.
        self._blank = ""
        #: Text of the present attempt alone, and its thoughts, tool calls and refusal.
        self._received: list[str] = []
        self._received_more: list[str] = []
        #: Its thoughts so far, where they may yet be sent after a restart.
        self._held_thoughts: list[ReasoningDelta] = []

    @property
    def committed(self) -> bool:
        """Returns True if content has reached the caller."""
        return bool(self._sent) or self._sent_more

    def sent(self) -> str:
        """Returns the text that has reached the caller; empty where tool calls or a refusal have too."""
        return "" if self._sent_more else "".join(self._sent)

    def generated(self) -> str:
        """Returns all that the present attempt has generated, thoughts and tool calls included, for estimates of its
        tokens."""
        return "".join(self._received + self._received_more)

    def prefill(self) -> str:
        """Returns the text that a continuing model is given; empty where a prefill cannot express what was sent.
        Without trailing white space, which some providers refuse."""
        return self.sent().rstrip()

    def begin(self, candidate: Candidate, failure: ErrorClass | None, *, prefilled: bool) -> list[Event]:
        """Begins an attempt and returns its events. `failure`: the class in which the one before ended; None: it has
        not, a hedge was faster."""
        before, self._candidate = self._candidate, candidate
        self._received, self._received_more, self._held_thoughts = [], [], []
        self._expected, self._matched, self._held, self._blank, self._before = "", 0, "", "", 0
        if before is None:
            return [Selected(self._request_id, candidate.selection)]
        self._from = before.model.provider
        self._why = failure
        if not self.committed:
            if self._sent_thoughts:
                return self._restart()
            return [] if before.target == candidate.target else [self._switched()]
        self._announced = self._thinks_aloud = False
        self._same = before.target == candidate.target
        sent = "".join(self._sent)
        if prefilled:
            self._before = len(self.prefill())
            self._held = sent[len(sent.rstrip()) :]
        else:
            self._expected = sent
        return []

    def feed(self, events: Sequence[StreamEvent]) -> list[Event]:
        """Returns the events that a piece of the provider's stream makes. Text of one piece is one delta."""
        text = "".join([event.text for event in events if type(event) is TextDelta])
        out: list[Event] = []
        # Most pieces are text alone.
        more = [event for event in events if type(event) is not TextDelta]
        if more:
            out += self._think([event for event in more if isinstance(event, ReasoningDelta)])
        if text:
            self._received.append(text)
            out += self._text(text)
        if more:
            out += self._beyond_text(more)
        return out

    def _think(self, thoughts: Sequence[ReasoningDelta]) -> list[Event]:
        if not thoughts:
            return []
        self._received_more += [thought.piece.text for thought in thoughts]
        if not self._thinks_aloud:
            self._held_thoughts += thoughts
            return []
        self._sent_thoughts = True
        return [Delta(reasoning=tuple(thoughts))]

    def _beyond_text(self, events: Sequence[StreamEvent]) -> list[Event]:
        """Returns the events that come of all but text and thoughts."""
        out: list[Event] = []
        tools = [event for event in events if isinstance(event, ToolCallDelta)]
        refusal = "".join([event.text for event in events if isinstance(event, RefusalDelta)])
        if tools or refusal:
            self._received_more += [refusal, *[tool.name + tool.arguments_json for tool in tools]]
            # A tool call where text was expected is another answer; so is any after tool calls were sent.
            another = self._repeating or (not self._announced and self._sent_more)
            out += self._restart() if another else self._announce()
            out += self._delta("", tools, refusal=refusal)
        citations = tuple([self._place(event) for event in events if isinstance(event, Citation)])
        if citations and not self._repeating:
            out.append(Delta(citations=citations))
        if type(events[-1]) is StreamEnd:
            if self._repeating:
                # The new answer is shorter than what was sent.
                out += self._restart()
            if self._blank:
                # Nothing follows it.
                out += self._delta("", [], last=True)
        return out

    def _place(self, citation: Citation) -> Citation:
        """Returns the citation with its place in the whole answer."""
        start, end = citation.start, citation.end
        if not self._before or start is None or end is None:
            return citation
        return structs.replace(citation, start=self._before + start, end=self._before + end)

    @property
    def _repeating(self) -> bool:
        return not self._announced and self._matched < len(self._expected)

    def _text(self, text: str) -> list[Event]:
        if not self._announced and self._sent_more:
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

    def _delta(
        self, text: str, tools: Sequence[ToolCallDelta], *, refusal: str = "", last: bool = False
    ) -> list[Event]:
        more = bool(tools or refusal)
        if not self.committed:
            text, self._blank = self._blank + text, ""
            if not more and not last and text.isspace():
                self._blank = text
                return []
        if not text and not more:
            return []
        if text:
            self._sent.append(text)
        if more:
            self._sent_more = True
        return [Delta(text, tuple(tools), refusal=refusal)]

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
        self._sent, self._sent_more, self._sent_thoughts, self._thinks_aloud = [], False, False, True
        restarted = Restarted(self._from, self._candidate.selection, self._why)
        self._blank, self._before = "", 0
        thoughts = self._held_thoughts
        self._held_thoughts = []
        thought = [Delta(reasoning=tuple(thoughts))] if thoughts else []
        self._sent_thoughts = bool(thoughts)
        return [restarted, *thought, *self._delta("".join(self._received), [])]
