"""``python -m compose.containers.bridged FOLDER…``: servers of other people as containers, each in one of its own.

A folder holds a declaration and the lock of the server's packages. Its image is built by `build`; what is printed is a
file for Compose to lay over an environment: per server its container, a network that leads nowhere, and, where its
declaration names hosts, a container that is its way out to those.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from compose.containers.setup import slots
from compose.images.engine import check_engine, docker
from compose.images.errors import ImageError
from compose.local.bridged.declared import checked_name
from compose.local.errors import BadInput, LocalError
from compose.local.files import repository

__all__ = ["Bridged", "build", "main", "overlay", "read_bridged"]

FILES: Final = ("declaration.json", "declaration.toml")
BRIDGE_MB: Final = 256
"""What the bridge itself may take, besides its server."""
BRIDGE_PROCESSES: Final = 64
CPUS: Final = 0.5
"""Of a server that declares none."""
WAY_OUT: Final = "http://{}:3128"
_BUILD_S: Final = 1800.0
_JUDGE_S: Final = 30.0


@dataclass(frozen=True)
class Bridged:
    """A server's folder and what it declares."""

    folder: Path
    file: str
    declared: Mapping[str, Any]
    """As the bridge understands it."""

    @property
    def name(self) -> str:
        """The service's name."""
        return str(self.declared["name"])

    @property
    def image(self) -> str:
        """Its image, without a tag."""
        return f"tekup/mcp-bridge-{self.name}"

    @property
    def reaches(self) -> bool:
        """Whether it reaches anybody, and so has a way out."""
        return bool(self.declared["hosts"] or self.declared["url"])


def read_bridged(folder: Path) -> Bridged:
    """Read a server's folder.

    Raises:
        BadInput: there is no declaration, or it cannot be served in a container.
    """
    file = next((name for name in FILES if (folder / name).is_file()), None)
    if file is None:
        raise BadInput(f"{folder} holds no declaration: write {FILES[0]} (docs/contracts.md, A bridge's declaration)")
    command = [sys.executable, "-m", "services.bridge.judged", str(folder / file)]
    judged = subprocess.run(command, capture_output=True, text=True, timeout=_JUDGE_S, check=False)
    if judged.returncode != 0:
        raise BadInput(judged.stderr.strip())
    one = Bridged(folder.resolve(), file, json.loads(judged.stdout))
    checked_name(one.name)
    return one


def overlay(servers: Sequence[Bridged]) -> dict[str, Any]:
    """What Compose lays over an environment, for these servers to be in it.

    Raises:
        BadInput: two have one name.
    """
    names = [one.name for one in servers]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise BadInput(f"{', '.join(twice)} is declared twice; a name is one server's")
    networks = [_network(name) for name in names]
    services: dict[str, Any] = {
        "setup": {
            "environment": {"MCP_BRIDGED": ",".join(names)},
            "volumes": [f"{_given(name)}:/given/{slot}" for slot, name in slots(names).items()],
        },
        "mcp-gateway": {"networks": networks},
        "consul": {"networks": networks},
    }
    for one in servers:
        services[f"mcp-{one.name}"] = _server(one)
        if one.reaches:
            services[_way_out(one.name)] = _opening(one)
    return {
        "services": services,
        "networks": {network: {"internal": "${MCP_NETWORK_ISOLATION:-true}"} for network in networks},
        "volumes": {volume: {} for name in names for volume in (_given(name), _data(name))},
    }


def build(one: Bridged, version: str, ca: Path | None) -> None:
    """Build a server's image, upon the bridge's of the same version.

    Args:
        one: the server.
        version: the tag of both.
        ca: a bundle of authorities to trust the indexes of packages by.

    Raises:
        ImageError: it failed; what the builder said is on standard error.
    """
    recipe = repository() / "compose/images/bridged.Dockerfile"
    ended = docker(
        *("buildx", "build", "--load", "--file", str(recipe), "--tag", f"{one.image}:{version}"),
        *("--build-arg", f"BRIDGE=tekup/mcp-bridge:{version}"),
        *(("--secret", f"id=ca,src={ca}") if ca else ()),
        str(one.folder),
        timeout_s=_BUILD_S,
        env={"DOCKER_BUILDKIT": "1"},
        show=True,
    )
    if ended.returncode != 0:
        raise ImageError(f"{one.image} could not be built; what the builder said stands above")


def _network(name: str) -> str:
    return f"bridged-{name}"


def _given(name: str) -> str:
    return f"given-{name}"


def _data(name: str) -> str:
    return f"data-{name}"


