"""A change that a person, or a rule in their name, has made to what the fleet obeys."""

from __future__ import annotations

from dataclasses import dataclass

from libs.bounds import MAX_ID, MAX_REASON
from libs.errors import FieldViolation, InvalidArgument

#: Characters of a setting as JSON.
MAX_SETTING = 65_536
#: Characters of the name of what is changed: a provider's and a model's.
MAX_NAME = 2 * MAX_ID + 1
#: The year 2200, epoch seconds.
_LATEST = 7_258_118_400.0


@dataclass(frozen=True, slots=True)
class Change:
    """One change of the thing that `kind` and `name` say. Of one thing the change with the greatest `order` stands.

    `version` counts the changes of one thing, from 1; `at`: epoch seconds, to the microsecond; `before` and `after`:
    the setting as JSON, empty where there is none; `undoes`: the id of the change that it takes back. Raises
    InvalidArgument naming each wrong field."""

    change_id: str
    kind: str
    name: str
    version: int
    at: float
    author: str
    reason: str
    before: str
    after: str
    undoes: str = ""

    def __post_init__(self) -> None:
        faults = []
        for field, text, least, most in (
            ("change_id", self.change_id, 1, MAX_ID),
            ("kind", self.kind, 1, MAX_ID),
            ("name", self.name, 1, MAX_NAME),
            ("author", self.author.strip(), 1, MAX_ID),
            ("reason", self.reason.strip(), 1, MAX_REASON),
            ("before", self.before, 0, MAX_SETTING),
            ("after", self.after, 0, MAX_SETTING),
            ("undoes", self.undoes, 0, MAX_ID),
        ):
            if not least <= len(text) <= most or "\0" in text:
                faults.append(FieldViolation(field, f"must be {least} to {most} characters without NUL"))
        if not 1 <= self.version < 2**53:
            faults.append(FieldViolation("version", "must be from 1 on"))
        if not 0 <= self.at <= _LATEST:
            faults.append(FieldViolation("at", "must be from 1970 to 2200"))
        if faults:
            raise InvalidArgument(faults)
        # As it is kept everywhere, so that a change read back is the same.
        object.__setattr__(self, "at", round(self.at, 6))

    @property
    def thing(self) -> tuple[str, str]:
        """The kind and the name of what was changed."""
        return (self.kind, self.name)

    @property
    def order(self) -> tuple[int, float, str]:
        """The sort key among the changes of one thing; total, so that replicas cannot disagree."""
        return (self.version, self.at, self.change_id)
