"""Prompts out of product rows."""

from __future__ import annotations

from typing import Any

import pytest

from cli.template import Template, TemplateError, default_prompt, plain


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ({"de-DE": "Becher", "en-GB": "Mug (GB)", "en-US": "Mug"}, "Mug"),
        ({"de-DE": "Becher", "en-AU": "Mug (AU)", "en-GB": "Mug (GB)"}, "Mug (GB)"),
        ({"de-DE": "Becher", "en-AU": "Mug (AU)"}, "Mug (AU)"),
        ({"fr-FR": "Tasse", "de-DE": "Becher"}, "Tasse"),
        ({"en-US": " ", "de-DE": "Becher"}, "Becher"),
        ({"x-custom": "Mug"}, "Mug"),
        ("Mug", "Mug"),
    ],
)
def test_the_name_prefers_english(name: Any, expected: str) -> None:
    """en-US, en-GB, any English, then the first that is not empty."""
    assert f"Name: {expected}" in default_prompt({"name": name}).splitlines()


def test_the_default_prompt_holds_the_facts_and_not_the_reference() -> None:
    """Name, categories and attributes; what the answer will be compared with stays out."""
    prompt = default_prompt(
        {
            "name": {"en-US": "Mug"},
            "categories": ["kitchen", "mugs"],
            "attributes": {"os": "none", "tv": "no", "sizes": ["S", "L"], "gift": True, "empty": None},
            "reference_description": {"en-US": "SECRET"},
        }
    )
    assert prompt.endswith(
        "Name: Mug\nCategories: kitchen, mugs\nAttributes:\n- os: none\n- tv: no\n- sizes: S, L\n- gift: yes"
    )
    assert "SECRET" not in prompt


@pytest.mark.parametrize("row", [{}, {"name": ""}, {"name": {}}, {"name": {"en-US": ""}}, {"name": None}])
def test_a_row_without_a_name_has_no_default_prompt(row: dict[str, Any]) -> None:
    """Empty rather than a prompt about nothing."""
    assert default_prompt(row) == ""


def test_a_template_reads_fields_and_looks_into_mappings() -> None:
    """Localised texts, lists and nested values; doubled braces are braces."""
    row = {
        "name": {"de-DE": "Becher", "en-US": "Mug"},
        "price": {"USD": 3.5},
        "tags": ["a", "b"],
        "a.b": "dot",
    }
    template = Template("{{x}} {name} at {price.USD} ({tags}) {a.b}")
    assert template.fill(row) == "{x} Mug at 3.5 (a, b) dot"


@pytest.mark.parametrize("text", ["{missing}", "{name.__class__}", "{price.EUR}"])
def test_a_field_that_a_row_lacks_is_named(text: str) -> None:
    """Python attributes are no fields."""
    with pytest.raises(TemplateError, match="no field"):
        Template(text).fill({"name": "Mug", "price": {"USD": 1}})


@pytest.mark.parametrize("text", ["{", "{}", "{0}{", "{name!r}", "{name:>99999999999}", "}"])
def test_a_template_that_cannot_be_read_is_refused(text: str) -> None:
    """At once, before any row."""
    with pytest.raises(TemplateError):
        Template(text)


def test_plain_values() -> None:
    """Every JSON value has a text."""
    assert [plain(v) for v in (None, True, 3, 2.5, " x ", [1, None, "a"], {"k": [1]})] == [
        "",
        "yes",
        "3",
        "2.5",
        "x",
        "1, a",
        "- k: 1",
    ]
