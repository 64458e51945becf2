"""A large ``clients.json`` is left alone; what has changed since lies beside it, in ``clients-changes.json``.

With 10,000 clients the table has 5 MB: to write it for each key, and to read it in the plugin, takes half a second of
CPU at each gate. A whole one is written after so many changes, and whenever in doubt. Pure but for what it remembers.
"""

from __future__ import annotations

from collections.abc import Mapping

Json = Mapping[str, object]

LARGE = 1_000
"""Clients and keys together; a smaller table is written whole, which takes milliseconds."""
MOST_CHANGED = 250
PARTS = ("clients", "keys")


def large(table: Json) -> bool:
    """Whether changes of a table are to lie beside it."""
    return sum(len(_part(table, name)) for name in PARTS) >= LARGE


def merged(whole: Json, changes: Json) -> dict[str, object]:
    """The table that two files make, as the plugin reads them."""
    if not whole.get("changes") or changes.get("base") != whole.get("serial"):
        return dict(whole)
    parts = {name: {**_part(whole, name), **_part(changes, name)} for name in PARTS}
    left = {name: {key: what for key, what in part.items() if what is not None} for name, part in parts.items()}
    said = {name: what for name, what in changes.items() if name != "base"}
    return {**whole, **said, **left}


class Beside:
    """What has changed since a large table was last written whole by this process."""

    def __init__(self) -> None:
        self._whole: Json = {}

    def written(self, table: Json) -> None:
        """A table was written whole."""
        self._whole = table

    def changes(self, table: Json) -> dict[str, object] | None:
        """What makes the last whole one the given table; None if that is to be written whole."""
        if not self._whole or not large(self._whole) or not large(table):
            return None
        parts = {name: _between(_part(self._whole, name), _part(table, name)) for name in PARTS}
        if sum(map(len, parts.values())) > MOST_CHANGED:
            return None
        return {**table, **parts, "base": self._whole["serial"]}


def _part(table: Json, name: str) -> Mapping[str, object]:
    found = table.get(name)
    return found if isinstance(found, Mapping) else {}


def _between(before: Mapping[str, object], after: Mapping[str, object]) -> dict[str, object]:
    # Entries of what has not changed are the same objects: see `render.ClientsTable`.
    found = {key: what for key, what in after.items() if before.get(key) is not what and before.get(key) != what}
    gone = before.keys() - after.keys() if len(before) + len(found) != len(after) else ()
    return {**found, **dict.fromkeys(gone)}
