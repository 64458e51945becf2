"""Which backups are kept: of each of the last days and weeks that have any, the last one. Pure."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from pathlib import Path

from .manifest import NAME, STAMP


def taken_at(path: Path) -> datetime.datetime | None:
    """When a backup was taken, by its name; None for what is no backup."""
    found = NAME.fullmatch(path.name)
    if found is None:
        return None
    return datetime.datetime.strptime(found["at"], STAMP).replace(tzinfo=datetime.UTC)


def prune(folder: Path, environment: str, *, daily: int, weekly: int) -> tuple[str, ...]:
    """Delete the backups that `to_delete` names; their names.

    Args:
        folder: Where backups lie.
        environment: Whose.
        daily: As of `to_delete`.
        weekly: Likewise.
    """
    deleted = to_delete(folder.iterdir(), environment, daily=daily, weekly=weekly)
    for old in deleted:
        old.unlink(missing_ok=True)
    return tuple(old.name for old in deleted)


def to_delete(paths: Iterable[Path], environment: str, *, daily: int, weekly: int) -> list[Path]:
    """The backups of one environment that nobody needs any more; the newest is never among them.

    Args:
        paths: What lies in the folder; what is no backup, or another environment's, stays.
        environment: Whose.
        daily: Of so many days, the latest that have any, the last backup is kept.
        weekly: Of so many weeks likewise.
    """
    mine = {path: at for path in paths if f"-{environment}." in path.name and (at := taken_at(path))}
    days: dict[object, Path] = {}
    weeks: dict[object, Path] = {}
    for path, at in sorted(mine.items(), key=lambda item: item[1]):
        days[at.date()] = path
        weeks[at.isocalendar()[:2]] = path
    keep = {*_last(days, daily), *_last(weeks, weekly), *_last(dict(enumerate(days.values())), 1)}
    return sorted(mine.keys() - keep)


def _last(by_time: Mapping[object, Path], count: int) -> list[Path]:
    """Of a mapping in the order of time, the last so many."""
    return list(by_time.values())[len(by_time) - min(count, len(by_time)) :]
