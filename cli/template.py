"""Makes prompts out of product rows."""

from __future__ import annotations

import re
import string
from collections.abc import Mapping, Sequence
from typing import Any

#: The languages preferred, in this order, where a text comes in several; then any English, then the first there is.
LOCALES = ("en-US", "en-GB")
# A language alone could as well be an attribute ("os", "tv"), so only common ones count.
_LOCALE = re.compile(r"[a-z]{2,3}-[A-Z]{2}|en|de|fr|es|it|nl|pt|pl|sv|ja|zh")

_DEFAULT = """\
Write a product description for an online shop, in the language of the product's name. \
Use only the facts below; two short paragraphs, no headings."""


class TemplateError(ValueError):
    """The template cannot be read, or names a field that a row does not have."""


def plain(value: Any) -> str:
    """Returns a field's value as text: localised texts in the preferred language, lists with commas, mappings as
    lines of "- name: value". Empty for None."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return _localised(value) if _is_localised(value) else _lines(value)
    if isinstance(value, Sequence):
        return ", ".join(text for text in map(plain, value) if text)
    return str(value)


def _lines(value: Mapping[str, Any]) -> str:
    lines = [(name, plain(item)) for name, item in value.items()]
    return "\n".join(f"- {name}: {text}" for name, text in lines if text)


def _is_localised(value: Mapping[str, Any]) -> bool:
    return bool(value) and all(
        _LOCALE.fullmatch(name) and isinstance(item, str) for name, item in value.items()
    )


def _localised(value: Mapping[str, str]) -> str:
    english = sorted(name for name in value if name.split("-")[0] == "en")
    for name in (*LOCALES, *english, *value):
        if text := value.get(name, "").strip():
            return text
    return ""


def default_prompt(row: Mapping[str, Any]) -> str:
    """Returns a product description prompt from name, categories and attributes; empty where the row has no name.
    Never from a reference description, which would be copied."""
    name = row.get("name")
    # A name is localised even where its only key does not look like a locale.
    text = _localised(name) if isinstance(name, dict) and _all_text(name) else plain(name)
    if not text:
        return ""
    parts = [_DEFAULT, f"Name: {text}"]
    if categories := plain(row.get("categories")):
        parts.append(f"Categories: {categories}")
    attributes = row.get("attributes")
    if text := _lines(attributes) if isinstance(attributes, dict) else plain(attributes):
        parts.append(f"Attributes:\n{text}")
    return "\n\n".join((parts[0], "\n".join(parts[1:])))


def _all_text(value: Mapping[str, Any]) -> bool:
    return all(isinstance(item, str) for item in value.values())


class Template(string.Formatter):
    """A prompt with {fields} of the row: `{name}`, `{categories}`, `{attributes.color}`; `{{` for a brace. Only
    mappings are read, never Python attributes. Raises TemplateError."""

    def __init__(self, text: str) -> None:
        self.text = text
        try:
            for _, name, spec, conversion in self.parse(text):
                if name is None:
                    continue
                if not name or spec or conversion:
                    raise TemplateError("fields are written {name} or {name.part}, nothing else")
        except ValueError as error:
            raise TemplateError(f"the template cannot be read: {error}") from None

    def fill(self, row: Mapping[str, Any]) -> str:
        """Returns the prompt of one row."""
        return self.vformat(self.text, (), row).strip()

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[str, str]:
        value: Any = kwargs
        for part in [field_name] if field_name in kwargs else field_name.split("."):
            if not isinstance(value, Mapping) or part not in value:
                raise TemplateError(f"the row has no field {field_name!r}, which the template names")
            value = value[part]
        return plain(value), field_name
