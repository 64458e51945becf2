"""Imports point one way; a folder's place in the order is its only permission."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PURE = {"model", "errors", "contract", "course", "decide", "delivery", "lint", "names", "rollout", "steer", "render",
        "clients", "keys", "fixed",
        "routes", "signed", "analysis", "checks", "readings", "sequential", "schemas", "shapes", "values", "resources",
        "differences", "desired", "page", "peers", "shadow", "tallies", "losses",
        "staffing", "alert_rules", "audit", "roles", "autoscale", "receivers", "deploying", "keeper",
        "region", "kept"}  # fmt: skip
PURE_PARTS = [f"oauth/{name}" for name in ("answers", "issuers", "jwks", "scopes", "tokens")]
# Each layer of the control plane may import those to its left, and its own.
LAYERS = (PURE, {"ports", "form"},
          {"authority", "config_entries", "consul", "traefik", "prometheus", "gateway", "mutual", "wire", "told",
           "files", "settings", "sealed", "watch", "tokens", "registrations", "alertmanager", "repository", "tools",
           "neighbour"},
          {"registry", "leadership", "replicas", "gates", "staged", "history", "known", "book", "outcome", "state",
           "rights", "intentions", "sealing", "usage", "metrics", "probing", "loop", "review", "observing", "shelf",
            "engine", "operators", "rules", "trail", "mirror", "scaling", "backups", "once", "receiving", "deployer",
            "standbys", "regions", "region_copy"},
           {"agent", "oauth", "rule_keeper", "receiver_keeper"}, {"api"}, {"console"}, {"cli", "__main__"})  # fmt: skip
NO_IO = {"asyncio", "os", "time", "socket", "httpx", "aiohttp", "consul", "logging", "subprocess", "pathlib"}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(path: Path) -> Iterator[str]:
    """Absolute names of what a module imports."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*base, *([node.module] if node.module else [])))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def layer(name: str) -> int:
    for number, members in enumerate(LAYERS):
        if name in members:
            return number
    raise AssertionError(f"control_plane.{name} has no place in LAYERS of {Path(__file__).name}; give it one")


@pytest.mark.parametrize("path", modules("services"), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_service_imports_neither_control_plane_nor_environment(path: Path) -> None:
    assert not [name for name in imports(path) if name.split(".")[0] in ("control_plane", "compose")]


@pytest.mark.parametrize("path", modules("services"), ids=lambda path: str(path.relative_to(ROOT)))
def test_a_service_imports_no_other_service_but_the_kit(path: Path) -> None:
    own = path.relative_to(ROOT / "services").parts[0]
    others = {name.split(".")[1] for name in imports(path) if name.startswith("services.")}
    assert others <= {own, "common"}


@pytest.mark.parametrize("path", modules("compose"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_environment_starts_the_parts_and_imports_none(path: Path) -> None:
    assert not [name for name in imports(path) if name.split(".")[0] in ("control_plane", "services")]


@pytest.mark.parametrize("path", modules("observability"), ids=lambda path: str(path.relative_to(ROOT)))
def test_telemetry_knows_none_of_the_parts_that_use_it(path: Path) -> None:
    assert not [name for name in imports(path) if name.split(".")[0] in ("control_plane", "services", "compose")]


@pytest.mark.parametrize("path", modules("control_plane"), ids=lambda path: str(path.relative_to(ROOT)))
def test_the_control_plane_imports_only_to_its_left(path: Path) -> None:
    parts = path.relative_to(ROOT / "control_plane").with_suffix("").parts
    if parts == ("__init__",):
        return
    mine = layer(parts[0])
    for name in imports(path):
        top, *rest = name.split(".")
        assert top != "services", f"{path} imports a service"
        assert top != "compose" or parts[0] == "cli", f"{path} imports the local environment"
        if top == "control_plane" and rest:
            assert layer(rest[0]) <= mine, f"{path} imports {name}, which stands to its right"


@pytest.mark.parametrize("name", sorted(PURE) + PURE_PARTS)
def test_the_core_does_no_io(name: str) -> None:
    found = {imported.split(".")[0] for imported in imports(ROOT / "control_plane" / f"{name}.py")}
    assert not found & NO_IO
