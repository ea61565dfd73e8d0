"""The base of decoders of streams whose answer comes in blocks, as Claude's does: a source stands for all text of its
block."""

from __future__ import annotations

from services.router.providers.wires.citations import BlockCitations
from services.router.providers.wires.stream import Decoder, Parser


class BlockDecoder(Decoder):
    """Decodes blocks. A subclass adds the sources of a block to `_citations`, and tells where it ends."""

    __slots__ = ("_citations",)

    def __init__(self, parser: Parser | None = None, *, may_be_empty: bool = False) -> None:
        super().__init__(parser, may_be_empty=may_be_empty)
        self._citations = BlockCitations()
