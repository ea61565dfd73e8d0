"""Sends an answer byte by byte as given, without growing: blocks of many pieces, made as the client reads."""

from __future__ import annotations

import zlib
from base64 import b64decode
from collections.abc import Iterator

from aiohttp import web

from dev.simulator.behaviour import Raw
from dev.simulator.connection import Connection

#: Bytes of a block, more or less: few enough for others to have their turn, and many enough to be fast.
_BLOCK = 64 * 1024
#: zlib's word for gzip's own header and trailer.
_GZIP = 31


async def play(connection: Connection, raw: Raw) -> web.StreamResponse:
    """Gives the answer, to its end or until the client is gone."""
    headers = dict(raw.headers) | ({"Content-Encoding": "gzip"} if raw.gzip else {})
    connection.head(raw.status, raw.content_type, headers.items())
    for block in _packed(raw) if raw.gzip else _blocks(raw):
        connection.chunk(block)
        connection.flush()
        if not await connection.drained():
            return connection.close()
    connection.last_chunk()
    return connection.done()


def _blocks(raw: Raw) -> Iterator[bytes]:
    for number, piece in enumerate(raw.body):
        data = piece.text.encode() + b64decode(piece.base64)
        together = max(1, _BLOCK // max(1, len(data)))
        block = data * min(together, piece.times)
        for _ in range(piece.times // together if len(data) else 0):
            yield block
        yield data * (piece.times % together)
        while raw.endless and number == len(raw.body) - 1:
            yield data * together


def _packed(raw: Raw) -> Iterator[bytes]:
    pack = zlib.compressobj(wbits=_GZIP)
    for block in _blocks(raw):
        yield pack.compress(block)
    yield pack.flush()
