"""The sources that models name, on every wire, and the passages of the answer that they stand for."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from libs.conversation import Citation
from services.router.providers.wires.citations import read_gemini_citations
from services.router.request.generation import TextDelta
from tests.unit.router.providers.wires.samples import WIRES, frame, sse

BEFORE, PASSAGE, AFTER = "Grüße 😀: ", "Der Becher hält 300 ml. 🍵", " Ende."
TEXT = BEFORE + PASSAGE + AFTER
URL = "https://a.example"
SPAN = (len(BEFORE), len(BEFORE + PASSAGE))
PAGE = {"type": "web_search_result_location", "url": URL, "title": "A", "cited_text": "300 ml"}
CONVERSE = {"title": "A", "location": {"web": {"url": URL}}, "sourceContent": [{"text": "300 ml"}]}


def size(text: str) -> int:
    return len(text.encode())


def grounding(**segment: Any) -> dict[str, Any]:
    chunks = [{"web": {"uri": "https://b.example"}}, {"web": {"uri": URL, "title": "A"}}]
    place = {"startIndex": size(BEFORE), "endIndex": size(BEFORE + PASSAGE), "text": PASSAGE, **segment}
    return {
        "groundingChunks": chunks,
        "groundingSupports": [{"segment": place, "groundingChunkIndices": [1]}],
    }


def gemini(*texts: str, **more: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": [{"text": text} for text in texts]}, **more}]}


ENDED = {"finishReason": "STOP"}
RECITED = {"citationSources": [{"uri": URL, "startIndex": size(BEFORE), "endIndex": size(BEFORE + PASSAGE)}]}
ANNOTATION = {"type": "url_citation", "url": URL, "title": "A", "start_index": SPAN[0], "end_index": SPAN[1]}
WHOLE: dict[str, tuple[str, Any]] = {
    "anthropic": (
        "anthropic",
        {
            "content": [
                {"type": "text", "text": BEFORE},
                {"type": "text", "text": PASSAGE, "citations": [PAGE]},
                {"type": "text", "text": AFTER},
            ],
            "stop_reason": "end_turn",
        },
    ),
    "bedrock": (
        "bedrock",
        {
            "output": {
                "message": {
                    "content": [
                        {"text": BEFORE},
                        {"citationsContent": {"content": [{"text": PASSAGE}], "citations": [CONVERSE]}},
                        {"text": AFTER},
                    ]
                }
            },
            "stopReason": "end_turn",
        },
    ),
    "gemini, grounded": ("gemini", gemini(TEXT, groundingMetadata=grounding(), **ENDED)),
    "gemini, grounded in its second part": (
        "gemini",
        gemini(
            BEFORE,
            PASSAGE + AFTER,
            groundingMetadata=grounding(partIndex=1, startIndex=0, endIndex=size(PASSAGE)),
            **ENDED,
        ),
    ),
    "gemini, recited": ("gemini", gemini(TEXT, citationMetadata=RECITED, **ENDED)),
    "openai": (
        "openai",
        {
            "choices": [
                {"message": {"content": TEXT, "annotations": [ANNOTATION]}, "finish_reason": "stop"},
            ]
        },
    ),
    "openai_responses": (
        "openai_responses",
        {
            "status": "completed",
            "output": [
                {
                    "type": "message",
                    "content": [{"type": "output_text", "text": TEXT, "annotations": [ANNOTATION]}],
                }
            ],
        },
    ),
}


def anthropic_events(*, early: bool, stops: bool) -> bytes:
    """`early`: the citation comes before its text; `stops`: blocks are ended."""
    events: list[dict[str, Any]] = []
    for index, text in enumerate((BEFORE, PASSAGE, AFTER)):
        begun = {"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}}
        pieces = [
            {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": half}}
            for half in (text[:3], text[3:])
        ]
        if text is PASSAGE:
            cited = {"type": "citations_delta", "citation": PAGE}
            place = 0 if early else len(pieces)
            pieces.insert(place, {"type": "content_block_delta", "index": index, "delta": cited})
        events += [begun, *pieces, *([{"type": "content_block_stop", "index": index}] if stops else [])]
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
    return sse(*events, end, {"type": "message_stop"})


def converse_events() -> bytes:
    frames = []
    for index, text in enumerate((BEFORE, PASSAGE, AFTER)):
        deltas = [{"text": text}, *([{"citation": CONVERSE}] if text is PASSAGE else [])]
        frames += [frame("contentBlockDelta", {"contentBlockIndex": index, "delta": d}) for d in deltas]
        frames.append(frame("contentBlockStop", {"contentBlockIndex": index}))
    return b"".join([*frames, frame("messageStop", {"stopReason": "end_turn"}), frame("metadata", {})])


STREAMS = {
    "anthropic": ("anthropic", anthropic_events(early=False, stops=True)),
    "anthropic, the source first": ("anthropic", anthropic_events(early=True, stops=True)),
    "anthropic, without ends of blocks": ("anthropic", anthropic_events(early=False, stops=False)),
    "bedrock": ("bedrock", converse_events()),
    "gemini": (
        "gemini",
        sse(
            gemini(BEFORE + PASSAGE[:4]), gemini(PASSAGE[4:] + AFTER, groundingMetadata=grounding(), **ENDED)
        ),
    ),
    "gemini, the source again and again": (
        "gemini",
        sse(
            gemini(BEFORE, groundingMetadata=grounding()),
            gemini(PASSAGE + AFTER, groundingMetadata=grounding(), **ENDED),
        ),
    ),
}


@pytest.mark.parametrize("name", WHOLE)
def test_a_source_stands_for_its_passage(name: str) -> None:
    """In characters of the answer, whatever the vendor counts."""
    kind, body = WHOLE[name]
    answer = WIRES[kind].completion(200, {}, json.dumps(body).encode())
    (found,) = [citation for citation in answer.citations if citation.url == URL]
    assert answer.text == TEXT
    assert answer.text[found.start : found.end] == PASSAGE


@pytest.mark.parametrize("name", STREAMS)
def test_a_source_of_a_stream_stands_for_its_passage(name: str) -> None:
    """Likewise, and once."""
    kind, body = STREAMS[name]
    decoder = WIRES[kind].decoder()
    events = [*decoder.feed(body), *decoder.close()]
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    (found,) = [event for event in events if isinstance(event, Citation) and event.url == URL]
    assert text == TEXT
    assert text[found.start : found.end] == PASSAGE


@pytest.mark.parametrize(
    "segment",
    [
        {"startIndex": size(BEFORE) + 1},
        {"startIndex": size("Gr") + 1, "text": ""},
        {"endIndex": size(TEXT) + 1},
        {"startIndex": size(TEXT), "endIndex": 0},
        {"endIndex": None},
        {"partIndex": 7, "startIndex": 1},
    ],
)
def test_a_place_that_cannot_be_is_none(segment: dict[str, Any]) -> None:
    """A source whose passage is not in the answer is a source all the same."""
    candidate = {"groundingMetadata": grounding(**segment)}
    found = [citation for citation in read_gemini_citations(candidate, [TEXT]) if citation.url == URL]
    assert found == [Citation(URL, "A")]


def test_many_sources_of_a_long_answer_take_little_time() -> None:
    """Places are found without reading the answer anew for each, and their number is bounded."""
    text = "ä" * 200_000
    segments = [{"startIndex": 399_998 - 2 * n, "endIndex": 400_000} for n in range(4096)]
    supports = [{"segment": segment, "groundingChunkIndices": [0] * 64} for segment in segments]
    metadata = {"groundingChunks": [{"web": {"uri": URL}}], "groundingSupports": supports}
    began = time.process_time()
    found = list(read_gemini_citations({"groundingMetadata": metadata}, [text]))
    assert len(found) == 4096
    assert time.process_time() - began < 5
