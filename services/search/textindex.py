"""A ranked full-text index of files, in SQLite FTS5. Knows nothing of roots or of where files come from.

Invariants: lives in a private database that SQLite drops with the connection, so nothing is left behind whatever
ends the process; one connection behind one lock, so a reader waits for at most one batch. Blocks: call it in a thread.
"""

import re
import sqlite3
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

__all__ = ["Chunk", "Document", "Stamp", "TextIndex", "query_words"]

_CHUNK_LINES = 40
_QUERY_WORDS = 32
_WORD = re.compile(r"\w+")
_MIXED = re.compile(r"[a-z0-9][A-Z]|[A-Z]{2}[a-z]")
_CAMEL = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\da-zA-Z_]+")

_SCHEMA = """
CREATE TABLE file (id INTEGER PRIMARY KEY, path TEXT UNIQUE NOT NULL, mtime_ns INTEGER NOT NULL, size INTEGER NOT NULL);
CREATE TABLE chunk (id INTEGER PRIMARY KEY, file INTEGER NOT NULL, first INTEGER NOT NULL);
CREATE INDEX chunk_file ON chunk (file);
CREATE VIRTUAL TABLE words USING fts5 (path, body, parts, tokenize = "porter unicode61");
"""

_MATCHING = """
FROM words JOIN chunk ON chunk.id = words.rowid JOIN file ON file.id = chunk.file
WHERE words MATCH :match AND (:within = '' OR file.path = :within OR file.path GLOB :inside)
"""

# A word in the path says most about what a file is for; parts of identifiers a little less than whole words.
_SEARCH = f"""
SELECT file.path, file.mtime_ns, file.size, chunk.first, words.body, bm25(words, 3.0, 1.0, 0.7) AS rank
{_MATCHING} ORDER BY rank, file.path, chunk.first LIMIT :limit
"""

_COUNT = f"SELECT count(*) {_MATCHING}"

Stamp = tuple[int, int]
"""Time of change in ns, and size: what tells that a file is another one now."""


@dataclass(frozen=True)
class Document:
    """A file to index."""

    path: str
    stamp: Stamp
    text: str


@dataclass(frozen=True)
class Chunk:
    """A part of a file that matches.

    Args:
        path: The file.
        stamp: Its state when it was indexed.
        first_line: Where it starts, from 1.
        text: Its lines.
        score: Larger is better.
    """

    path: str
    stamp: Stamp
    first_line: int
    text: str
    score: float


def _parts(text: str) -> list[str]:
    """The words inside of identifiers: `readFile` → read, File."""
    found: dict[str, None] = {}
    for word in dict.fromkeys(_WORD.findall(text)):
        if not word.islower() and _MIXED.search(word):
            found.update(dict.fromkeys(_CAMEL.findall(word)))
    return list(found)


def query_words(query: str) -> list[str]:
    """The words of a query, those inside of identifiers as well, each once."""
    words = [piece for word in _WORD.findall(query) for piece in word.split("_") if piece]
    return list(dict.fromkeys(word.lower() for word in [*words, *_parts(query)]))[:_QUERY_WORDS]


class TextIndex:
    """The index of one root."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # "": a temporary database of this connection alone, in memory until it grows, then in an unlinked file.
        self._database = sqlite3.connect("", check_same_thread=False)
        self._database.executescript(_SCHEMA)

    def close(self) -> None:
        """Drop the index."""
        with self._lock:
            self._database.close()

    def stamps(self) -> dict[str, Stamp]:
        """What is indexed, in which state."""
        with self._lock:
            rows = self._database.execute("SELECT path, mtime_ns, size FROM file")
            return {path: (mtime_ns, size) for path, mtime_ns, size in rows}

    def counts(self) -> tuple[int, int]:
        """Files and chunks."""
        with self._lock:
            files = self._database.execute("SELECT count(*) FROM file").fetchone()[0]
            chunks = self._database.execute("SELECT count(*) FROM chunk").fetchone()[0]
            return files, chunks

    def update(self, documents: Iterable[Document], gone: Iterable[str] = ()) -> None:
        """Put `documents` in, in place of what was there under their paths, and take `gone` out; all or nothing."""
        with self._lock, self._database:
            for path in gone:
                self._remove(path)
            for document in documents:
                self._remove(document.path)
                self._add(document)

    def search(self, words: Sequence[str], *, within: str, limit: int) -> tuple[list[Chunk], int]:
        """The best chunks with any of `words`, and how many there are in all.

        Args:
            words: As `query_words` gives them.
            within: Only this file, or files in this folder; "" for all.
            limit: The most chunks.
        """
        if not words:
            return [], 0
        # Quoted, a word is only a word: no operator of FTS5 comes from a caller.
        match = " OR ".join(f'"{word}"' for word in words)
        inside = re.sub(r"[*?\[]", r"[\g<0>]", within) + "/*"
        wanted = {"match": match, "within": within, "inside": inside, "limit": limit}
        with self._lock:
            rows = self._database.execute(_SEARCH, wanted).fetchall()
            total: int = self._database.execute(_COUNT, wanted).fetchone()[0]
        found = [Chunk(path, (mtime_ns, size), first, body, -rank) for path, mtime_ns, size, first, body, rank in rows]
        return found, total

    def _remove(self, path: str) -> None:
        row = self._database.execute("SELECT id FROM file WHERE path = ?", (path,)).fetchone()
        if row is None:
            return
        self._database.execute("DELETE FROM words WHERE rowid IN (SELECT id FROM chunk WHERE file = ?)", row)
        self._database.execute("DELETE FROM chunk WHERE file = ?", row)
        self._database.execute("DELETE FROM file WHERE id = ?", row)

    def _add(self, document: Document) -> None:
        insert = self._database.execute
        file = insert(
            "INSERT INTO file (path, mtime_ns, size) VALUES (?, ?, ?)", (document.path, *document.stamp)
        ).lastrowid
        lines = document.text.split("\n")
        for first in range(0, len(lines), _CHUNK_LINES):
            body = "\n".join(lines[first : first + _CHUNK_LINES])
            if not body.strip():
                continue
            chunk = insert("INSERT INTO chunk (file, first) VALUES (?, ?)", (file, first + 1)).lastrowid
            path = f"{document.path} {' '.join(_parts(document.path))}"
            insert(
                "INSERT INTO words (rowid, path, body, parts) VALUES (?, ?, ?, ?)",
                (chunk, path, body, " ".join(_parts(body))),
            )
