"""Looking at folders: entries, and facts about a path. Blocks: call it in a thread."""

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import accumulate, islice
from typing import Literal, NamedTuple, TypeVar

from services.common.paths import PathError, Place, check_regular, explain, opened, opened_parent, printable
from services.filesystem.own import FOLDER, within_whole

__all__ = [
    "Entry",
    "Facts",
    "Kind",
    "Order",
    "Page",
    "facts",
    "kind_of",
    "kind_of_entry",
    "list_folder",
    "shown_line",
    "within_budget",
]

T = TypeVar("T")
Kind = Literal["file", "folder", "link", "other"]
Order = Literal["name", "size", "modified"]

_LINE_BYTES = 16  # of a line without its name
_MOST_ENTRIES = 1_000_000
_new = tuple.__new__
_FOLDER = os.O_RDONLY | os.O_DIRECTORY
_MARKS = {"file": "", "folder": "/", "link": "@", "other": "?"}


class Entry(NamedTuple):
    """An entry of a folder.

    Args:
        name: Its name.
        kind: A symbolic link is `link`, whatever it points to.
        size_bytes: Size of a file, None for anything else.
        modified_ns: When it was changed last, since the epoch.
    """

    name: str
    kind: Kind
    size_bytes: int | None
    modified_ns: int = 0


@dataclass(frozen=True)
class Page:
    """A part of a folder's entries.

    Args:
        entries: In the order asked for.
        total: How many the folder has.
        next_after: Pass it as `after` for the next page, None on the last.
    """

    entries: tuple[Entry, ...]
    total: int
    next_after: str | None


@dataclass(frozen=True)
class Facts:
    """What is known about a path, links not followed."""

    path: str
    kind: Kind
    size_bytes: int
    mode: str
    modified: datetime
    links_to: str | None
    owner: int = 0
    group: int = 0
    names: int = 1
    sha256: str | None = None


def kind_of(mode: int) -> Kind:
    """The kind of what has this mode."""
    if stat.S_ISREG(mode):
        return "file"
    if stat.S_ISDIR(mode):
        return "folder"
    return "link" if stat.S_ISLNK(mode) else "other"


def kind_of_entry(entry: "os.DirEntry[str]") -> Kind:
    """The kind of what scandir came by, links not followed; asks the system only where scandir does not know."""
    try:
        if entry.is_file(follow_symlinks=False):
            return "file"
        if entry.is_dir(follow_symlinks=False):
            return "folder"
        return "link" if entry.is_symlink() else "other"
    except OSError:
        return "other"  # deleted since it was listed


def shown_line(entry: Entry, *, sizes: bool) -> str:
    """An entry as a line: `name/` for a folder, `name@` for a link, `name?` for what is neither, then its size."""
    size = f"\t{entry.size_bytes}" if sizes and entry.size_bytes is not None else ""
    return f"{entry.name}{_MARKS[entry.kind]}{size}"


def list_folder(
    place: Place,
    *,
    after: str,
    limit: int,
    budget_bytes: int,
    order: Order = "name",
    descending: bool = False,
    sizes: bool = True,
) -> Page:
    """Entries of a folder, those behind `after`.

    Args:
        place: The folder.
        after: `next_after` of the page before, "" for the first.
        limit: The most entries.
        budget_bytes: The most text they may make.
        order: By what they are sorted; entries with the same size or time by name.
        descending: The other way round.
        sizes: Whether sizes and times of the entries are wanted; without them it is several times faster.

    Raises:
        PathError: It is not a folder that can be read.
    """
    with opened(place, _FOLDER) as fd:
        try:
            with os.scandir(fd) as found:
                listed = {entry.name: entry for entry in islice(found, _MOST_ENTRIES + 1)}
        except OSError as error:
            raise explain(error, place) from error
        if len(listed) > _MOST_ENTRIES:
            raise PathError(f"{place.shown} has more than {_MOST_ENTRIES} entries, too many to sort; find by a glob")
        if not "".join(listed).isascii():
            listed = {printable(name): entry for name, entry in listed.items()}
        if FOLDER in listed and within_whole(place) == ".":
            del listed[FOLDER]
        if order == "name":
            return _by_name(listed, after, limit, budget_bytes, descending=descending, sizes=sizes)
        return _by_fact(listed, after, limit, budget_bytes, order, descending=descending)


_Listed = Mapping[str, "os.DirEntry[str]"]


