"""Errors as HTTP answers, whoever notices them: the parser, the server, or what is served."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from libs.errors import PointsmanError

#: The most characters of a message that are sent.
MAX_MESSAGE = 1000
#: Characters of the caller's text that a message repeats at most.
MAX_REPEATED = 200


class HttpError(Exception):
    """An answer that is an error. `code` is a stable lower_snake name; the message is for a person, and cut."""

    def __init__(
        self, status: int, message: str, *, code: str | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(message[:MAX_MESSAGE])
        self.status = status
        self.message = message[:MAX_MESSAGE]
        self.code = code
        self.headers: dict[str, str] = dict(headers or {})


def printable(text: str) -> str:
    """Returns text of a URL or header as a message may repeat it: cut, and with what is not ASCII escaped, since it
    need not be Unicode at all."""
    return text[:MAX_REPEATED].encode("ascii", "backslashreplace").decode()


class ErrorShape(Protocol):
    """The shape in which an edge shows errors, its own and the server's."""

    content_type: str

    def body(self, error: HttpError) -> bytes:
        """Returns the body of the answer."""
        ...

    def translate(self, error: PointsmanError) -> HttpError:
        """Returns the HTTP error that an error of ours is."""
        ...
