"""Fuzzy search for file names. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rapidfuzz import fuzz, process, utils

__all__ = ["NameHit", "best_first", "rank_names"]

_CUTOFF = 60.0
_PATH_WEIGHT = 0.9  # a match somewhere in the folders counts less than one in the name


@dataclass(frozen=True)
class NameHit:
    """A path that resembles the query.

    Args:
        path: The path.
        score: 0 to 100.
    """

    path: str
    score: float


def best_first(hits: Iterable[NameHit]) -> list[NameHit]:
    """The best first, shorter paths before longer."""
    return sorted(hits, key=lambda hit: (-hit.score, len(hit.path), hit.path))


def rank_names(query: str, paths: Sequence[str]) -> list[NameHit]:
    """Paths whose name, or else whose whole path, resembles `query`; best first, shorter ones before longer."""
    names = [path.rpartition("/")[2] for path in paths]
    best: dict[int, float] = {}
    for choices, weight in ((names, 1.0), (paths, _PATH_WEIGHT)):
        found = process.extract_iter(
            query, choices, scorer=fuzz.WRatio, processor=utils.default_process, score_cutoff=_CUTOFF
        )
        for _, score, place in found:
            best[place] = max(best.get(place, 0.0), score * weight)
    hits = [NameHit(paths[place], round(score, 1)) for place, score in best.items() if score >= _CUTOFF]
    return best_first(hits)
