"""The first call after ready, against the median call of the same instance, over many starts.

Calls are some way apart, the first one too: back to back they would find the processor's caches warm, which says
nothing about the instance.
"""

from __future__ import annotations

import http.client
import json
import os
import statistics
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.bench.tools import Row, process
from tests.support.load import body, headers
from tests.support.ports import free_ports
from tests.support.programs import program

LATER_CALLS = 30
APART_S = 0.05
PAGE = "<title>Bench</title><p>One page, as a caller would open it."


@dataclass(frozen=True)
class Subject:
    """A service, what it is told, and the call it gets."""

    service: str
    tool: str
    arguments: Mapping[str, object]
    variables: Mapping[str, str]


def subjects(folder: Path, web_port: int) -> list[Subject]:
    """One call a service, such as a caller would begin with."""
    text = folder / "notes" / "note.txt"
    text.parent.mkdir(exist_ok=True)
    text.write_text("a line to read\n" * 50)
    notes, page = str(text.parent), f"http://127.0.0.1:{web_port}/"
    chromium = {
        "MCP_BROWSER_EXECUTABLE": str(program("chromium")),
        "MCP_BROWSER_PAGES_PER_CLIENT": str(1 + LATER_CALLS),
        "MCP_BROWSER_ALLOW_HOSTS": f"127.0.0.1:{web_port}",
    }
    return [
        Subject("filesystem", "filesystem_read_file", {"path": str(text)}, {"MCP_FILESYSTEM_ROOTS": notes}),
        Subject("search", "search_grep", {"pattern": "line", "path": notes}, {"MCP_SEARCH_ROOTS": notes}),
        Subject("browser", "browser_open", {"url": page}, chromium),
    ]


def first_calls(folder: Path, starts: int) -> list[Row]:
    """How many times the median call the first one takes, per service."""
    (web,) = free_ports(1)
    pages = folder / "pages"
    pages.mkdir()
    (pages / "index.html").write_text(PAGE)
    server: list[str | Path] = [
        sys.executable,
        "-m",
        "http.server",
        str(web),
        "--bind",
        "127.0.0.1",
        "--directory",
        pages,
    ]
    rows: list[Row] = []
    with process(server, f"http://127.0.0.1:{web}/", folder / "web.log"):
        for subject in subjects(folder, web):
            ratios = [_ratio(folder, subject) for _ in range(starts)]
            rows.append((f"first call after ready / median call, {subject.service}, {starts} starts, median (worst)",
                         f"{statistics.median(ratios):.2f}x ({max(ratios):.2f}x)"))  # fmt: skip
    return rows


def _ratio(folder: Path, subject: Subject) -> float:
    port, admin = free_ports(2)
    variables = {
        **os.environ,
        "MCP_STANDALONE": "true",
        "MCP_PORT": str(port),
        "MCP_ADMIN_PORT": str(admin),
        "MCP_CONSUL_URL": "",
        **subject.variables,
    }
    command = [sys.executable, "-m", f"services.{subject.service}"]
    with process(command, f"http://127.0.0.1:{admin}/ready", folder / f"{subject.service}.log", variables, ready=True):
        # One connection, open before the first call, as the gate's are.
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("GET", "/ready")
        connection.getresponse().read()
        first, *later = (_timed(connection, subject.tool, subject.arguments) for _ in range(1 + LATER_CALLS))
        connection.close()
    return first / statistics.median(later)


def _timed(connection: http.client.HTTPConnection, tool: str, arguments: Mapping[str, object]) -> float:
    sent = headers("", "tools/call", tool)
    asked = json.dumps(body("tools/call", {"name": tool, "arguments": dict(arguments)}))
    time.sleep(APART_S)
    began = time.perf_counter()
    connection.request("POST", "/mcp", asked, sent)
    answer = connection.getresponse().read()
    took = time.perf_counter() - began
    if b'"isError":false' not in answer.replace(b" ", b""):
        raise RuntimeError(f"{tool} failed: {answer[:500]!r}")
    return took
