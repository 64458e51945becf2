"""What the scanner found: told apart, allowed for a time, counted."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from compose.images.findings import Allowed, Finding, Output, allow_list, findings, judged
from compose.images.scan_errors import ScanFailed

TODAY = date(2026, 11, 26)
REASON = "only in a program that we never start"


def advisory(identity: str, package: str, ecosystem: str, fixed: str = "") -> dict[str, Any]:
    events = [{"introduced": "0"}, *([{"fixed": fixed}] if fixed else [])]
    affected = {
        "package": {"name": package, "ecosystem": ecosystem},
        "ranges": [{"type": "ECOSYSTEM", "events": events}],
    }
    return {"id": identity, "summary": "planted", "affected": [affected]}


def output(*found: tuple[str, str, str, str]) -> Output:
    packages = [
        {
            "package": {"name": name, "version": "1.0", "ecosystem": ecosystem},
            "groups": [{"ids": [identity], "aliases": [identity, f"CVE-of-{identity}"]}],
            "vulnerabilities": [advisory(identity, name, ecosystem, fixed)],
        }
        for identity, name, ecosystem, fixed in found
    ]
    return Output.model_validate_json(json.dumps({"results": [{"source": {}, "packages": packages}]}))


def allowed(identity: str = "PYSEC-1", package: str = "spam", until: date = TODAY) -> Allowed:
    return Allowed(id=identity, package=package, reason=REASON, until=until)


PYPI = output(("PYSEC-1", "spam", "PyPI", "1.1"))


def test_a_finding_is_one_line_with_fault_package_and_cure() -> None:
    assert [str(each) for each in findings(PYPI)] == ["PYSEC-1 in PyPI spam 1.0: planted (fixed in 1.1)"]


def test_a_fix_for_another_release_of_debian_is_none() -> None:
    package = {
        "package": {"name": "zlib", "version": "1.0", "ecosystem": "Debian:12"},
        "groups": [{"ids": ["DSA-1"]}],
        "vulnerabilities": [advisory("DSA-1", "zlib", "Debian:13", "2.0")],
    }
    assert findings(Output.model_validate({"results": [{"packages": [package]}]}))[0].fixed == ()


def test_binaries_of_one_source_package_are_one_finding() -> None:
    twice = (("DSA-1", "zlib", "Debian:12", "2.0"),) * 2
    assert len(findings(output(*twice))) == 1


def test_what_debian_has_no_fix_for_waits_and_fails_only_when_asked() -> None:
    found = findings(output(("CVE-1", "zlib", "Debian:12", ""), ("CVE-2", "zlib", "Debian:12", "2.0")))
    lenient, strict = judged(found, (), TODAY, unfixed=False), judged(found, (), TODAY, unfixed=True)
    assert ([each.ids[0] for each in lenient.failing], [each.ids[0] for each in lenient.waiting]) == (
        ["CVE-2"],
        ["CVE-1"],
    )
    assert len(strict.failing) == 2


def test_a_package_of_python_without_a_fix_fails() -> None:
    assert judged(findings(output(("MAL-1", "spam", "PyPI", ""))), (), TODAY, unfixed=False).failing


@pytest.mark.parametrize("name", ["PYSEC-1", "CVE-of-PYSEC-1"])
def test_an_allowed_finding_fails_nothing_under_any_of_its_names(name: str) -> None:
    result = judged(findings(PYPI), [allowed(name)], TODAY, unfixed=False)
    assert (result.failing, len(result.allowed), result.notes) == ((), 1, ())


def test_what_was_allowed_fails_on_the_day_after_and_says_so() -> None:
    result = judged(findings(PYPI), [allowed(until=date(2026, 11, 25))], TODAY, unfixed=False)
    assert len(result.failing) == 1
    assert result.notes == (f"PYSEC-1 in spam was allowed until 2026-11-25: {REASON}",)


def test_the_same_fault_in_another_package_is_not_allowed() -> None:
    result = judged(findings(PYPI), [allowed(package="eggs")], TODAY, unfixed=False)
    assert len(result.failing) == 1
    assert result.notes == ("PYSEC-1 in eggs is allowed, but not in this image",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[allowed]]\nid = "X"\npackage = "p"\nuntil = 2026-12-31\n', "reason: Field required"),
        ('[[allowed]]\nid = "X"\npackage = "p"\nreason = "because it is so"\n', "until: Field required"),
        ('[[allowed]]\nid = "X"\npackage = "p"\nreason = "no"\nuntil = 2026-12-31\n', "at least 10"),
        ("allowed = 3", "allowed"),
        ("[[", "cannot be read"),
    ],
)
def test_an_entry_without_reason_or_end_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "allowed.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ScanFailed, match=said):
        allow_list(path)


def test_the_list_in_the_repository_is_right() -> None:
    allow_list(Path(__file__).parents[3] / "compose/images/allowed.toml")


def test_nothing_found_is_no_finding() -> None:
    assert findings(Output(results=None)) == ()
    assert not Finding("a", "1", "PyPI", ("X",), (), "").waits_for_debian
