"""Tokens of pages. They are not secret, and a forged one shows nothing more: a token names the query that it belongs
to and the place to go on from, is read by its types, and becomes parameters of that query."""

from __future__ import annotations

import base64
import binascii
import math

import msgspec

from libs.bounds import MAX_ID
from libs.errors import FieldViolation, InvalidArgument

#: Characters: four values of at most 257 characters in UTF-8 and base64, the rest small.
_MAX_TOKEN = 8192
_MAX_VALUE = 2 * MAX_ID + 512


class PageToken(msgspec.Struct, frozen=True, array_like=True):
    """`query` is a fingerprint; `since` and `until` are its range, epoch seconds; `bucket` and `values` the last
    group that was shown."""

    query: str
    since: float
    until: float
    bucket: float | None
    values: tuple[str, ...]


_DECODER = msgspec.json.Decoder(PageToken)


def write_page_token(token: PageToken) -> str:
    """Returns the token's text."""
    return base64.urlsafe_b64encode(msgspec.json.encode(token)).decode()


def read_page_token(text: str, query: str) -> PageToken:
    """Returns the token of a text. Raises InvalidArgument where it is none, or one of another query."""
    refusal = InvalidArgument([FieldViolation("query.page_token", "must be a token of this query")])
    if len(text) > _MAX_TOKEN:
        raise refusal
    try:
        token = _DECODER.decode(base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True))
    except (UnicodeError, binascii.Error, msgspec.DecodeError) as error:
        raise refusal from error
    numbers = (token.since, token.until, token.bucket or 0.0)
    if token.query != query or not all(math.isfinite(number) and number >= 0 for number in numbers):
        raise refusal
    if any(len(value) > _MAX_VALUE for value in token.values):
        raise refusal
    return token
