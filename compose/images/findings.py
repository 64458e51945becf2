"""What the scanner found, and what of it is allowed for a time.

One finding is one fault in one package: advisories that are aliases of each other are one. A fault that Debian has
not mended yet is told and counted, but fails nothing unless asked to, since no build of ours could mend it.
"""

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .sbom import Package
from .scan_errors import ScanFailed


class _Shape(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class _Named(_Shape):
    name: str = ""
    ecosystem: str = ""


class _Range(_Shape):
    events: tuple[dict[str, str], ...] = ()


class _Affected(_Shape):
    package: _Named = _Named()
    ranges: tuple[_Range, ...] = ()


class _Advisory(_Shape):
    id: str
    summary: str = ""
    details: str = ""
    affected: tuple[_Affected, ...] = ()


class _Group(_Shape):
    ids: tuple[str, ...]
    aliases: tuple[str, ...] = ()


class _InImage(_Named):
    version: str = ""
    os_package_name: str = ""


class _Result(_Shape):
    package: _InImage
    vulnerabilities: tuple[_Advisory, ...] = ()
    groups: tuple[_Group, ...] = ()


class _Source(_Shape):
    packages: tuple[_Result, ...] = ()


class Output(_Shape):
    """What the scanner writes, as far as it is read."""

    results: tuple[_Source, ...] | None = ()

    @property
    def each(self) -> tuple[_Result, ...]:
        """Every package with what is known against it."""
        return tuple(result for source in self.results or () for result in source.packages)

    def packages(self) -> tuple[Package, ...]:
        """What is in the image; what has no ecosystem is none (a Git checkout, a binary without a name)."""
        found = {
            Package(it.ecosystem, it.name, it.version, it.os_package_name or it.name)
            for it in (result.package for result in self.each)
            if it.ecosystem and it.name
        }
        return tuple(sorted(found))


@dataclass(frozen=True, order=True)
class Finding:
    """One fault in one package."""

    package: str
    version: str
    ecosystem: str
    ids: tuple[str, ...]
    """Every name of the fault, the first one first."""
    fixed: tuple[str, ...]
    """Versions that do not have it; none where there is none."""
    summary: str

    @property
    def waits_for_debian(self) -> bool:
        """Whether nothing can be done about it but wait."""
        return self.ecosystem.startswith("Debian") and not self.fixed

    def __str__(self) -> str:
        """One line for people."""
        cure = f"fixed in {', '.join(self.fixed)}" if self.fixed else "no fix is known"
        return (
            f"{self.ids[0]} in {self.ecosystem} {self.package} {self.version}: {self.summary or 'no summary'} ({cure})"
        )


class Allowed(BaseModel):
    """A finding that fails nothing until a day, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: Annotated[str, Field(min_length=1)]
    package: Annotated[str, Field(min_length=1)]
    reason: Annotated[str, Field(min_length=10)]
    until: date
    """The last day on which it holds."""

    def covers(self, finding: Finding) -> bool:
        """Whether it is about this finding, in force or not."""
        return self.id in finding.ids and self.package == finding.package


class _AllowList(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    allowed: tuple[Allowed, ...] = ()


def allow_list(path: Path) -> tuple[Allowed, ...]:
    """Read the file of allowed findings (TOML, tables `[[allowed]]`).

    Raises:
        ScanFailed: It is not there or not right; says where.
    """
    try:
        return _AllowList.model_validate(tomllib.loads(path.read_text(encoding="utf-8"))).allowed
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ScanFailed(f"the list of allowed findings {path} cannot be read: {error}") from error
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise ScanFailed(f"{path} is wrong: {wrong}; each entry has id, package, reason and until") from error


def findings(output: Output) -> tuple[Finding, ...]:
    """Every finding, in order; the binaries of one source package are one."""
    return tuple(sorted({_finding(result, group) for result in output.each for group in result.groups}))


def _finding(result: _Result, group: _Group) -> Finding:
    told = [advisory for advisory in result.vulnerabilities if advisory.id in group.ids]
    summary = next((each.summary or each.details for each in told if each.summary or each.details), "")
    names = dict.fromkeys((*group.ids, *group.aliases))
    package = result.package
    first_line = summary.strip().partition("\n")[0][:160]
    return Finding(package.name, package.version, package.ecosystem, tuple(names), _fixed(told, package), first_line)


def _fixed(advisories: Iterable[_Advisory], package: _Named) -> tuple[str, ...]:
    events: list[Mapping[str, str]] = [
        event
        for advisory in advisories
        for affected in advisory.affected
        if affected.package.name.lower() == package.name.lower() and affected.package.ecosystem == package.ecosystem
        for each in affected.ranges
        for event in each.events
    ]
    return tuple(dict.fromkeys(event["fixed"] for event in events if "fixed" in event))


@dataclass(frozen=True)
class Judged:
    """Findings, told apart."""

    failing: tuple[Finding, ...] = ()
    waiting: tuple[Finding, ...] = ()
    """Of Debian, which has no fix yet."""
    allowed: tuple[Finding, ...] = ()
    notes: tuple[str, ...] = ()
    """About entries of the list that have expired or are about nothing."""


def judged(found: Iterable[Finding], allowances: Iterable[Allowed], today: date, *, unfixed: bool) -> Judged:
    """Tell apart what fails, what is allowed and what waits for Debian.

    Args:
        found: The findings.
        allowances: The list of allowed ones.
        today: The day.
        unfixed: Whether those fail, too, that Debian has no fix for.
    """
    every, listed = tuple(found), tuple(allowances)
    held = tuple(each for each in listed if each.until >= today)
    allowed = tuple(it for it in every if any(each.covers(it) for each in held))
    open_ = tuple(it for it in every if it not in allowed)
    waiting = tuple(it for it in open_ if it.waits_for_debian and not unfixed)
    return Judged(tuple(it for it in open_ if it not in waiting), waiting, allowed, _notes(every, listed, today))


def _notes(found: tuple[Finding, ...], listed: tuple[Allowed, ...], today: date) -> tuple[str, ...]:
    notes = []
    for each in listed:
        if each.until < today and any(each.covers(it) for it in found):
            notes.append(f"{each.id} in {each.package} was allowed until {each.until}: {each.reason}")
        elif not any(each.covers(it) for it in found):
            notes.append(f"{each.id} in {each.package} is allowed, but not in this image")
    return tuple(notes)
