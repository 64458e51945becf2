"""The layer of meaning: vectors of chunks, made when there is time, used when they are there."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence

import anyio.to_thread

from services.search.embeddings import Embedder, Vectors

__all__ = ["Meaning"]

logger = logging.getLogger(__name__)

_AT_ONCE = 8
_WAITING = 20_000
_REST = 1.0  # as long as it worked, it rests: at most half a processor


class Meaning:
    """Ranks texts by meaning with the vectors there are, and makes those there are not, in the background.

    Args:
        load: Loads the model, which takes a second or two.
        vectors: What is kept.
        budget_s: How long one question may spend on texts that have no vector yet.
    """

    def __init__(self, load: Callable[[], Embedder], vectors: Vectors, *, budget_s: float) -> None:
        self.vectors = vectors
        self._load = load
        self._embedder: Embedder | None = None
        self._budget_s = budget_s
        self._waiting: deque[str] = deque(maxlen=_WAITING)
        self._wanted: set[bytes] = set()
        self._work = asyncio.Event()

    def load_now(self) -> None:
        """Load the model without waiting for `keep`."""
        self._embedder = self._load()

    async def likeness(self, query: str, texts: Sequence[str]) -> list[float | None]:
        """How like the question each text is; None where there was no time to find out, which is then done later."""
        until = time.monotonic() + self._budget_s
        return await anyio.to_thread.run_sync(self._likeness, query, texts, until)

    def offer(self, texts: Sequence[str]) -> None:
        """Have vectors made of these when there is time."""
        for text in texts:
            key = self.vectors.key(text)
            if key not in self._wanted and len(self._waiting) < _WAITING:
                self._wanted.add(key)
                self._waiting.append(text)
        self._work.set()

    async def keep(self) -> None:
        """Load the model, then make vectors; runs until cancelled."""
        try:
            await anyio.to_thread.run_sync(self.load_now)
        except Exception:  # whatever a foreign runtime raises: the layer is left out
            logger.exception("embeddings.failed")
            return
        while True:
            await self._work.wait()
            self._work.clear()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
                began = time.monotonic()
                await anyio.to_thread.run_sync(self._make, self._loaded(), batch)
                self._wanted -= {self.vectors.key(text) for text in batch}
                await asyncio.sleep((time.monotonic() - began) * _REST)

    def _loaded(self) -> Embedder:
        if self._embedder is None:
            raise RuntimeError("the model is not loaded")
        return self._embedder

    def _likeness(self, query: str, texts: Sequence[str], until: float) -> list[float | None]:
        keys = [self.vectors.key(text) for text in texts]
        embedder = self._embedder
        if embedder is None:
            return [None] * len(texts)
        have = dict(self.vectors.get(keys))
        missing = [text for text, key in zip(texts, keys, strict=True) if key not in have]
        while missing and time.monotonic() < until:
            have |= self._make(embedder, missing[:1])
            missing = missing[1:]
        if not have:
            return [None] * len(texts)
        (asked,) = embedder.embed([query])
        known = [key for key in keys if key in have]
        values = dict(zip(known, embedder.likeness(asked, [have[key] for key in known]), strict=True))
        return [values.get(key) for key in keys]

    def _make(self, embedder: Embedder, texts: Sequence[str]) -> dict[bytes, bytes]:
        keys = [self.vectors.key(text) for text in texts]
        have = self.vectors.get(keys)
        wanted = {key: text for key, text in zip(keys, texts, strict=True) if key not in have}
        if not wanted:
            return dict(have)
        made = dict(zip(wanted, embedder.embed(list(wanted.values())), strict=True))
        self.vectors.put(made)
        return made
