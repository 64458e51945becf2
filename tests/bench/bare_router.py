"""The gate's peer: a Traefik as it comes, with nothing but one router and its access log."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from compose.local.files import write_atomically
from tests.bench.tools import process
from tests.support.ports import free_ports

ROUTES = "routes.yml"


@contextmanager
def bare_router(folder: Path, backends: Sequence[int]) -> Iterator[str]:
    """A bare router while the block lasts; its MCP address.

    Args:
        folder: Where its files go, an empty one.
        backends: Ports on loopback, which it takes in turn; they must answer `/ready`.
    """
    (port,) = free_ports(1)
    folder.mkdir()
    routes, static = folder / ROUTES, folder / "traefik.yml"
    servers = [{"url": f"http://127.0.0.1:{backend}"} for backend in backends]
    router = {"entryPoints": ["bare"], "rule": "PathPrefix(`/`)", "service": "bench"}
    services = {"bench": {"loadBalancer": {"servers": servers}}}
    routes.write_text(json.dumps({"http": {"routers": {"bench": router}, "services": services}}))
    said = {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "entryPoints": {"bare": {"address": f"127.0.0.1:{port}"}},
        "accessLog": {"format": "json"},
        "providers": {"file": {"filename": str(routes)}},
    }
    static.write_text(json.dumps(said))
    command: list[str | Path] = [Path(sys.executable).with_name("traefik"), f"--configFile={static}"]
    url = f"http://127.0.0.1:{port}"
    with process(command, f"{url}/ready", folder / "traefik.log", ready=True):
        yield f"{url}/mcp"


def more_routes(folder: Path, number: int) -> None:
    """Give the bare router in a folder a further router, as a change of its configuration."""
    said = json.loads((folder / ROUTES).read_text())
    said["http"]["routers"][f"more-{number}"] = said["http"]["routers"]["bench"] | {"rule": f"Path(`/more-{number}`)"}
    write_atomically(folder / ROUTES, json.dumps(said))