def _by_name(listed: _Listed, after: str, limit: int, budget_bytes: int, *, descending: bool, sizes: bool) -> Page:
    rest = sorted(listed, reverse=descending)
    if after:
        rest = [name for name in rest if (name < after if descending else name > after)]
    first = rest[:limit]
    shown = within_budget(first, [_cost(name) for name in first], budget_bytes)
    describe = _entry if sizes else _named
    entries = tuple([entry for name in shown if (entry := describe(name, listed[name])) is not None])
    return Page(entries, len(listed), shown[-1] if shown and len(shown) < len(rest) else None)


def _by_fact(listed: _Listed, after: str, limit: int, budget_bytes: int, order: Order, *, descending: bool) -> Page:
    entries = [entry for name, found in listed.items() if (entry := _entry(name, found)) is not None]

    def key(entry: Entry) -> tuple[int, str]:
        value = entry.modified_ns if order == "modified" else entry.size_bytes or 0
        return (-value if descending else value), entry.name

    entries.sort(key=key)
    if after:
        number, _, name = after.partition("/")
        try:
            start = int(number), name
        except ValueError:
            raise PathError(f"after={after[:80]!r} is no cursor of this order; pass next_after unchanged") from None
        entries = [entry for entry in entries if key(entry) > start]
    shown = within_budget(entries[:limit], [_cost(entry.name) for entry in entries[:limit]], budget_bytes)
    last = key(shown[-1]) if shown and len(shown) < len(entries) else None
    return Page(tuple(shown), len(listed), f"{last[0]}/{last[1]}" if last is not None else None)


def _cost(name: str) -> int:
    return (len(name) if name.isascii() else len(name.encode())) + _LINE_BYTES


def _named(name: str, entry: "os.DirEntry[str]") -> Entry:
    return _new(Entry, (name, kind_of_entry(entry), None, 0))  # twice as fast as by its name, of many thousands


def _entry(name: str, entry: "os.DirEntry[str]") -> Entry | None:
    try:
        found = entry.stat(follow_symlinks=False)
    except FileNotFoundError:
        return None  # deleted since it was listed
    kind = kind_of(found.st_mode)
    return Entry(name, kind, found.st_size if kind == "file" else None, found.st_mtime_ns)


def facts(place: Place, *, sha256: bool = False) -> Facts:
    """What stands at `place`; a link itself, not its target.

    Args:
        place: The path.
        sha256: Also the digest of a file's content.

    Raises:
        PathError: Nothing does, or it may not be seen.
    """
    if place.relative.rstrip("/").rpartition("/")[2] in ("", ".", ".."):
        with opened(place, os.O_PATH) as fd:
            return _facts(place, os.fstat(fd), None, None)
    with opened_parent(place) as (folder, name):
        try:
            found = os.stat(name, dir_fd=folder, follow_symlinks=False)
            target = os.readlink(name, dir_fd=folder) if stat.S_ISLNK(found.st_mode) else None
            digest = _digest(folder, name, place) if sha256 and stat.S_ISREG(found.st_mode) else None
        except OSError as error:
            raise explain(error, place) from error
    return _facts(place, found, target, digest)


def _digest(folder: int, name: str, place: Place) -> str:
    from services.filesystem.changing import sha256_of  # noqa: PLC0415

    fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        check_regular(os.fstat(fd), place)
        return sha256_of(fd)
    finally:
        os.close(fd)


def _facts(place: Place, found: os.stat_result, target: str | None, digest: str | None) -> Facts:
    return Facts(
        path=place.shown,
        kind=kind_of(found.st_mode),
        size_bytes=found.st_size,
        mode=stat.filemode(found.st_mode),
        modified=datetime.fromtimestamp(found.st_mtime, UTC),
        links_to=None if target is None else _target_shown(place, target),
        owner=found.st_uid,
        group=found.st_gid,
        names=found.st_nlink,
        sha256=digest,
    )


def _target_shown(place: Place, target: str) -> str:
    """Where a link points to, said only when that lies beneath the root."""
    try:
        with opened(place, os.O_PATH):
            return printable(target)
    except PathError:
        return "(nothing that can be reached within the root)"


def within_budget(items: Sequence[T], costs: Sequence[int], budget_bytes: int) -> Sequence[T]:
    """The first of `items` whose costs fit into the budget together."""
    if sum(costs) <= budget_bytes:
        return items
    spent = accumulate(costs)
    return [item for item, total in zip(items, spent, strict=False) if total <= budget_bytes]
