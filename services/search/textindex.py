"""A ranked full-text index of files: tantivy for words, SQLite for which files are in it and in which state.

Knows nothing of roots or of where files come from. Invariants: words are committed before the list of files is, so that
after a death at any moment the list is older than the words and the files between are read again; a folder of another
layout, or that cannot be opened, is begun anew; one process writes, any number read. Blocks: call it in a thread.
"""

import fcntl
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tantivy

from services.search.passages import Passage, passages
from services.search.stems import CODE, WHOLE, stems
from services.search.words import identifiers, parts, words_of

__all__ = ["Chunk", "Document", "Query", "Stamp", "TextIndex", "Weights"]

_LAYOUT = 2  # of both stores; each has a folder of its own, so that versions side by side do not share an index
_OWNER = "owner"
_HEAP_BYTES = 48 << 20

_FILES = """
CREATE TABLE IF NOT EXISTS file (path TEXT PRIMARY KEY, mtime_ns INTEGER NOT NULL, size INTEGER NOT NULL,
    chunks INTEGER NOT NULL, skipped TEXT NOT NULL) WITHOUT ROWID;
"""

Stamp = tuple[int, int]
"""Time of change in ns, and size: what tells that a file is another one now."""


@dataclass(frozen=True)
class Document:
    """A file to index.

    Args:
        path: The file.
        stamp: Its state.
        text: What it holds.
        skipped: Why it is left out, "" when it is not.
        passages: Its passages where they are known already.
    """

    path: str
    stamp: Stamp
    text: str = ""
    skipped: str = ""
    passages: Sequence[Passage] | None = None


@dataclass(frozen=True)
class Chunk:
    """A part of a file that matches.

    Args:
        path: The file.
        stamp: Its state when it was indexed.
        first_line: Where it starts, from 1.
        last_line: Where it ends.
        names: What is defined in it, separated by blanks.
        score: Larger is better.
    """

    path: str
    stamp: Stamp
    first_line: int
    last_line: int
    names: str
    score: float


@dataclass(frozen=True)
class Weights:
    """How much a word counts by where it stands (docs/decisions/0031).

    Args:
        body: Anywhere in the chunk.
        names: In the name of a definition.
        path: In the file's path.
        identifier: A whole identifier of several words, as the question writes it.
    """

    body: float = 1.0
    names: float = 1.0
    path: float = 0.25
    identifier: float = 1.0


@dataclass(frozen=True)
class Query:
    """What to look for.

    Args:
        words: Any of them.
        identifiers: Whole identifiers of the question.
        within: Only this file, or files in this folder; "" for all.
        weights: How much a word counts by where it stands.
    """

    words: Sequence[str]
    identifiers: Sequence[str] = ()
    within: str = ""
    weights: Weights = Weights()

    @classmethod
    def of(cls, text: str, words: Sequence[str], within: str, weights: Weights) -> "Query":
        """The query of a question."""
        return cls(words, tuple(dict.fromkeys(word.lower() for word in identifiers(words_of(text)))), within, weights)


def _schema() -> tantivy.Schema:
    builder = tantivy.SchemaBuilder()
    builder.add_text_field("path", stored=True, tokenizer_name="raw", index_option="basic")
    builder.add_text_field("folders", tokenizer_name="raw", index_option="basic")
    builder.add_text_field("body", tokenizer_name="whole", index_option="freq")
    builder.add_text_field("names", stored=True, tokenizer_name="code", index_option="freq")
    builder.add_text_field("where", tokenizer_name="whole", index_option="freq")
    builder.add_text_field("identifiers", tokenizer_name="whole", index_option="freq")
    builder.add_bytes_field("span", stored=True)  # first and last line, time of change, size
    return builder.build()


