"""Reads the sources that models name for their answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate, islice
from typing import Any

from msgspec.structs import replace

from libs.conversation import Citation
from services.router.providers.wires.fields import MAX_ITEMS, as_count, as_dict, as_list, as_str

#: Bytes that are counted at most to find a place.
_BLOCK = 4096
#: The bytes of UTF-8 that begin no character.
_CONTINUES = bytes(range(0x80, 0xC0))


def read_annotations(value: Any) -> Iterator[Citation]:
    """Yields the citations among annotations of OpenAI's two APIs: their fields stand in the annotation itself, or
    under its type."""
    for annotation in map(as_dict, as_list(value)):
        kind = as_str(annotation.get("type"))
        fields = as_dict(annotation.get(kind)) or annotation
        url = as_str(fields.get("url"))
        title = as_str(fields.get("title")) or as_str(fields.get("filename"))
        if url or title:
            yield Citation(url, title, "", *_span(fields, "start_index", "end_index"))


def read_search_results(data: Mapping[str, Any]) -> Iterator[Citation]:
    """Yields the sources that Perplexity and xAI list beside an answer, the n-th for its mark [n]."""
    results = as_list(data.get("search_results"))
    for result in results:
        fields = as_dict(result)
        if url := as_str(fields.get("url")):
            yield Citation(url, as_str(fields.get("title")))
    if not results:
        for url in as_list(data.get("citations")):
            if as_str(url):
                yield Citation(url)


def read_anthropic_citation(value: Any) -> Iterator[Citation]:
    """Yields a citation of a text block: of a document of the request, or of a page.
    https://docs.anthropic.com/en/docs/build-with-claude/citations"""
    fields = as_dict(value)
    title = as_str(fields.get("document_title")) or as_str(fields.get("title"))
    found = Citation(as_str(fields.get("url")), title, as_str(fields.get("cited_text")))
    if found != Citation():
        yield found


def read_bedrock_citation(value: Any) -> Iterator[Citation]:
    """Yields a citation of Converse.
    https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Citation.html"""
    fields = as_dict(value)
    web = as_dict(as_dict(fields.get("location")).get("web"))
    quote = "".join(as_str(as_dict(part).get("text")) for part in as_list(fields.get("sourceContent")))
    found = Citation(as_str(web.get("url")), as_str(fields.get("title")), quote)
    if found != Citation():
        yield found


def read_cohere_citation(value: Any) -> Iterator[Citation]:
    """Yields one citation for each source of a passage. https://docs.cohere.com/docs/rag-citations"""
    fields = as_dict(value)
    for source in map(as_dict, as_list(fields.get("sources"))):
        document = as_dict(source.get("document"))
        title = as_str(document.get("title")) or as_str(source.get("id"))
        yield Citation(as_str(document.get("url")), title, "", *_span(fields, "start", "end"))


def read_gemini_citations(candidate: Mapping[str, Any], parts: Sequence[str]) -> Iterator[Citation]:
    """Yields the sources of a candidate: those that it recites, and those that it was grounded in, once for each
    passage of the answer that they support. `parts`: the texts of the content's parts, empty for what is no answer.
    https://ai.google.dev/api/generate-content#citationmetadata, …#GroundingMetadata"""
    metadata = as_dict(candidate.get("citationMetadata"))
    grounding = as_dict(candidate.get("groundingMetadata"))
    if not (metadata or grounding):
        return
    text = _Utf8("".join(parts))
    for source in map(as_dict, as_list(metadata.get("citationSources") or metadata.get("citations"))):
        if uri := as_str(source.get("uri")):
            yield Citation(uri, as_str(source.get("title")), "", *text.span(source, 0))
    chunks = [_read_chunk(as_dict(chunk)) for chunk in as_list(grounding.get("groundingChunks"))]
    cited: set[int] = set()
    yield from islice(_read_supports(grounding, chunks, cited, parts, text), MAX_ITEMS)
    yield from (chunk for index, chunk in enumerate(chunks) if chunk and index not in cited)


def _read_chunk(chunk: Mapping[str, Any]) -> Citation | None:
    source = as_dict(chunk.get("web")) or as_dict(chunk.get("retrievedContext"))
    uri = as_str(source.get("uri"))
    return Citation(uri, as_str(source.get("title"))) if uri else None


def _read_supports(
    grounding: Mapping[str, Any],
    chunks: Sequence[Citation | None],
    cited: set[int],
    parts: Sequence[str],
    text: _Utf8,
) -> Iterator[Citation]:
    """Yields the chunks with each passage that they support, and adds their numbers to `cited`."""
    begins = [0, *accumulate(len(part.encode()) for part in parts)]
    for support in map(as_dict, as_list(grounding.get("groundingSupports"))):
        segment = as_dict(support.get("segment"))
        part = as_count(segment.get("partIndex")) or 0
        start, end = text.span(segment, begins[part] if part < len(begins) else 0)
        for number in as_list(support.get("groundingChunkIndices")):
            index = as_count(number)
            source = chunks[index] if index is not None and index < len(chunks) else None
            if index is not None and source is not None:
                cited.add(index)
                yield replace(source, start=start, end=end)


class _Utf8:
    """A text in which Google counts bytes of UTF-8, and callers characters."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._bytes = text.encode("utf-8", "replace")
        #: Characters before every block of bytes.
        self._before = [0]
        for at in range(0, len(self._bytes), _BLOCK):
            self._before.append(self._before[-1] + _count_characters(self._bytes[at : at + _BLOCK]))

    def span(self, fields: Mapping[str, Any], begin: int) -> tuple[int | None, int | None]:
        """Returns the characters of a passage whose bytes count from `begin`; None where they are not those of the
        passage's text, or not given. A start of 0 is left out on the wire."""
        first, last = as_count(fields.get("startIndex")) or 0, as_count(fields.get("endIndex"))
        if last is None:
            return None, None
        start, end = self._character(begin + first), self._character(begin + last)
        if start is None or end is None or start > end:
            return None, None
        said = as_str(fields.get("text"))
        agrees = not said or (len(said) == end - start and said == self._text[start:end])
        return (start, end) if agrees else (None, None)

    def _character(self, byte: int) -> int | None:
        """Returns the place of the character that begins at a byte, or of the end; None where there is none."""
        size = len(self._bytes)
        if byte > size or (byte < size and self._bytes[byte : byte + 1] in _CONTINUES):
            return None
        at = byte - byte % _BLOCK
        return self._before[at // _BLOCK] + _count_characters(self._bytes[at:byte])


def _count_characters(utf8: bytes) -> int:
    return len(utf8.translate(None, _CONTINUES))


class BlockCitations:
    """The citations of a stream's blocks of text: each stands for all text of its block."""

    __slots__ = ("_begin", "_found")

    def __init__(self) -> None:
        self._begin = 0
        self._found: list[Citation] = []

    def add(self, citations: Iterator[Citation]) -> None:
        """Takes citations of the present block in."""
        self._found.extend(citations)

    def end_block(self, length: int) -> list[Citation]:
        """Ends the present block. Returns its citations. `length`: characters of the answer so far."""
        found = [replace(citation, start=self._begin, end=length) for citation in self._found]
        self._begin = length
        self._found.clear()
        return found


def _span(fields: Mapping[str, Any], start: str, end: str) -> tuple[int | None, int | None]:
    """Returns the characters that a citation stands for; None where they are not given or cannot be."""
    found = as_count(fields.get(start)), as_count(fields.get(end))
    if found[0] is None or found[1] is None or not found[0] <= found[1] < 2**31:
        return None, None
    return found
