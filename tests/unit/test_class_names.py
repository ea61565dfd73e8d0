"""The names of classes: one name, one meaning, wherever the libraries and the router meet."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[2]


def homonyms(sources: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Returns the public classes that several of these (module, source text) define, with the modules."""
    found = defaultdict(list)
    for module, text in sources:
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found[node.name].append(module)
    return {name: modules for name, modules in sorted(found.items()) if len(modules) > 1}


def test_a_class_of_the_libraries_or_the_router_has_a_name_of_its_own() -> None:
    """A reader who meets a name knows which class it is: values that both sides of a wire mean are defined once."""
    files = [path for part in ("libs", "services/router") for path in (ROOT / part).rglob("*.py")]
    assert len(files) > 100
    assert homonyms((str(path.relative_to(ROOT)), path.read_text()) for path in files) == {}


def test_homonyms_are_found() -> None:
    """Classes of one name in two modules are; private ones and nested ones are a module's own business."""
    first = "class Delta: ...\nclass _Call: ...\nclass Outer:\n    class Inner: ..."
    second = "class Delta: ...\nclass _Call: ...\nclass Other:\n    class Inner: ..."
    assert homonyms([("a", first), ("b", second)]) == {"Delta": ["a", "b"]}
