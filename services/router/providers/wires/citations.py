"""Reads the sources that models name for their answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from libs.conversation import Citation
from services.router.providers.wires.fields import as_count, as_dict, as_list, as_str


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


def read_gemini_citations(candidate: Mapping[str, Any]) -> Iterator[Citation]:
    """Yields the sources of a candidate: those that it recites, and those that it was grounded in.
    https://ai.google.dev/api/generate-content#citationmetadata"""
    metadata = as_dict(candidate.get("citationMetadata"))
    for source in map(as_dict, as_list(metadata.get("citationSources") or metadata.get("citations"))):
        if uri := as_str(source.get("uri")):
            # Counted in bytes of the text, which nobody here has at hand.
            yield Citation(uri, as_str(source.get("title")))
    grounding = as_dict(candidate.get("groundingMetadata"))
    for chunk in map(as_dict, as_list(grounding.get("groundingChunks"))):
        web = as_dict(chunk.get("web"))
        if uri := as_str(web.get("uri")):
            yield Citation(uri, as_str(web.get("title")))


def _span(fields: Mapping[str, Any], start: str, end: str) -> tuple[int | None, int | None]:
    """Returns the characters that a citation stands for; None where they are not given or cannot be."""
    found = as_count(fields.get(start)), as_count(fields.get(end))
    if found[0] is None or found[1] is None or not found[0] <= found[1] < 2**31:
        return None, None
    return found
