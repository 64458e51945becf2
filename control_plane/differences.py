"""What a change does, for people and scripts: which documents, which fields, and the lines of a unified diff. Pure."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from control_plane.model import Change, Table
from control_plane.resources import KIND_OF, render

Action = Literal["added", "changed", "removed", "touched"]
Value = dict[str, object] | None
SECRET_KINDS: Mapping[Table, str] = {Table.KEYS: "Key", Table.OPERATORS: "Operator"}
SIGNS: Mapping[str, str] = {"added": "+", "changed": "~", "removed": "-", "touched": "~"}
CONTEXT_LINES = 3
WIDTH = 80
ABSENT = "-"


@dataclass(frozen=True)
class FieldChange:
    """One field before and after; ``path`` is like ``lanes[0].weight_pct``. None where it was not there."""

    path: str
    before: object
    after: object


@dataclass(frozen=True)
class Difference:
    """One document before and after, as values; both None for a key, whose content is never shown."""

    kind: str
    name: str
    before: Value
    after: Value

    @property
    def action(self) -> Action:
        """What happens to it."""
        if self.before is None and self.after is None:
            return "touched"
        if self.before is None:
            return "added"
        return "removed" if self.after is None else "changed"

    @property
    def fields(self) -> tuple[FieldChange, ...]:
        """What differs, field by field, of a document that was there before and after."""
        return tuple(_fields("", self.before, self.after)) if self.before and self.after else ()

    def lines(self) -> list[str]:
        """For people: a heading, and a line per field that differs."""
        heading = f"{SIGNS[self.action]} {self.kind} {self.name}"
        return [heading, *(line for field in self.fields for line in _field_lines(field))]

    def unified(self) -> list[str]:
        """A unified diff of the document as it stands in a file."""
        if self.action == "touched":
            return [f"~ {self.kind} {self.name} (its content is not kept)"]
        name = f"{self.kind} {self.name}"
        before, after = (_text(value) for value in (self.before, self.after))
        old, new = name if self.before else "/dev/null", name if self.after else "/dev/null"
        return list(difflib.unified_diff(before, after, old, new, lineterm="", n=CONTEXT_LINES))


def differences(changes: Iterable[Change]) -> tuple[Difference, ...]:
    """The changes of a record, or of one to come, by kind and name."""
    found = (_difference(change) for change in changes)
    order = [*KIND_OF.values(), *SECRET_KINDS.values()]
    return tuple(sorted(found, key=lambda one: (order.index(one.kind), one.name)))


def _difference(change: Change) -> Difference:
    for table in Table:
        if change.key.startswith(table.prefix):
            kind, name = KIND_OF.get(table) or SECRET_KINDS[table], change.key.removeprefix(table.prefix)
            return Difference(kind, name, _value(kind, change.before), _value(kind, change.after))
    raise ValueError(f"{change.key} lies under no table")


def _value(kind: str, raw: str | None) -> Value:
    if raw is None:
        return None
    try:
        value = json.loads(raw)
    except ValueError:
        value = None
    # What another hand wrote need not be a document at all; it is shown as it lies there.
    return {"kind": kind, **value} if isinstance(value, dict) else {"kind": kind, "raw": raw}


def _fields(path: str, before: object, after: object) -> Iterator[FieldChange]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in [*before, *(name for name in after if name not in before)]:
            yield from _fields(f"{path}.{name}" if path else str(name), before.get(name), after.get(name))
    elif isinstance(before, list) and isinstance(after, list):
        for n in range(max(len(before), len(after))):
            old, new = (values[n] if n < len(values) else None for values in (before, after))
            yield from _fields(f"{path}[{n}]", old, new)
    elif before != after:
        yield FieldChange(path, before, after)


def _field_lines(field: FieldChange) -> list[str]:
    line = f"    {field.path}: {_short(field.before)} -> {_short(field.after)}"
    if len(line) <= WIDTH:
        return [line]
    return [f"    {field.path}:", f"      - {_short(field.before)}", f"      + {_short(field.after)}"]


def _short(value: object) -> str:
    if value is None:
        return ABSENT
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)


def _text(value: Value) -> list[str]:
    return render([value]).splitlines()[1:] if value else []
