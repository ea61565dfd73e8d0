"""Errors as HTTP answers, whoever notices them: the parser, the server, or what is served."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from libs.errors import PointsmanError

#: The most characters of a message that are sent.
MAX_MESSAGE = 1000


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


class ErrorShape(Protocol):
    """The shape in which an edge shows errors, its own and the server's."""

    content_type: str

    def body(self, error: HttpError) -> bytes:
        """Returns the body of the answer."""
        ...

    def translate(self, error: PointsmanError) -> HttpError:
        """Returns the HTTP error that an error of ours is."""
        ...
