"""The real thing's process table: what depends on the number of control planes."""

from pathlib import Path

import pytest

from compose.local.layout import Layout
from compose.local.platform_table import Parts, gate_values, platform_table, wanted_ports
from compose.local.programs import Found
from compose.local.settings import load
from compose.local.table import Table

NAMES = ("consul", "traefik", "chromium", "rg")


def parts(folder: Path, **settings: str) -> Parts:
    effective = load(Layout(folder), settings)
    ports = {name: port or 20000 + at for at, (name, port) in enumerate(wanted_ports(effective).items())}
    programs = {name: Found(name, Path("/bin") / name, "1", "test") for name in NAMES}
    return Parts(Layout(folder), effective, ports, programs)


def table(folder: Path, replicas: int) -> Table:
    return platform_table(parts(folder, MCP_CONTROL_PLANE_REPLICAS=str(replicas)))


@pytest.mark.feature("C12")
def test_each_replica_has_a_port_and_a_name_of_its_own_and_all_are_one_group(tmp_path: Path) -> None:
    planes = [one for one in table(tmp_path, 3).processes if one.group == "control-plane"]
    assert [one.name for one in planes] == ["control-plane", "control-plane-2", "control-plane-3"]
    assert [one.env["MCP_REPLICA"] for one in planes] == [one.name for one in planes]
    assert len({one.env["MCP_PORT"] for one in planes}) == len({one.url for one in planes}) == 3
    assert len({one.env["MCP_OPERATOR_TOKEN_FILE"] for one in planes}) == 1


def test_with_one_replica_there_is_one_control_plane_on_the_port_of_the_setting(tmp_path: Path) -> None:
    (plane,) = [one for one in table(tmp_path, 1).processes if one.group == "control-plane"]
    assert (plane.name, plane.env["MCP_PORT"]) == ("control-plane", "3010")


@pytest.mark.feature("E1")
@pytest.mark.parametrize(("mtls", "scheme", "peers"), [("off", "http", "false"), ("on", "https", "true")])
def test_mutual_tls_is_one_setting_for_all(tmp_path: Path, mtls: str, scheme: str, peers: str) -> None:
    made = parts(tmp_path, MCP_MTLS=mtls)
    found = platform_table(made)
    processes = [*found.processes, *(one.pattern for one in found.services)]
    told = [one.env for one in processes if "MCP_CONSUL_URL" in one.env]
    assert len(told) == 6
    assert {env["MCP_MTLS"] for env in told} == {mtls}
    callers = [env["MCP_GATE_INTERNAL_URL"] for env in told if "MCP_GATE_INTERNAL_URL" in env]
    assert len(callers) == 2
    assert all(url.startswith(f"{scheme}://") for url in callers)
    assert gate_values(made)["MTLS"] == peers
