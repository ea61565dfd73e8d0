"""Deterministic answers: a plausible product description out of the prompt's own words.

A token is a piece of at most seven letters with its leading space, or one other character: about four characters on
average, as with real tokenisers.
"""

from __future__ import annotations

import hashlib
import random
import re
from functools import lru_cache

_PIECE = re.compile(r" ?[^\W_]{1,7}|.", re.DOTALL)
_QUOTED = re.compile(r"[\"“”„«]([^\"“”„«»\n]{3,80})[\"“”»]")
_LABEL = re.compile(
    r"^(?:product(?: name)?|name|title|item)\s*[:=]\s*(.{2,80})$", re.IGNORECASE | re.MULTILINE
)
_FOR = re.compile(r"\bfor\b\s*:?\s*(?:the |an? |our |this )?([^\n.,;:!?\"“”]{3,80})", re.IGNORECASE)
_WORD = re.compile(r"[^\W\d_]{4,24}")
_PART = re.compile(r"[,;:.!?|\n\"“”(){}\[\]<>]+")
#: The characters at a prompt's beginning and end in which its words are found; a prompt may be megabytes long.
_EXCERPT = 4000
_CACHED_PROMPT = 8192

_STOP_WORDS = """
about above also answer assistant because been being below between brand campaign category characters content
copy could create describe description descriptions detail details does each english exactly explain following
from generate give have help html include into item just keep language like list make meta more most must name
need only other please product products prompt reply returns sentence sentences short should shop some store text
than that their them then there these they this those title tone under user using very want well were what when
which will with without word words would write writer writing your online attributes
"""
_STOP = frozenset(_STOP_WORDS.split())
_SPARE = ("quality", "comfort", "everyday use", "careful finishing", "lasting value", "clean lines")

_OPEN = (
    "The {s} brings {a} and {b} together in one considered design.",
    "Meet the {s}, made for people who care about {a}.",
    "With {a} at its heart, the {s} makes {b} easy.",
    "Looking for {a}? The {s} answers with {b} you can rely on.",
)
_BODY = (
    "Every detail, from {a} to {b}, was chosen to last.",
    "You get {a} without giving up {b}.",
    "Its {a} keeps daily life simple, and its {b} keeps it that way.",
    "It pairs {a} with {b}, so nothing feels like a compromise.",
    "Made with an eye for {a}, it is easy to care for and quick to love.",
    "Whether you start with {a} or finish with {b}, it is ready when you are.",
    "Small touches such as {a} show how much thought went into it.",
    "It sits well beside {a}, travels lightly and asks for little in return.",
)
_CLOSE = (
    "Choose the {s} today and see what {a} can do.",
    "A lasting gift, and a sensible choice for anyone who values {a}.",
    "Bring the {s} home and enjoy {a} from the first day.",
)


def normalise(texts: list[str]) -> str:
    """Returns one prompt out of its parts: spaces collapsed, empty lines dropped, so that a system prompt sent apart
    and one folded into the first message read the same."""
    lines = (" ".join(line.split()) for text in texts for line in text.splitlines())
    return "\n".join(line for line in lines if line)


def pieces(text: str) -> tuple[str, ...]:
    """Returns the text as tokens; joined they give it back."""
    return tuple(_PIECE.findall(text))


def _subject(excerpt: str) -> str:
    for pattern in (_LABEL, _QUOTED, _FOR):
        found = pattern.findall(excerpt)
        if found:
            subject = found[-1].strip(" .,:;!?'\"")
            if subject:
                return " ".join(subject.split()[:8])
    lines = excerpt.splitlines() or [""]
    words = [word for word in _WORD.findall(lines[-1]) if word.lower() not in _STOP]
    return " ".join(words[:4]) or "new arrival"


def ponder(prompt: str) -> str:
    """Returns thoughts about a prompt: the same for the same one."""
    subject = _subject(prompt[-_EXCERPT:])
    return f"The question is about {subject}. I weigh what matters most, then I choose the words."


def _phrases(excerpt: str, subject: str) -> list[str]:
    """Returns the prompt's phrases about the subject: its short comma-separated parts, else its longer words."""
    skip = {word.lower() for word in subject.split()}

    def telling(text: str) -> bool:
        words = text.split()
        return 1 <= len(words) <= 4 and not any(word in _STOP or word in skip for word in words)

    parts = (part.strip().lower() for part in _PART.split(excerpt))
    found = dict.fromkeys(part for part in parts if 4 <= len(part) <= 40 and telling(part))
    if len(found) < 2:
        found.update(dict.fromkeys(word for word in map(str.lower, _WORD.findall(excerpt)) if telling(word)))
    phrases = list(found)[:16]
    return phrases + list(_SPARE[: max(0, 4 - len(phrases))])


def _write(prompt: str, seed: str, count: int | None) -> tuple[str, ...]:
    excerpt = prompt if len(prompt) <= 2 * _EXCERPT else prompt[:_EXCERPT] + "\n" + prompt[-_EXCERPT:]
    digest = hashlib.blake2b(f"{seed}\0{prompt}".encode(errors="replace"), digest_size=8).digest()
    dice = random.Random(digest)
    subject = _subject(excerpt)
    phrases = _phrases(excerpt, subject)
    target = 45 + dice.randrange(40) if count is None else count

    def sentence(template: str) -> str:
        a, b = dice.sample(phrases, 2)
        return template.format(s=subject, a=a, b=b)

    out = list(pieces(sentence(dice.choice(_OPEN))))
    bodies: list[str] = []
    while len(out) < target:
        if count is None and len(out) + 20 >= target:
            out.extend(pieces(" " + sentence(dice.choice(_CLOSE))))
            break
        bodies = bodies or dice.sample(_BODY, len(_BODY))
        out.extend(pieces(" " + sentence(bodies.pop())))
    if count is not None and len(out) > count:
        out = [*out[: count - 1], "."] if count else []
    return tuple(out)


_write_cached = lru_cache(maxsize=1024)(_write)


def write(prompt: str, *, seed: int = 0, voice: str = "", count: int | None = None) -> tuple[str, ...]:
    """Returns the answer's tokens for a normalised prompt. The same arguments always give the same text; `voice`
    tells apart providers with an answer of their own; `count` asks for exactly that many tokens."""
    tag = f"{seed}\0{voice}"
    if len(prompt) > _CACHED_PROMPT or (count or 0) > 4096:
        return _write(prompt, tag, count)
    return _write_cached(prompt, tag, count)
