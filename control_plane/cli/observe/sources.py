"""Where logs, traces and usage are asked for: the address that is set, else the program of the environment here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Protocol

from compose.local.layout import Layout
from compose.local.link import Link
from control_plane.cli.observe.files import Found, follow_files, read_files
from control_plane.cli.observe.lines import Line, Wanted
from control_plane.cli.observe.loki import Loki

__all__ = ["Files", "Source", "address_of", "log_source"]


class Source(Protocol):
    """Somewhere log lines are."""

    def read(self, wanted: Wanted, most: int) -> Found:
        """The newest lines that fit."""

    def follow(self, wanted: Wanted) -> Iterator[tuple[Line, ...]]:
        """Nothing first, then what is written from then on."""


class Files:
    """The files of the environment here.

    Args:
        layout: Which.
    """

    def __init__(self, layout: Layout) -> None:
        self._folder = layout.logs

    def read(self, wanted: Wanted, most: int) -> Found:
        """The newest lines that fit."""
        return read_files(self._folder, wanted, most)

    def follow(self, wanted: Wanted) -> Iterator[tuple[Line, ...]]:
        """What is written from now on."""
        return follow_files(self._folder, wanted)


def address_of(program: str, layout: Layout) -> str:
    """Where a program of the on-call stack is: `MCP_<PROGRAM>_URL`, else where it runs here; "" for nowhere."""
    if given := os.environ.get(f"MCP_{program.upper()}_URL", ""):
        return given
    status = Link(layout).status_if_running() if layout.state.is_dir() else None
    found = (process.url for process in status.processes if process.name == program and process.ready) if status else ()
    return next(iter(found), "")


def log_source(layout: Layout) -> Source:
    """Loki where there is one, else the files."""
    url = address_of("loki", layout)
    return Loki(url) if url else Files(layout)
