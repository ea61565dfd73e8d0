"""JSON that callers send as text: schemas and the arguments of earlier tool calls. Bounded before it is decoded.

Values cost more than bytes: a list of nothing takes 3 bytes of JSON and 56 of memory. They are counted from above,
since an exact count needs a decoder: each value but the first follows `[` or `,`, in an object with its key `{` or
`,`, and what stands inside strings only makes it more. Counting characters is a hundred times faster than decoding.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

#: Bytes of all schemas of a request. They are decoded here and again for each attempt, at up to 80 ms a MiB.
MAX_SCHEMA_BYTES = 1024 * 1024
#: Values of all schemas of a request.
MAX_SCHEMA_VALUES = 100_000
#: Values of all arguments of a request, which may hold whole files of code.
MAX_ARGUMENT_VALUES = 250_000
#: Lists and objects inside each other. Python's own bound is some 900, and code that meets it fails.
MAX_DEPTH = 100


def count_values(text: str) -> int:
    """Returns how many values the JSON holds at most."""
    return text.count(",") + text.count("[") + text.count("{")


def find_schema_fault(text: str) -> str | None:
    """Returns what is wrong with a JSON Schema of bounded size; None: nothing."""
    try:
        value = json.loads(text)
    except RecursionError:
        return _TOO_DEEP
    except ValueError:
        # Not JSON; or an integer of more digits than Python reads.
        return "must be a JSON object"
    if type(value) is not dict:
        return "must be a JSON object"
    return _TOO_DEEP if _is_too_deep(value) else None


def find_arguments_fault(text: str) -> str | None:
    """Returns what is wrong with a tool call's arguments of bounded size; None: nothing. Models write text that is
    not JSON as well, which is for the provider to judge."""
    if text.count("[") + text.count("{") <= MAX_DEPTH:
        return None
    try:
        return _TOO_DEEP if _is_too_deep(json.loads(text, strict=False)) else None
    except RecursionError:
        return _TOO_DEEP
    except ValueError:
        return None


_TOO_DEEP = f"must not hold more than {MAX_DEPTH} lists and objects inside each other"


def _is_too_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [inner for item in level for inner in _values_in(item)]
        if not level:
            return False
    return True


def _values_in(value: Any) -> Iterable[Any]:
    if type(value) is dict:
        return value.values()
    return value if type(value) is list else ()
