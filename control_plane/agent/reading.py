"""Reads the documents of a policy once each: of 10,000 clients and keys, a change touches one or two.

What is written as it was comes back as the same object, so that whatever follows can tell by identity what is new.
Hashes of keys come back bare; one that cannot be opened is no document.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from control_plane.errors import Refused
from control_plane.model import Document, Key, Stored, Table, TableSum
from control_plane.page import DOCUMENTS
from control_plane.sealed import NO_RING, Ring
from control_plane.signed import TableDigests

D = TypeVar("D", bound=Document)
Known = Mapping[str, tuple[bytes, Stored]]
MOST_NAMED = 5


class Unopened(Refused):
    """A key whose sealed hash cannot be opened."""


class Reading:
    """Parsed documents by their bytes.

    Attributes:
        ring: Opens sealed hashes; another one makes all keys be read again.
    """

    def __init__(self) -> None:
        self.ring: Ring = NO_RING
        self._opened_by: Ring = NO_RING
        self._known: dict[Table, Known] = {}
        self._digests = TableDigests()

    def sum(self, table: Table, raws: Mapping[str, bytes]) -> TableSum:
        """The digest of a table; of the same mapping it is taken once, and of the same documents."""
        return self._digests.sum(table, raws)

    def table(self, table: Table, raws: Mapping[str, bytes]) -> tuple[dict[str, Document], dict[str, Refused]]:
        """A table's documents, and why others were refused, by key."""
        if table is Table.KEYS and self._opened_by is not self.ring:
            self._known.pop(table, None)
            self._opened_by = self.ring
        before = self._known.get(table, {})
        found: dict[str, tuple[bytes, Stored]] = {}
        refused: dict[str, Refused] = {}
        for key, raw in raws.items():
            held = before.get(key)
            if held and held[0] == raw:
                found[key] = held
                continue
            try:
                found[key] = raw, self._read(table, key, raw)
            except Refused as error:
                refused[key] = error
        self._known[table] = found
        return {key: document for key, (_, document) in found.items()}, refused

    def _read(self, table: Table, key: str, raw: bytes) -> Stored:
        document = DOCUMENTS[table].stored(raw, table.prefix, key)
        if not isinstance(document, Key):
            return document
        try:
            return self.ring.open(document)
        except Refused as error:
            raise Unopened(str(error)) from error


def told(refused: Mapping[str, Refused]) -> list[str]:
    """What was refused, a sentence each; keys together where the reason is one: without a sealing key it is all."""
    sentences = [str(why) for why in refused.values() if not isinstance(why, Unopened)]
    unopened: dict[str, list[str]] = {}
    for key, why in refused.items():
        if isinstance(why, Unopened):
            unopened.setdefault(str(why), []).append(key)
    for reason, keys in unopened.items():
        more = f" and {len(keys) - MOST_NAMED} more" if len(keys) > MOST_NAMED else ""
        sentences.append(f"key {', '.join(keys[:MOST_NAMED])}{more} refused: {reason}")
    return sentences
