"""Whose a log line is, by the name of its file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from compose.local.log_source import of_processes

pytestmark = pytest.mark.feature("D1")


@pytest.mark.parametrize(
    ("file", "service", "process", "instance"),
    [
        ("search-1.0.0-1.log", "search", None, "search-1.0.0-1"),
        ("search-canary-1.log", "search", None, "search-canary-1"),
        ("hub-1.1.0-rc.1-2.log", "hub", None, "hub-1.1.0-rc.1-2"),
        ("my-notes-2-0.1.0-12.log.1", "my-notes-2", None, "my-notes-2-0.1.0-12"),
        ("time-2026.8.18-1.log", "time", None, "time-2026.8.18-1"),
        ("control-plane.log", None, "control-plane", "control-plane"),
        ("control-plane-2.log", None, "control-plane", "control-plane-2"),
        ("traefik.log", None, "traefik", "traefik"),
    ],
)
def test_a_file_of_a_service_that_was_added_is_known_as_those_of_ours_are(
    file: str, service: str | None, process: str | None, instance: str
) -> None:
    found = re.fullmatch(of_processes(Path("/logs")).names, file)
    assert found is not None
    told = found.groupdict()
    assert (told["service"] or told["added"], told["process"], told["instance"]) == (service, process, instance)
