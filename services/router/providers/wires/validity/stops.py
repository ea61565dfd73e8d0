"""Stop sequences that the router looks for itself, beyond those that a vendor takes."""

from __future__ import annotations

from collections.abc import Sequence


class _Search:
    """Finds one text in pieces, in time linear in both (Knuth, Morris and Pratt, 1977)."""

    __slots__ = ("_back", "_text", "matched")

    def __init__(self, text: str) -> None:
        self._text = text
        self._back = [0] * len(text)
        length = 0
        for at in range(1, len(text)):
            while length and text[at] != text[length]:
                length = self._back[length - 1]
            length += text[at] == text[length]
            self._back[at] = length
        #: Characters of the text that the pieces so far end with.
        self.matched = 0

    def find(self, piece: str) -> int | None:
        """Returns where in the piece the text ends; None where it does not."""
        text, back, matched = self._text, self._back, self.matched
        for at, character in enumerate(piece, 1):
            while matched and character != text[matched]:
                matched = back[matched - 1]
            matched += character == text[matched]
            if matched == len(text):
                self.matched = matched
                return at
        self.matched = matched
        return None


class StopSearch:
    """Holds back what may be the beginning of a stop sequence, and cuts the text before one."""

    __slots__ = ("_held", "_searches", "_texts", "found")

    def __init__(self, stops: Sequence[str]) -> None:
        self._texts = stops
        self._searches = [_Search(stop) for stop in stops]
        self._held = ""
        #: A stop sequence came: nothing after it counts.
        self.found = False

    def feed(self, piece: str) -> str:
        """Returns the text that is known to be the answer's."""
        if self.found:
            return ""
        # The first that is complete counts; of those that end together, the longest.
        cut: tuple[int, int] | None = None
        for stop, search in zip(self._texts, self._searches, strict=True):
            end = search.find(piece)
            if end is not None and (cut is None or (end, -len(stop)) < cut):
                cut = (end, -len(stop))
        text = self._held + piece
        if cut is not None:
            self.found = True
            end = len(self._held) + cut[0]
            self._held = ""
            return text[: end + cut[1]]
        hold = max(search.matched for search in self._searches)
        at = len(text) - hold
        self._held = text[at:]
        return text[:at]

    def flush(self) -> str:
        """Returns what was held back, where the text ends or something else stands in it."""
        held, self._held = self._held, ""
        for search in self._searches:
            search.matched = 0
        return held
