"""Answers that may be given again: those of a question whose files have not changed since.

Only where the kernel tells every change (`Watch.caught_up`), and only what was complete. A question of a few
milliseconds then takes the place of reading a whole tree.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Any, TypeVar

from services.search.indexer import Indexer

__all__ = ["Repeats"]

T = TypeVar("T")

_KEPT = 128
_CAUGHT_UP_S = 0.1


class Repeats:
    """Keeps answers.

    Args:
        indexers: Know what changed beneath which root.
    """

    def __init__(self, indexers: Sequence[Indexer]) -> None:
        self._indexers = tuple(indexers)
        self._kept: OrderedDict[Hashable, tuple[int, Any]] = OrderedDict()

    async def answer(
        self, real: str, question: Hashable, make: Callable[[], Awaitable[T]], may_keep: Callable[[T], bool]
    ) -> T:
        """The answer to a question, made anew unless nothing changed since it was.

        Args:
            real: The real path of the folder that is asked about.
            question: All that makes up the question.
            make: Answers it.
            may_keep: Whether an answer is whole.
        """
        indexer = self._indexer(real)
        if indexer is None:
            return await make()
        kept = self._kept.get(question)
        if kept is not None and kept[0] == await indexer.changes(_CAUGHT_UP_S):
            self._kept.move_to_end(question)
            return kept[1]  # type: ignore[no-any-return]  # kept under its own question
        # What is told late, of changes before, only makes this count too old to be given again.
        told = indexer.told
        made = await make()
        if told is not None and may_keep(made):
            self._kept[question] = told, made
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        return made

    def _indexer(self, real: str) -> Indexer | None:
        for indexer in self._indexers:
            if real == indexer.root.real or real.startswith(f"{indexer.root.real.rstrip('/')}/"):
                return indexer
        return None
