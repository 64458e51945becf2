"""The programs for who is on call, with our configuration, in a folder of the test's own."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx

from compose.local.layout import Layout
from compose.local.observability import PROCESSES, lay_out_extras
from compose.local.parts import Parts
from compose.local.platform_table import wanted_ports
from compose.local.ports import chosen_ports
from compose.local.programs import Found
from compose.local.settings import load
from tests.support.gate import wait_until
from tests.support.programs import program

START_S = 60.0
NEEDED = ("consul", "traefik", "chromium", "rg")


def made_parts(folder: Path, programs: Mapping[str, str] | None = None, /, **settings: str) -> Parts:
    """An environment as `tekup up` would make it, with nothing started; all ports are free ones.

    Args:
        folder: The environment's directory.
        programs: Paths of programs by name; others have paths where nothing is.
        **settings: By variable.
    """
    layout = Layout(folder)
    layout.make_folders()
    effective = load(layout, settings)
    ports = chosen_ports(dict.fromkeys(wanted_ports(effective), 0), layout.ports)
    paths = {name: f"/bin/{name}" for name in (*NEEDED, *effective.settings.extras)} | dict(programs or {})
    found = {name: Found(name, Path(path), "1", "test") for name, path in paths.items()}
    return Parts(layout, effective, ports, found)


class OnCall:
    """Some of the programs; a context manager.

    Args:
        folder: Where everything lies.
        names: Which.
        instead: What stands in their configurations instead of what; each must be there.
        **settings: By variable.
    """

    def __init__(self, folder: Path, *names: str, instead: Mapping[str, str] | None = None, **settings: str) -> None:
        paths = {name: program(name) for name in names}
        self.parts = made_parts(folder, paths, **{"MCP_WITH": ",".join(names), **settings})
        self._names = names
        self._instead = dict(instead or {})
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        lay_out_extras(self.parts)
        self._replace()
        try:
            for name in self._names:
                self.start(name)
            for name in self._names:
                self.until_ready(name)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._running):
            self.end(name, signal.SIGKILL)

    def _replace(self) -> None:
        paths = [self.parts.layout.folder_of(name) / f"{name}.yml" for name in self._names]
        texts = {path: path.read_text() for path in paths}
        for old, new in self._instead.items():
            assert any(old in text for text in texts.values()), f"no configuration has {old!r}"
            texts = {path: text.replace(old, new) for path, text in texts.items()}
        for path, text in texts.items():
            path.write_text(text)

    @property
    def logs(self) -> Path:
        """The folder whose files the collector reads."""
        return self.parts.layout.logs

    def start(self, name: str) -> None:
        """Start one; it may not be ready yet."""
        process = PROCESSES[name](self.parts)
        with self._log(name).open("ab") as log:
            env = {**os.environ, **process.env}
            self._running[name] = subprocess.Popen(process.argv, env=env, stdout=log, stderr=log)

    def until_ready(self, name: str) -> None:
        """Wait until it says that it is ready."""
        ready = PROCESSES[name](self.parts).ready
        assert ready

        def answers() -> bool:
            assert self._running[name].poll() is None, f"{name} has ended: {self._log(name).read_text()[-3000:]}"
            try:
                return httpx.get(ready.url, timeout=5, trust_env=False).status_code == httpx.codes.OK
            except httpx.HTTPError:
                return False

        wait_until(answers, f"{name} ready; see {self._log(name)}", START_S)

    def end(self, name: str, number: signal.Signals = signal.SIGTERM) -> int:
        """End one and wait for it.

        Returns:
            Its exit code.
        """
        process = self._running.pop(name)
        process.send_signal(number)
        return process.wait(30)

    def lines(self, query: str) -> list[tuple[dict[str, str], str]]:
        """Log lines Loki has of the last week: labels (with structured metadata) and line."""
        return loki_lines(self.parts.url("MCP_LOKI_PORT"), query)

    def trace(self, trace_id: str) -> list[dict[str, Any]]:
        """Spans Jaeger has of a trace."""
        return jaeger_spans(self.parts.url("MCP_JAEGER_PORT"), trace_id)

    def _log(self, name: str) -> Path:
        return self.parts.layout.folder_of(name) / "output.txt"


def loki_lines(url: str, query: str) -> list[tuple[dict[str, str], str]]:
    """Log lines of the last week: labels (with structured metadata) and line; none while it does not answer."""
    asked = {"query": query, "since": "160h", "limit": "5000"}
    try:
        answer = httpx.get(f"{url}/loki/api/v1/query_range", params=asked, timeout=30, trust_env=False)
        found = answer.raise_for_status().json()["data"]["result"]
    except httpx.HTTPError:
        return []
    return [(stream["stream"], line) for stream in found for _, line in stream["values"]]


def loki_count(url: str, query: str) -> int:
    """How many lines of the last hour there are; 0 while it does not answer."""
    asked = {"query": f"sum(count_over_time({query} [1h]))"}
    try:
        answer = httpx.get(f"{url}/loki/api/v1/query", params=asked, timeout=30, trust_env=False)
        found = answer.raise_for_status().json()["data"]["result"]
    except httpx.HTTPError:
        return 0
    return int(found[0]["value"][1]) if found else 0


def jaeger_spans(url: str, trace_id: str) -> list[dict[str, Any]]:
    """Spans of a trace; none while Jaeger does not know it or does not answer."""
    try:
        answer = httpx.get(f"{url}/api/traces/{trace_id}", timeout=30, trust_env=False)
        found = answer.raise_for_status().json()["data"]
    except httpx.HTTPError:
        return []
    return [span for trace in found for span in trace["spans"]]
