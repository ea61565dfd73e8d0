"""Text made to stop a router: every regular expression that sees a provider's words, and every error body, costs time
in proportion to its length, and what is searched has a bound."""

from __future__ import annotations

import importlib
import itertools
import json
import pkgutil
import re
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import pytest

from libs.types import ErrorClass
from services.router.providers import wires as room
from services.router.providers.wires import waits
from services.router.providers.wires.error_body import MAX_PROSE, read_error
from services.router.providers.wires.error_words import RULES, Rule
from services.router.request.generation import ProviderFailure
from tests.support.growth import grows_linearly
from tests.unit.router.providers.wires.samples import WIRES

SIZE = 500


def _patterns(value: Any) -> Iterator[re.Pattern[Any]]:
    """Every compiled expression inside a value."""
    if isinstance(value, re.Pattern):
        yield value
    elif isinstance(value, Rule):
        yield value.words
    elif isinstance(value, dict):
        yield from itertools.chain.from_iterable(map(_patterns, value.values()))
    elif isinstance(value, (tuple, list, frozenset, set)):
        yield from itertools.chain.from_iterable(map(_patterns, value))


def _room() -> dict[str, re.Pattern[Any]]:
    """Every expression of the room, by where it stands."""
    found: dict[str, re.Pattern[Any]] = {}
    for module in pkgutil.iter_modules(room.__path__):
        names = vars(importlib.import_module(f"{room.__name__}.{module.name}"))
        for name, value in names.items():
            for pattern in _patterns(value):
                found.setdefault(pattern.pattern, pattern)
                found[pattern.pattern] = pattern
                assert isinstance(pattern.pattern, str), f"{module.name}.{name}: bytes are not tried here"
    return found


def _texts(pattern: str) -> Iterator[Callable[[int], str]]:
    """Texts of a given length made of an expression's own words: repeated, run together, before long runs of what its
    repetitions take, and before one another."""
    words = sorted({word.strip() for word in re.findall(r"[A-Za-z</>:=_ -]+", pattern)}, key=len)[-24:]
    for word in filter(None, (*words, "9", " ", "<", "'", '"', "*", "a", "a ", "1m", "eyJ-")):
        for unit in (word, f"{word} ", f"{word}>", f"{word} 9"):
            yield partial(_repeated, unit)
        for run in (" ", "9", "a"):
            yield partial(_before_a_run, word, run)
    yield partial(_repeated, " ".join(words) + " ")


def _repeated(unit: str, size: int) -> str:
    return (unit * (size // len(unit) + 1))[:size]


def _before_a_run(word: str, run: str, size: int) -> str:
    return word + " " + run * size


ROOM = _room()


def test_the_rooms_expressions_are_found() -> None:
    """The rules, the notations of waits and limits, the looks of keys: a new one is found by itself."""
    assert len(ROOM) >= 30
    assert {r.words.pattern for r in RULES} <= set(ROOM)


@pytest.mark.parametrize("pattern", ROOM.values(), ids=[text[:40] for text in ROOM])
def test_every_expression_is_linear(pattern: re.Pattern[str]) -> None:
    """Eight times the text costs about eight times the CPU, matched whole and found all over."""
    for text in _texts(pattern.pattern):

        def work(size: int, text: Callable[[int], str] = text) -> Callable[[], object]:
            made = text(size)

            def search() -> None:
                pattern.fullmatch(made)
                for _ in pattern.finditer(made):
                    pass

            return search

        assert grows_linearly(work, SIZE), (pattern.pattern, text(60))


@pytest.mark.parametrize("bad", [r"request too large.*\bper minute\b", r"<title[^>]*>\s*(.*?)\s*</title>"])
def test_the_check_tells_quadratic_from_linear(bad: str) -> None:
    """Expressions that once stood here are found out, so the check can fail."""
    pattern = re.compile(bad, re.DOTALL)
    assert any(
        not grows_linearly(lambda n, text=text: partial(pattern.search, text(n)), SIZE)  # type: ignore[misc]
        for text in _texts(bad)
    )


def _page(unit: str, size: int) -> bytes:
    return _repeated(unit, size).encode()


def _field(unit: str, field: str, size: int) -> bytes:
    return json.dumps({"error": {field: _repeated(unit, size)}}).encode()


def _bodies() -> Iterable[tuple[str, Callable[[int], bytes]]]:
    for name, unit in (
        ("title", "<title>"),
        ("tags", "<"),
        ("closed tags", "<a>"),
        ("too large", "request too large "),
        ("exhausted", "resource_exhausted "),
        ("digits", "9"),
        ("quotes", "'a "),
        ("apostrophes", "'"),
        ("keys", "bearer "),
        ("waits", "retry in 1s "),
        ("braces", "{"),
        ("brackets", "["),
        ("escapes", "\\"),
    ):
        yield name, partial(_page, unit)
        for field in ("message", "code", "type", "status", "param"):
            yield f"{name} in {field}", partial(_field, unit, field)
    yield "spaces behind a title", lambda n: b"<html><title>" + b" " * n
    yield "a request behind digits", lambda n: b"limit 1 requested " + b"9" * n
    yield "json in json", lambda n: json.dumps({"message": json.dumps({"message": "[" * n})}).encode()
    yield "many messages", lambda n: json.dumps([{"message": "a"}] * (n // 16)).encode()
    yield "details", lambda n: json.dumps({"details": [{"retryDelay": "x"}] * (n // 20)}).encode()


@pytest.mark.parametrize("make", [make for _, make in _bodies()], ids=[name for name, _ in _bodies()])
@pytest.mark.parametrize("status", [429, 503])
def test_every_body_is_classified_in_linear_time(make: Callable[[int], bytes], status: int) -> None:
    """As a page, as text, in a field of JSON and as a stream's error: typed, and no more than in proportion."""
    wire = WIRES["openai"]

    def work(size: int) -> Callable[[], object]:
        body = make(size)
        return lambda: wire.failure(status, {}, body)

    assert grows_linearly(work, 6000)
    failure = wire.failure(status, {"content-type": "text/html"}, make(64_000))
    assert isinstance(failure, ProviderFailure)
    if status == 503:
        assert failure.error_class in (ErrorClass.SERVER_ERROR, ErrorClass.OVERLOADED)


def test_what_is_searched_has_a_bound() -> None:
    """However long a body is, its prose, its codes and its message are short."""
    for _, make in _bodies():
        found = read_error(make(64_000), {"x-amzn-errortype": "A" * 9000})
        assert len(found.prose) <= len(found.words) + MAX_PROSE
        assert len(found.words) <= MAX_PROSE
        assert len(found.codes) <= 16
        assert all(len(code) <= 80 for code in found.codes)
        assert len(found.message) <= 2 * MAX_PROSE + 64


@pytest.mark.parametrize(
    "name", ["retry-after", "retry-after-ms", "date", "x-ratelimit-reset-requests", "ratelimit"]
)
def test_headers_of_any_length_say_something_or_nothing(name: str) -> None:
    """No header raises, whatever its digits."""
    for value in ("9" * 8000, "1m" * 4000, '"a";r=0;t=9,' * 600, "Tue, 01 Dec " * 600, "-" + "9" * 8000):
        headers = {name: value, "x-ratelimit-remaining-requests": "0", "retry-after-x": value}
        failure = WIRES["openai"].failure(429, headers, b"")
        assert failure.retry_after is None or 0 <= failure.retry_after <= waits.MAX_WAIT_SECONDS
