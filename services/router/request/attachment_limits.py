"""The bounds that vendors document for images and documents of one request; who has none here takes what the router
takes.

OpenAI: https://platform.openai.com/docs/guides/images-vision#image-input-requirements. Anthropic:
https://docs.anthropic.com/en/docs/build-with-claude/vision#evaluate-image-size. Bedrock:
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Message.html. Gemini:
https://ai.google.dev/gemini-api/docs/image-understanding#supported-formats. Cohere:
https://docs.cohere.com/docs/image-inputs. Groq: https://console.groq.com/docs/vision. xAI:
https://docs.x.ai/docs/guides/image-understanding. Mistral: https://docs.mistral.ai/capabilities/vision.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from services.router.request.attachments import Attachment, SentDocument, SentImage

_ANY = ("image/png", "image/jpeg", "image/gif", "image/webp")


class _Bounds(Struct, frozen=True):
    """The most of everything: images, bytes and pixels a side of each, their sides where there are more than 20;
    media types; documents and bytes of each. 0: no bound. `still`: no image may have frames."""

    images: int = 0
    image_size: int = 0
    side: int = 0
    side_of_many: int = 0
    types: tuple[str, ...] = _ANY
    documents: int = 0
    document_size: int = 0
    still: bool = False


_CLAUDE = _Bounds(side=8000, side_of_many=2000)
_NO_GIF = ("image/png", "image/jpeg", "image/webp")
_OPENAI = _Bounds(still=True)
_BOUNDS = {
    **dict.fromkeys(("openai", "openai_responses", "azure_openai", "azure_responses"), _OPENAI),
    "anthropic": _CLAUDE,
    "bedrock": _Bounds(20, 3_750_000, 8000, documents=5, document_size=4_500_000),
    "bedrock_invoke": _CLAUDE,
    "gemini": _Bounds(types=_NO_GIF),
    "vertex": _Bounds(types=_NO_GIF),
    "cohere": _Bounds(20),
    # In base64 4 MB.
    "groq": _Bounds(5, 3_000_000),
    "mistral": _Bounds(8),
    "xai": _Bounds(types=("image/png", "image/jpeg")),
}


def find_excess(attachments: Sequence[Attachment], kind: str) -> str:
    """Returns why a provider of this kind does not take them, in words for a person; empty where it does."""
    bounds = _BOUNDS.get(kind)
    if bounds is None or not attachments:
        return ""
    images = [item for item in attachments if isinstance(item, SentImage)]
    documents = [item for item in attachments if isinstance(item, SentDocument)]
    side = bounds.side_of_many if len(images) > 20 and bounds.side_of_many else bounds.side
    if bounds.images and len(images) > bounds.images:
        return f"takes at most {bounds.images} images"
    if bounds.documents and len(documents) > bounds.documents:
        return f"takes at most {bounds.documents} documents"
    for image in images:
        if bounds.image_size and image.size > bounds.image_size:
            return f"takes images of at most {bounds.image_size} bytes"
        if side and image.size and max(image.width, image.height) > side:
            return f"takes images of at most {side} pixels a side"
        if image.media_type and image.media_type not in bounds.types:
            return f"does not take {image.media_type}"
        if bounds.still and image.animated:
            return "takes no animated images"
    if bounds.document_size and any(document.size > bounds.document_size for document in documents):
        return f"takes documents of at most {bounds.document_size} bytes"
    return ""
