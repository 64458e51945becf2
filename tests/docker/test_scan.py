"""A real image with a package of Debian and one of Python, listed and checked by the real scanner."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.engine import Engine
from tests.support.programs import ROOT

pytestmark = [pytest.mark.docker, pytest.mark.feature("E6")]

DIST = "tekup_planted"
MADE_UP = "tekup-planted"
Scan = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def image(engine: Engine, base: str, run_prefix: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The base image, which has Debian's base-files, with what an installed package of Python leaves."""
    context = tmp_path_factory.mktemp("image")
    info = context / f"{DIST}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {MADE_UP}\nVersion: 1.0\n", encoding="utf-8")
    (context / "Dockerfile").write_text(
        f"FROM {base}\nCOPY {info.name} /opt/tekup/lib/python3.11/site-packages/{info.name}\n", encoding="utf-8"
    )
    name = f"{run_prefix}-scanned:1"
    engine.docker("build", "--quiet", "--tag", name, str(context))
    yield name
    engine.docker("image", "rm", name)


@pytest.fixture
def advisories(tmp_path: Path) -> Path:
    """Two that are about nothing in the image, so that there are data, a day old."""
    folder = tmp_path / "advisories"
    folder.mkdir()
    for ecosystem in ("Debian:12", "PyPI"):
        plant(folder, f"NONE-{ecosystem[:4]}", ecosystem, "not-in-the-image")
    return folder


def plant(folder: Path, identity: str, ecosystem: str, package: str, age_days: int = 1) -> None:
    when = (datetime.now(UTC) - timedelta(days=age_days)).isoformat(timespec="seconds")
    events = [{"introduced": "0"}, {"fixed": "99.1"}]
    affected = {
        "package": {"ecosystem": ecosystem, "name": package},
        "ranges": [{"type": "ECOSYSTEM", "events": events}],
    }
    advisory = {
        "schema_version": "1.6.0", "id": identity, "modified": when.replace("+00:00", "Z"), "summary": "planted here",
        "affected": [affected],
    }  # fmt: skip
    (folder / f"{identity}.json").write_text(json.dumps(advisory), encoding="utf-8")


@pytest.fixture
def scan(engine: Engine, image: str, advisories: Path, tmp_path: Path) -> Scan:
    def run(*options: str) -> subprocess.CompletedProcess[str]:
        argv = [sys.executable, "-m", "compose.images.scan", image, "--advisories", str(advisories),
                "--sbom", str(tmp_path / "sbom.json"), *options]  # fmt: skip
        env = {**os.environ, **engine.env}
        return subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, timeout=900, check=False)

    return run


def test_an_image_with_nothing_against_it_passes_and_is_listed(scan: Scan, tmp_path: Path) -> None:
    done = scan()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 findings" in done.stdout
    assert "PyPI 1 (newest 1 days old)" in done.stdout
    listed = json.loads((tmp_path / "sbom.json").read_text(encoding="utf-8"))
    purls = [each["purl"] for each in listed["components"]]
    assert f"pkg:pypi/{MADE_UP}@1.0" in purls
    assert [purl for purl in purls if purl.startswith("pkg:deb/debian/base-files@12")]
    assert [purl for purl in purls if purl.startswith("pkg:deb/debian/libc6@")]


def test_planted_faults_fail_with_a_line_each(scan: Scan, image: str, advisories: Path) -> None:
    plant(advisories, "PLANT-1", "PyPI", MADE_UP)
    plant(advisories, "PLANT-2", "Debian:12", "base-files")
    plant(advisories, "PLANT-3", "Debian:11", "base-files")  # another release of Debian
    done = scan()
    assert done.returncode == 1, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if "PLANT" in line]
    assert lines[0].startswith(f"{image}: PLANT-2 in Debian:12 base-files 12.")
    assert lines[1] == f"{image}: PLANT-1 in PyPI {MADE_UP} 1.0: planted here (fixed in 99.1)"
    assert len(lines) == 2
    assert "2 findings" in done.stdout


def test_an_allowed_fault_passes_until_its_day(scan: Scan, advisories: Path, tmp_path: Path) -> None:
    plant(advisories, "PLANT-1", "PyPI", MADE_UP)
    allowed = tmp_path / "allowed.toml"
    entry = f'[[allowed]]\nid = "PLANT-1"\npackage = "{MADE_UP}"\nreason = "planted by a test"\nuntil = '
    allowed.write_text(f"{entry}2999-01-01\n", encoding="utf-8")
    assert scan("--allowed", str(allowed)).returncode == 0
    allowed.write_text(f"{entry}2020-01-01\n", encoding="utf-8")
    done = scan("--allowed", str(allowed))
    assert done.returncode == 1
    assert "was allowed until 2020-01-01: planted by a test" in done.stdout


def test_without_data_or_with_old_ones_nothing_is_said(scan: Scan, advisories: Path) -> None:
    done = scan("--max-age-days", "0")
    assert done.returncode == 2
    assert "older than 0 days: Debian (1 days), PyPI (1 days)" in done.stderr
    (advisories / "NONE-PyPI.json").unlink()
    done = scan()
    assert done.returncode == 2
    assert "has no advisories for PyPI" in done.stderr
    assert scan("--without", "PyPI").returncode == 0