class TextIndex:
    """The index of one root.

    Args:
        folder: Where it is kept; None to keep it in memory.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = None if folder is None else folder / f"layout-{_LAYOUT}"
        self._lock = threading.Lock()
        self._writer: tantivy.IndexWriter | None = None
        self._pending: dict[str, tuple[Document, int] | None] = {}
        self._owner: int | None = None
        self._schema = _schema()
        self._open()

    @property
    def writable(self) -> bool:
        """Whether this process may write; taken over from one that is gone."""
        if self._owner is not None or self._folder is None:
            return True
        with self._lock:
            return self._own()

    def close(self) -> None:
        """Let go of it."""
        with self._lock:
            if self._writer is not None:
                self._writer.rollback()
                self._writer = None
            self._files.close()
            if self._owner is not None:
                os.close(self._owner)
                self._owner = None

    def files(self) -> dict[str, Stamp]:
        """All files it knows, skipped ones too, in which state."""
        with self._lock:
            rows = self._files.execute("SELECT path, mtime_ns, size FROM file")
            return {os.fsdecode(path): (mtime_ns, size) for path, mtime_ns, size in rows}

    def skipped(self) -> dict[str, list[str]]:
        """Files that were left out, by why."""
        found: dict[str, list[str]] = {}
        with self._lock:
            for path, why in self._files.execute("SELECT path, skipped FROM file WHERE skipped != '' ORDER BY path"):
                found.setdefault(why, []).append(os.fsdecode(path))
        return found

    def counts(self) -> tuple[int, int]:
        """Files and chunks in it."""
        with self._lock:
            row = self._files.execute("SELECT count(*), coalesce(sum(chunks), 0) FROM file WHERE skipped = ''")
            files, chunks = row.fetchone()
            return files, chunks

    def bytes_on_disk(self) -> int:
        """How large it is; 0 in memory."""
        if self._folder is None:
            return 0
        total = 0
        for path in self._folder.rglob("*"):
            with suppress(OSError):  # merged away meanwhile
                total += path.stat().st_size if path.is_file() else 0
        return total

    def update(self, documents: Iterable[Document], gone: Iterable[str] = ()) -> None:
        """Put `documents` in place of what was there under their paths, and take `gone` out; seen after `commit`."""
        with self._lock:
            writer = self._writing()
            for path in gone:
                writer.delete_documents_by_term("path", _key(path))
                self._pending[path] = None
            for document in documents:
                writer.delete_documents_by_term("path", _key(document.path))
                self._pending[document.path] = document, self._add(writer, document)

    def commit(self) -> None:
        """Show what was updated."""
        with self._lock:
            if not self._pending:
                return
            self._writing().commit()
            self._index.reload()
            with self._files:
                for path, put in self._pending.items():
                    self._files.execute("DELETE FROM file WHERE path = ?", (os.fsencode(path),))
                    if put is not None:
                        document, chunks = put
                        row = (os.fsencode(path), *document.stamp, chunks, document.skipped)
                        self._files.execute("INSERT INTO file VALUES (?, ?, ?, ?, ?)", row)
            self._pending.clear()

    def reload(self) -> None:
        """See what another process has written."""
        with self._lock:
            self._index.reload()

    def search(self, query: Query, *, limit: int) -> tuple[list[Chunk], int]:
        """The best chunks, and how many there are in all.

        Args:
            query: What to look for.
            limit: The most chunks.
        """
        asked = self._query(query)
        if asked is None:
            return [], 0
        searcher = self._index.searcher()
        found = searcher.search(asked, limit=limit, count=True)
        return [_chunk(searcher.doc(address).to_dict(), score) for score, address in found.hits], found.count or 0  # type: ignore[attr-defined]  # its stubs forget it

    def _query(self, query: Query) -> tantivy.Query | None:
        weights: Mapping[str, float] = {
            "body": query.weights.body,
            "names": query.weights.names,
            "where": query.weights.path,
        }
        stems = dict.fromkeys(stem for word in query.words for stem in CODE.analyze(word))
        should = [
            (tantivy.Occur.Should, tantivy.Query.boost_query(self._term(field, stem), weight))
            for stem in stems
            for field, weight in weights.items()
            if weight
        ]
        if query.weights.identifier:
            should += [
                (
                    tantivy.Occur.Should,
                    tantivy.Query.boost_query(self._term("identifiers", word), query.weights.identifier),
                )
                for word in query.identifiers
            ]
        if not should:
            return None
        any_of = tantivy.Query.boolean_query(should)
        if not query.within:
            return any_of
        inside = tantivy.Query.const_score_query(self._term("folders", _key(query.within)), 0.0)
        return tantivy.Query.boolean_query([(tantivy.Occur.Must, any_of), (tantivy.Occur.Must, inside)])

    def _term(self, field: str, value: str) -> tantivy.Query:
        return tantivy.Query.term_query(self._schema, field, value, "freq")

    def _add(self, writer: tantivy.IndexWriter, document: Document) -> int:
        if document.skipped:
            return 0
        path, where = _key(document.path), stems(document.path, words_of(document.path))
        folders = [path[:at] for at, letter in enumerate(path) if letter == "/"]
        found = passages(document.path, document.text) if document.passages is None else document.passages
        for passage in found:
            made = tantivy.Document()  # its fields one by one: as arguments they take several times as long
            made.add_text("path", path)
            for folder in (path, *folders):
                made.add_text("folders", folder)
            made.add_text("body", passage.stems)
            made.add_text("names", passage.names)
            if passage.names:
                made.add_text("names", " ".join(parts(passage.names.split())))
            made.add_text("where", where)
            made.add_text("identifiers", passage.identifiers)
            made.add_bytes("span", b"%d %d %d %d" % (passage.first_line + 1, passage.end_line, *document.stamp))
            writer.add_document(made)
        return len(found)

    def _writing(self) -> tantivy.IndexWriter:
        if self._writer is None:
            self._writer = self._index.writer(heap_size=_HEAP_BYTES, num_threads=1)
        return self._writer

    def _own(self) -> bool:
        """Become the one process that writes, if there is none."""
        if self._folder is None or self._owner is not None:
            return True
        fd = os.open(self._folder / _OWNER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._owner = fd
        return True

    def _open(self) -> None:
        if self._folder is None:
            self._index = self._words(None)
            self._files = _database(":memory:")
            return
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        owned = self._own()
        if owned:
            _remove_others(self._folder)
        try:
            self._open_stores(self._folder)
        except (ValueError, OSError, sqlite3.Error):
            if not owned:
                raise
            self._begin_anew(self._folder)
            self._open_stores(self._folder)

    def _open_stores(self, folder: Path) -> None:
        words = folder / "words"
        words.mkdir(exist_ok=True)
        self._files = _database(str(folder / "files.sqlite"))
        self._index = self._words(words)
        self._index.searcher()

    def _words(self, folder: Path | None) -> tantivy.Index:
        made = tantivy.Index(self._schema, None if folder is None else str(folder))
        made.register_tokenizer("code", CODE)
        made.register_tokenizer("whole", WHOLE)
        return made

    def _begin_anew(self, folder: Path) -> None:
        for path in folder.iterdir():
            if path.name != _OWNER:
                _remove(path)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _remove_others(folder: Path) -> None:
    """Remove what is beside `folder`, the index of another layout, unless somebody writes it."""
    if _is_written(folder.parent):  # that of the first layout had no folder of its own
        return
    for other in folder.parent.iterdir():
        if other != folder and not _is_written(other):
            with suppress(OSError):
                _remove(other)


def _is_written(folder: Path) -> bool:
    try:
        with (folder / _OWNER).open("rb") as owner:
            fcntl.flock(owner, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _database(path: str) -> sqlite3.Connection:
    database = sqlite3.connect(path, check_same_thread=False, timeout=5.0)
    with suppress(sqlite3.OperationalError):
        database.execute("PRAGMA journal_mode = WAL")
    database.execute("PRAGMA synchronous = NORMAL")
    database.executescript(_FILES)
    if database.execute("PRAGMA quick_check").fetchone() != ("ok",):
        raise sqlite3.DatabaseError("the list of files is damaged")
    return database


def _key(path: str) -> str:
    """A path as the index holds it: text, also where it is no UTF-8."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _chunk(stored: Mapping[str, list[Any]], score: float) -> Chunk:
    first, last, mtime_ns, size = map(int, bytes(stored["span"][0]).split())
    path, names = str(stored["path"][0]), str(stored["names"][0])
    return Chunk(path=path, stamp=(mtime_ns, size), first_line=first, last_line=last, names=names, score=score)
