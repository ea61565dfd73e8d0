"""Images and documents of a request as far as estimates are concerned: their sizes, and the tokens that they are on
each model by its vendor's documented rule, until providers' own counts replace them.

OpenAI: https://platform.openai.com/docs/guides/images-vision#calculating-costs. Anthropic:
https://docs.anthropic.com/en/docs/build-with-claude/vision#calculate-image-costs and …/pdf-support. Gemini:
https://ai.google.dev/gemini-api/docs/tokens, …/image-understanding, …/media-resolution. Cohere:
https://docs.cohere.com/docs/image-inputs. Together: https://docs.together.ai/docs/vision-overview. xAI:
https://docs.x.ai/docs/guides/image-understanding. Mistral: https://mistralai.github.io/mistral-common/usage/images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from msgspec import Struct

from libs.catalog.model import Model, Provider
from libs.conversation import File, Image, ImageDetail
from services.router.request.pictures import count_pages, is_animated, measure_image, read_media_type


class SentImage(Struct, frozen=True):
    """An image: pixels, bytes (0: behind an address) and media type (empty: likewise). `animated`: it has frames."""

    width: int
    height: int
    size: int = 0
    media_type: str = ""
    detail: ImageDetail | None = None
    animated: bool = False

    def fit(self, side: float, other: float = math.inf) -> tuple[float, float]:
        """Returns width and height scaled down so that the longer is at most `side`, the shorter at most `other`."""
        longer, shorter = max(self.width, self.height), min(self.width, self.height)
        scale = min(1.0, side / longer, other / shorter)
        return self.width * scale, self.height * scale


class SentDocument(Struct, frozen=True):
    """A document: pages, and bytes (0: behind an address)."""

    pages: int
    size: int = 0


Attachment = SentImage | SentDocument
#: Of images and documents behind an address: larger than most.
UNKNOWN_IMAGE, UNKNOWN_PAGES = 2048, 20


def measure(part: Image | File) -> Attachment | None:
    """Returns the size of an image or a document; None where an image's header does not tell it."""
    if isinstance(part, File):
        return SentDocument(count_pages(part.data) if part.data else UNKNOWN_PAGES, len(part.data))
    size = measure_image(part.data) if part.data else (UNKNOWN_IMAGE, UNKNOWN_IMAGE)
    if size is None:
        return None
    return SentImage(*size, len(part.data), read_media_type(part.data), part.detail, is_animated(part.data))


class _Rule(Struct, frozen=True):
    """A vendor's rule: the tokens of an image, and of a page of a document, its text included."""

    image: Callable[[SentImage], float]
    page: float


def attachment_tokens(attachments: Iterable[Attachment], provider: Provider, model: Model) -> int:
    """Returns the tokens of images and documents on a model, rounded up."""
    # A deployment may be called anything; then the catalog's name may tell the model.
    names = [name.rpartition("/")[2] for name in (model.wire_name, model.name)]
    rule = _find_rule(provider.kind, names)
    return math.ceil(
        sum(
            rule.image(item) if isinstance(item, SentImage) else rule.page * item.pages
            for item in attachments
        )
    )


def _find_rule(kind: str, names: Iterable[str]) -> _Rule:
    for name in names:
        if "claude" in name:
            return _CLAUDE if any(part in name for part in _CLAUDE_STANDARD) else _CLAUDE_FINE
        for prefix, rule in _BY_MODEL.items():
            if name.startswith(prefix):
                return rule
    return _BY_KIND.get(kind, _OTHERS)


def _tiles(base: int, tile: int) -> Callable[[SentImage], float]:
    """OpenAI's older rule: scaled into 2048 × 2048, the shorter side to 768, then tiles of 512."""

    def tokens(size: SentImage) -> float:
        if size.detail is ImageDetail.LOW:
            return base
        return base + tile * _count(size.fit(2048, 768), 512)

    return tokens


def _patches(multiplier: float) -> Callable[[SentImage], float]:
    """OpenAI's newer rule: patches of 32, scaled down to at most 1536 of them, times the model's multiplier."""
    return lambda size: min(1536, _count((size.width, size.height), 32)) * multiplier


def _area(side: int, most: int) -> Callable[[SentImage], float]:
    """Anthropic's rule: width × height / 750, scaled down to a longer side and to a number of tokens."""

    def tokens(size: SentImage) -> float:
        width, height = size.fit(side)
        return min(most, width * height / 750)

    return tokens


def _gemini_tiles(size: SentImage) -> float:
    """258 tokens up to 384 pixels a side, else for each tile; its side is two thirds of the shorter, 256 to 768."""
    if max(size.width, size.height) <= 384:
        return 258
    width, height = size.fit(3072)
    side = min(768, max(256, math.floor(min(width, height) / 1.5)))
    return 258 * _count((width, height), side)


def _capped_tiles(side: int, tile: int, most: int, extra: int) -> Callable[[SentImage], float]:
    """At most so many tiles, and so many besides for the whole picture."""
    return lambda size: tile * (min(most, _count((size.width, size.height), side)) + extra)


def _count(size: tuple[float, float], side: int) -> int:
    return math.ceil(size[0] / side) * math.ceil(size[1] / side)


#: A page is 1500 to 3000 tokens at Anthropic, 258 or 560 at Gemini, its text and an image of it at OpenAI.
_CLAUDE = _Rule(_area(1568, 1600), 3000)
_CLAUDE_FINE = _Rule(_area(2576, 4784), 3000)
_GEMINI = _Rule(_gemini_tiles, 258)
_GPT = _Rule(_tiles(85, 170), 1900)
_OTHERS = _Rule(_area(1568, 1600), 1500)
#: Claude models that see at most 1568 pixels; those after them see 2576.
_CLAUDE_STANDARD = ("claude-3", "haiku-4", "sonnet-4", *(f"opus-4-{n}" for n in (0, 1, 2, 5, 6)))
#: By the beginning of the name, longer ones first.
_BY_MODEL = {
    "gpt-4.1-mini": _Rule(_patches(1.62), 3300),
    "gpt-4.1-nano": _Rule(_patches(2.46), 4600),
    "o4-mini": _Rule(_patches(1.72), 3500),
    "gpt-5-mini": _Rule(_patches(1.62), 3300),
    "gpt-5-nano": _Rule(_patches(2.46), 4600),
    "gpt-4o-mini": _Rule(_tiles(2833, 5667), 38_000),
    "gpt-5": _Rule(_tiles(70, 140), 1700),
    "o1": _Rule(_tiles(75, 150), 1800),
    "o3": _Rule(_tiles(75, 150), 1800),
    "gpt-": _GPT,
    "gemini-3": _Rule(lambda size: 1120, 560),
    "gemini": _GEMINI,
}
_BY_KIND = {
    **dict.fromkeys(("openai", "openai_responses", "azure_openai", "azure_responses"), _GPT),
    "anthropic": _CLAUDE_FINE,
    "gemini": _GEMINI,
    "vertex": _GEMINI,
    "mistral": _Rule(lambda size: _count(size.fit(1540), 28) * 57 / 56, 1500),
    "cohere": _Rule(_capped_tiles(512, 256, 12, 1), 1500),
    "together": _Rule(_capped_tiles(560, 1601, 4, 0), 1500),
    "xai": _Rule(_capped_tiles(448, 256, 6, 1), 1500),
}
