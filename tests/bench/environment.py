"""A full local environment for benchmarks, with a quick backend registered as the service ``bench`` in two versions."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.bench.tools import ROOT
from tests.support import guest
from tests.support.load import body, headers

PORTS = ("GATEWAY", "BROWSER", "FILESYSTEM", "SEARCH", "HUB", "INTERNAL", "PRIVATE", "CONTROL_PLANE", "CONSUL")


@dataclass(frozen=True)
class Environment:
    """A running environment."""

    folder: Path
    gateway: str
    api: str
    consul: str
    key: str

    def ask(self, method: str, path: str, body: object = None) -> dict[str, object]:
        """One request to the operators' API."""
        token = (self.folder / ".tekup" / "operator.token").read_text().strip()
        return _json(method, f"{self.api}{path}", body, {"Authorization": f"Bearer {token}"})

    def introduce(self) -> None:
        """Let the gate serve ``bench``."""
        guest.introduce(self.folder / ".tekup", "bench")

    def served(self) -> bool:
        """Whether a call to ``bench`` is answered."""
        sent, asked = headers(self.key, "tools/call", "bench_echo"), body("tools/call", {"name": "bench_echo"})
        return "result" in _json("POST", f"{self.gateway}/bench/mcp", asked, sent)

    def register(self, instance: str, version: str, port: int) -> None:
        """Show a backend in the catalog as an instance of ``bench``."""
        guest.register(self.consul, "bench", instance, version, port, guest.token_of(self.folder / ".tekup", "bench"))


def _json(method: str, url: str, body: object, headers: dict[str, str]) -> dict[str, object]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=20) as answer:
        found: dict[str, object] = json.load(answer)
        return found


def _tekup(folder: Path, *args: str) -> str:
    command = [sys.executable, "-m", "control_plane.cli", *args]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True, check=True
    )
    return done.stdout


@contextlib.contextmanager
def environment(folder: Path, *options: str) -> Iterator[Environment]:
    """An environment that is up while the block lasts; `options` are those of `tekup up`."""
    (folder / "tekup.toml").write_text("".join(f"MCP_{name}_PORT = 0\n" for name in PORTS))
    try:
        up = json.loads(_tekup(folder, "up", "--json", *options))
        yield Environment(folder, up["endpoint"].removesuffix("/mcp"), up["control_plane"], up["consul"], up["key"])
    finally:
        _tekup(folder, "down")
