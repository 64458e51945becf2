"""A folder of security advisories in the OSV format, made ready for the scanner, and how old it is.

`FOLDER/<Ecosystem>/all.zip` is what OSV's exports are; `*.json` anywhere in the folder are advisories of one's own, and
count for every ecosystem they name. The scanner takes a folder without an ecosystem's file for one in which nothing
is known, and passes over a file that it cannot read: here both are errors.
"""

import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from .scan_errors import ScanFailed

SCANNER_FOLDER = "osv-scalibr"
ARCHIVE = "all.zip"


@dataclass(frozen=True)
class Known:
    """What is known of one ecosystem."""

    advisories: int
    newest: datetime
    """When the newest advisory was last changed: the data are at least as old."""


def laid_out(folder: Path, ecosystems: Iterable[str], target: Path) -> dict[str, Known]:
    """Lay the advisories out as the scanner wants them.

    Args:
        folder: Where they are.
        ecosystems: The ecosystems something of the image is of, such as `Debian` and `PyPI`.
        target: An empty folder, handed to the scanner afterwards.

    Returns:
        What is known, by ecosystem.

    Raises:
        ScanFailed: There is nothing for one of them, or a file is not what it should be.
    """
    wanted = sorted(set(ecosystems))
    found: dict[str, dict[str, bytes]] = {ecosystem: {} for ecosystem in wanted}
    for ecosystem, name, content in _all(folder):
        if ecosystem in found:
            found[ecosystem][name] = content
    if missing := [ecosystem for ecosystem in wanted if not found[ecosystem]]:
        raise ScanFailed(
            f"{folder} has no advisories for {', '.join(missing)}: put OSV's export there as "
            f"{folder / missing[0] / ARCHIVE}, or leave the ecosystem out with --without {missing[0]}"
        )
    return {ecosystem: _written(target, ecosystem, each) for ecosystem, each in found.items()}


def nothing_known(ecosystem: str, target: Path) -> None:
    """Have the scanner take an ecosystem for one in which nothing is known.

    Args:
        ecosystem: The ecosystem.
        target: The folder handed to the scanner.
    """
    path = target / SCANNER_FOLDER / ecosystem / ARCHIVE
    path.parent.mkdir(parents=True)
    zipfile.ZipFile(path, "w").close()


def too_old(known: Mapping[str, Known], now: datetime, at_most: timedelta) -> str:
    """Which data are too old, in one sentence; empty if none.

    Args:
        known: From `laid_out`.
        now: The time.
        at_most: The most that the newest advisory may lie back.
    """
    old = [f"{name} ({age_days(each, now)} days)" for name, each in known.items() if now - each.newest > at_most]
    if not old:
        return ""
    return f"the advisories are older than {at_most.days} days: {', '.join(old)}; fetch OSV's exports anew"


def age_days(known: Known, now: datetime) -> int:
    """Whole days since the newest advisory was changed."""
    return max(0, (now - known.newest).days)


def _all(folder: Path) -> Iterator[tuple[str, str, bytes]]:
    """Every advisory as ecosystem, file name and content; one that names several ecosystems comes several times."""
    if not folder.is_dir():
        raise ScanFailed(f"there is no folder of advisories {folder}: name one with --advisories")
    for archive in sorted(folder.glob(f"*/{ARCHIVE}")):
        try:
            with zipfile.ZipFile(archive) as opened:
                for name in opened.namelist():
                    if name.endswith(".json"):
                        yield archive.parent.name, name, opened.read(name)
        except (OSError, zipfile.BadZipFile) as error:
            raise ScanFailed(f"{archive} cannot be read: {error}; fetch it anew") from error
    for path in sorted(folder.rglob("*.json")):
        content = path.read_bytes()
        affected = _parsed(content, str(path)).get("affected")
        names = {_ecosystem(each) for each in (affected if isinstance(affected, list) else [])}
        for ecosystem in sorted(names - {""}):
            yield ecosystem, path.name, content


def _ecosystem(affected: object) -> str:
    package = affected.get("package") if isinstance(affected, dict) else None
    return str(package.get("ecosystem", "")).partition(":")[0] if isinstance(package, dict) else ""


def _written(target: Path, ecosystem: str, advisories: Mapping[str, bytes]) -> Known:
    path = target / SCANNER_FOLDER / ecosystem / ARCHIVE
    path.parent.mkdir(parents=True)
    newest = datetime.min.replace(tzinfo=UTC)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in advisories.items():
            newest = max(newest, _modified(_parsed(content, name), name))
            archive.writestr(name, content)
    return Known(len(advisories), newest)


def _parsed(content: bytes, name: str) -> dict[str, object]:
    try:
        advisory = json.loads(content)
    except ValueError as error:
        raise ScanFailed(f"{name} is no JSON: {error}; take it away or fetch it anew") from error
    if not isinstance(advisory, dict) or not advisory.get("id"):
        raise ScanFailed(f"{name} is no advisory in the OSV format: it has no id; take it away")
    return advisory


def _modified(advisory: Mapping[str, object], name: str) -> datetime:
    try:
        when = datetime.fromisoformat(str(advisory.get("modified")))
    except ValueError as error:
        raise ScanFailed(
            f"{name} does not tell when it was modified: {error}; take it away or fetch it anew"
        ) from error
    return when if when.tzinfo else when.replace(tzinfo=UTC)