def _way_out(name: str) -> str:
    return f"way-out-{name}"


def _server(one: Bridged) -> dict[str, Any]:
    limits = one.declared["limits"]
    own = one.folder / "secrets"
    return {
        "extends": _kind("bridge"),
        "image": f"{one.image}:${{VERSION:-latest}}",
        "environment": _told(one) | ({"MCP_BRIDGE_PROXY": WAY_OUT.format(_way_out(one.name))} if one.reaches else {}),
        "mem_limit": f"{limits['memory_mb'] + BRIDGE_MB}m",
        "memswap_limit": f"{limits['memory_mb'] + BRIDGE_MB}m",
        "cpus": limits["cpus"] or CPUS,
        "pids_limit": limits["processes"] + BRIDGE_PROCESSES,
        "ulimits": {
            "nofile": {"soft": max(limits["open_files"], 4096), "hard": max(limits["open_files"], 4096)},
            "core": 0,
        },
        "volumes": [
            f"{_given(one.name)}:/run/tekup:ro",
            f"{_data(one.name)}:/data",
            *([f"{own}:/server/secrets:ro"] if own.is_dir() else []),
        ],
        "networks": [_network(one.name)],
        "depends_on": {
            "consul-access": {"condition": "service_healthy"},
            **({_way_out(one.name): {"condition": "service_healthy"}} if one.reaches else {}),
        },
    }


def _opening(one: Bridged) -> dict[str, Any]:
    asked = "import socket; socket.create_connection(('127.0.0.1', 3128), 3)"
    return {
        "extends": _kind("any"),
        "image": f"{one.image}:${{VERSION:-latest}}",
        "entrypoint": ["/opt/tekup/bin/python", "-m"],
        "command": ["services.bridge.way_out"],
        "environment": {"MCP_LOG_LEVEL": "${MCP_LOG_LEVEL:-info}", "MCP_BRIDGE_FILE": f"/server/{one.file}"},
        "mem_limit": "128m",
        "cpus": 0.5,
        "networks": [_network(one.name), "outside"],
        "healthcheck": {"test": ["CMD", "/opt/tekup/bin/python", "-c", asked], "interval": "5s", "timeout": "5s",
                        "start_period": "30s"},
        "depends_on": {"mcp-gateway": {"condition": "service_started"}},
    }  # fmt: skip


def _told(one: Bridged) -> dict[str, str]:
    """As `x-service-told` in base.yml, whose anchors another file cannot use."""
    return {
        "MCP_ENV": "${MCP_ENV:-development}",
        "MCP_LOG_LEVEL": "${MCP_LOG_LEVEL:-info}",
        "MCP_MTLS": "${MCP_MTLS:-off}",
        "MCP_OTLP_URL": "${MCP_OTLP_URL:-}",
        "MCP_TRACE_SAMPLE": "${MCP_TRACE_SAMPLE:-1}",
        "MCP_CONSUL_URL": "${MCP_CONSUL_URL:-http://consul:8500}",
        "MCP_CONSUL_CA_FILE": "/run/tekup/consul-ca.pem",
        "MCP_CONSUL_TOKEN_FILE": "/run/tekup/consul.token",
        "MCP_SECRETS_FILE": "/run/tekup/secrets.json",
        "MCP_BRIDGE_FILE": f"/server/{one.file}",
    }


def _kind(name: str) -> dict[str, str]:
    return {"file": str(repository() / "compose/kinds.yml"), "service": name}


def main(argv: Sequence[str] | None = None) -> int:
    """Print what Compose lays over, or build the images.

    Returns:
        0 done, 1 failed, 2 a folder cannot be served.
    """
    parser = argparse.ArgumentParser(prog="python -m compose.containers.bridged", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help="a declaration and a lock of packages")
    parser.add_argument(
        "--build", action="store_true", help="build their images, upon tekup/mcp-bridge, and say nothing"
    )
    parser.add_argument("--version", default="latest", help="the images' tag (%(default)s)")
    parser.add_argument("--ca", type=Path, default=os.environ.get("SSL_CERT_FILE"), help="whom to trust for packages")
    asked = parser.parse_args(argv)
    try:
        servers = [read_bridged(folder) for folder in asked.folders]
        laid_over = overlay(servers)
        if asked.build:
            check_engine()
            for one in servers:
                build(one, asked.version, asked.ca)
        else:
            sys.stdout.write(yaml.safe_dump(laid_over, sort_keys=False, width=120))
    except (LocalError, ImageError) as error:
        print(f"bridged: {error}", file=sys.stderr)
        return 2 if isinstance(error, LocalError) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
