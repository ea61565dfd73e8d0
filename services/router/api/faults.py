"""Gathers the faults of a request, and the size of its prompt."""

from __future__ import annotations

from libs.bounds import MAX_ID
from libs.errors import FieldViolation
from services.router.request.attachments import Attachment

_NO_UNICODE = "must be Unicode: it holds half of a surrogate pair"


class Faults(list[FieldViolation]):
    """The faults found in a request, and the size of its prompt."""

    #: Bytes of UTF-8, and those of images and files.
    size = 0
    #: Calls of tools in its messages.
    calls = 0

    def __init__(self) -> None:
        super().__init__()
        #: The sizes of the images and files in its messages.
        self.attachments: list[Attachment] = []

    def check(self, ok: bool, name: str, description: str) -> None:
        """Adds a fault where it is not `ok`."""
        if not ok:
            self.append(FieldViolation(f"generation.{name}", description))

    def check_range(self, value: float, name: str, low: int, high: int) -> None:
        """Adds a fault where the value is not from `low` to `high`, both included."""
        if not low <= value <= high:
            self.check(False, name, f"must be from {low:,} to {high:,}")

    def check_kept(self, name: str, text: str) -> None:
        """Adds the faults of a text that the ledger keeps: too long, or not what PostgreSQL can store."""
        self.check(len(text) <= MAX_ID, name, f"must be at most {MAX_ID} characters")
        self.check("\0" not in text, name, "must not hold NUL characters")
        self.check(count_bytes(text) is not None, name, _NO_UNICODE)

    def measure(self, name: str, text: str) -> None:
        """Counts the bytes of a text of the prompt; adds a fault where it is not Unicode."""
        size = count_bytes(text)
        if size is None:
            self.check(False, name, _NO_UNICODE)
        else:
            self.size += size


def count_bytes(text: str) -> int | None:
    """Returns the text's bytes of UTF-8; None where it has no such form."""
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        return None
