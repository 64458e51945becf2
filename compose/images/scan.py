"""Lists what is in an image and checks it against security advisories: `python -m compose.images.scan IMAGE`.

Nothing leaves the machine: the image comes from the engine or a file of `docker save`, the advisories from a folder.
Exit code 0: nothing against it; 1: one line per finding; 2: nothing can be said, and why.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import ValidationError

from compose.local.cache import cache_folder
from compose.local.errors import LocalError
from compose.local.files import repository
from compose.local.programs import Resolver
from compose.local.progress import reporter

from .advisories import Known, age_days, laid_out, nothing_known, too_old
from .findings import Judged, Output, allow_list, findings, judged
from .sbom import Package, sbom
from .scan_errors import ScanFailed

SAVE_S = 300.0
SCAN_S = 300.0
MATCHING = "vulnmatch/osvlocal"
ADVISORIES = "TEKUP_ADVISORIES"
OLDEST_DAYS = "TEKUP_ADVISORIES_MAX_AGE_DAYS"
FOUND = 1


@dataclass(frozen=True)
class Wanted:
    """What is asked for."""

    image: str
    """An image of the engine, or the path of what `docker save` wrote."""
    advisories: Path
    max_age: timedelta
    allowed: Path
    sbom: Path
    without: frozenset[str] = frozenset()
    """Ecosystems that are listed and not checked."""
    unfixed: bool = False


@dataclass(frozen=True)
class Report:
    """What can be said about an image."""

    packages: tuple[Package, ...]
    known: dict[str, Known]
    judged: Judged


def scan(wanted: Wanted, scanner: Path, now: datetime) -> Report:
    """List what is in an image, write the list, and check it.

    Args:
        wanted: What is asked for.
        scanner: osv-scanner.
        now: The time.

    Raises:
        ScanFailed: Nothing can be said.
    """
    allowances = allow_list(wanted.allowed)
    with tempfile.TemporaryDirectory(prefix="tekup-scan-") as scratch:
        archive, digest = _archive(wanted.image, Path(scratch))
        packages = _read(
            scanner, archive, Path(scratch, "listed.json"), "--experimental-disable-plugins", MATCHING
        ).packages()
        if not packages:
            raise ScanFailed(f"{wanted.image} has no package in it that the scanner knows: is it an image?")
        wanted.sbom.parent.mkdir(parents=True, exist_ok=True)
        wanted.sbom.write_text(sbom(wanted.image, digest, packages), encoding="utf-8")
        data = Path(scratch, "advisories")
        known = laid_out(wanted.advisories, {each.family for each in packages} - wanted.without, data)
        if old := too_old(known, now, wanted.max_age):
            raise ScanFailed(old)
        for left_out in {each.family for each in packages} & wanted.without:
            nothing_known(left_out, data)
        checked = _read(scanner, archive, Path(scratch, "checked.json"), "--local-db-path", str(data))
    return Report(packages, known, judged(findings(checked), allowances, now.date(), unfixed=wanted.unfixed))


def _archive(image: str, scratch: Path) -> tuple[Path, str]:
    if Path(image).is_file():
        return Path(image), ""
    archive = scratch / "image.tar"
    digest = _told(["docker", "image", "inspect", "--format", "{{.Id}}", image], SAVE_S).stdout.strip()
    _told(["docker", "save", "--output", str(archive), image], SAVE_S)
    return archive, digest


def _told(argv: Sequence[str], timeout_s: float, fine: tuple[int, ...] = (0,)) -> subprocess.CompletedProcess[str]:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False)
    except OSError as error:
        raise ScanFailed(f"`{argv[0]}` could not be started: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise ScanFailed(f"`{' '.join(argv)}` did not end within {timeout_s:.0f} s") from error
    if done.returncode not in fine:
        last = (done.stderr or done.stdout).strip().splitlines()[-5:]
        raise ScanFailed(f"`{' '.join(argv)}` ended with code {done.returncode}: {' | '.join(last)}")
    return done


def _read(scanner: Path, archive: Path, output: Path, *options: str) -> Output:
    argv = [
        str(scanner), "scan", "image", "--archive", "--offline", "--format", "json", "--all-packages", "--all-vulns",
        "--verbosity", "error", "--output-file", str(output), *options, str(archive),
    ]  # fmt: skip
    done = _told(argv, SCAN_S, (0, FOUND))
    if "could not load db" in done.stdout + done.stderr:  # the scanner goes on without, and finds nothing
        raise ScanFailed(f"the scanner could not read its advisories: {done.stderr.strip().splitlines()[-1]}")
    try:
        return Output.model_validate_json(output.read_bytes())
    except (OSError, ValidationError) as error:
        raise ScanFailed(f"what the scanner wrote cannot be read: {error}") from error


def said(wanted: Wanted, report: Report, now: datetime) -> list[str]:
    """The report, one line each: what fails, what has to be known about it, and the sum."""
    ages = ", ".join(
        f"{name} {each.advisories} (newest {age_days(each, now)} days old)"
        for name, each in sorted(report.known.items())
    )
    result = report.judged
    left_out = f"; not checked, as asked: {', '.join(sorted(wanted.without))}" if wanted.without else ""
    return [
        *(f"{wanted.image}: {each}" for each in result.failing),
        *(f"note: {each}" for each in result.notes),
        f"{wanted.image}: {len(report.packages)} packages, listed in {wanted.sbom}; advisories: {ages}{left_out}",
        f"{wanted.image}: {len(result.failing)} findings, {len(result.allowed)} allowed, "
        f"{len(result.waiting)} that Debian has no fix for",
    ]


def main(argv: Sequence[str] | None = None, say: Callable[[str], None] = print) -> int:
    """List what is in an image and check it against security advisories."""
    wanted = _wanted(argv)
    now = datetime.now(UTC)
    try:
        report = scan(wanted, asyncio.run(_scanner()), now)
    except (ScanFailed, LocalError) as error:
        print(f"{wanted.image}: {error}", file=sys.stderr)
        return 2
    for line in said(wanted, report, now):
        say(line)
    return FOUND if report.judged.failing else 0


async def _scanner() -> Path:
    with reporter() as report:
        return (await Resolver(report).find("osv-scanner")).path


def _wanted(argv: Sequence[str] | None) -> Wanted:
    usual = cache_folder().parent / "advisories"
    parser = argparse.ArgumentParser(prog="python -m compose.images.scan", description=main.__doc__)
    parser.add_argument("image", help="an image of the engine, or the path of what `docker save` wrote")
    parser.add_argument("--advisories", type=Path, default=os.environ.get(ADVISORIES) or usual,
                        help=f"folder with <Ecosystem>/all.zip ({ADVISORIES}; {usual})")  # fmt: skip
    parser.add_argument("--max-age-days", type=int, default=os.environ.get(OLDEST_DAYS) or "30",
                        help=f"the most that the newest advisory may lie back ({OLDEST_DAYS}; 30)")  # fmt: skip
    parser.add_argument("--allowed", type=Path, default=repository() / "compose/images/allowed.toml",
                        help="findings that are allowed for a time")  # fmt: skip
    parser.add_argument("--sbom", type=Path, help="where the list goes (build/sbom/IMAGE.cdx.json)")
    parser.add_argument(
        "--without", action="append", default=[], metavar="ECOSYSTEM", help="list it, but do not check it"
    )
    parser.add_argument("--unfixed", action="store_true", help="fail on what Debian has no fix for, too")
    given = parser.parse_args(argv)
    name = given.image.replace("/", "-").replace(":", "-").strip("-.")
    listed = given.sbom or Path("build/sbom", f"{name}.cdx.json")
    age = timedelta(days=given.max_age_days)
    return Wanted(given.image, given.advisories, age, given.allowed, listed, frozenset(given.without), given.unfixed)


if __name__ == "__main__":
    sys.exit(main())
