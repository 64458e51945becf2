"""The linters of Dockerfile and Compose files: they find faults that are put there, and none in ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lint.containers import COMPOSE, DOCKERFILES, compose_faults, dockerfile_faults, with_defaults
from tests.support.programs import ROOT

pytestmark = [pytest.mark.local, pytest.mark.timeout(900)]

GOOD = """name: good
services:
  web:
    image: example/web:1.2.3
    build: .
    ports:
      - "${MCP_HOST:-127.0.0.1}:${MCP_PORT:-8080}:80"
"""


def test_our_dockerfiles_have_no_fault() -> None:
    assert dockerfile_faults([path for name in DOCKERFILES if (path := ROOT / name).exists()]) == []


def test_our_compose_files_have_no_fault() -> None:
    assert compose_faults(sorted(ROOT.glob(COMPOSE))) == []


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("FROM debian", "DL3006"),  # no tag
        ("FROM debian:bookworm-slim\nRUN cd /tmp && sudo true", "DL3004"),
        ("FROM debian:bookworm-slim\nRUN echo $FOO", "SC2086"),  # a fault of the shell inside
        ("FROM debian:bookworm-slim\nADD x.txt /x.txt", "DL3020"),
    ],
)
def test_a_fault_in_a_dockerfile_is_found(tmp_path: Path, line: str, code: str) -> None:
    path = tmp_path / "Dockerfile"
    path.write_text(f"{line}\n", encoding="utf-8")
    assert [fault for fault in dockerfile_faults([path]) if code in fault and str(path) in fault]


@pytest.mark.parametrize(
    ("good", "bad", "rule"),
    [
        ("web:1.2.3", "web:latest", "service-image-require-explicit-tag"),
        ("${MCP_HOST:-127.0.0.1}:", "", "no-unbound-port-interfaces"),
        ("name: good\n", "", "require-project-name-field"),
        ("build: .", "build: .\n    prots: []", "invalid-schema"),  # no such key
    ],
)
def test_a_fault_in_a_compose_file_is_found(tmp_path: Path, good: str, bad: str, rule: str) -> None:
    path = tmp_path / "docker-compose.dev.yml"
    path.write_text(GOOD.replace(good, bad), encoding="utf-8")
    assert [fault for fault in compose_faults([path]) if rule in fault and str(path) in fault]


def test_what_is_right_has_no_fault_and_a_part_needs_no_name(tmp_path: Path) -> None:
    whole, part = tmp_path / "docker-compose.dev.yml", tmp_path / "base.yml"
    whole.write_text(GOOD, encoding="utf-8")
    part.write_text(GOOD.removeprefix("name: good\n"), encoding="utf-8")
    assert compose_faults([whole, part]) == []


@pytest.mark.parametrize(
    ("line", "read"),
    [
        ('  - "${A:-1}:${B-2}:3"', '  - "1:2:3"'),
        ("  x: ${A:-${B:-c}}", "  x: c"),
        ("  x: ${A:?say it} $$B", "  x: ${A:?say it} $$B"),
        ("  image: ${A:-b:1}", "  image: ${A:-b:1}"),
    ],
)
def test_the_linter_reads_defaults_in_place_of_variables(line: str, read: str) -> None:
    assert with_defaults(f"{line}\n") == f"{read}\n"
