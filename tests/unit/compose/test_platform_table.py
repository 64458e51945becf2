"""The real thing's process table: what depends on the number of control planes."""

from pathlib import Path

import pytest
import yaml

from compose.local.credentials import make_credentials
from compose.local.errors import BadSettings
from compose.local.files import repository
from compose.local.gate_folder import rendered
from compose.local.layout import Layout
from compose.local.parts import Parts
from compose.local.platform_table import gate_values, platform_table, wanted_ports
from compose.local.programs import Found
from compose.local.settings import load
from compose.local.table import Table

NAMES = ("consul", "traefik", "chromium", "rg")


def parts(folder: Path, **settings: str) -> Parts:
    effective = load(Layout(folder), settings)
    ports = {name: port or 20000 + at for at, (name, port) in enumerate(wanted_ports(effective).items())}
    programs = {name: Found(name, Path("/bin") / name, "1", "test") for name in NAMES}
    return Parts(Layout(folder), effective, ports, programs)


def table(folder: Path, replicas: int, **settings: str) -> Table:
    return platform_table(parts(folder, MCP_CONTROL_PLANE_REPLICAS=str(replicas), **settings))


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


@pytest.mark.feature("A11")
def test_bearers_are_judged_beside_the_gate_where_issuers_are_named(tmp_path: Path) -> None:
    issuers = tmp_path / "issuers.json"
    issuers.write_text("[]")
    made = table(tmp_path, 1, MCP_OAUTH_ISSUERS_FILE=str(issuers), MCP_PUBLIC_URL="https://mcp.example.com/")
    (oauth,) = [one for one in made.processes if one.name == "oauth"]
    assert (oauth.group, oauth.env["MCP_PUBLIC_URL"]) == ("gate", "https://mcp.example.com")
    assert "oauth" not in {one.name for one in table(tmp_path, 1).processes}


@pytest.mark.feature("A8")
def test_with_tls_the_gate_is_shown_as_https_and_somebody_keeps_its_certificate(tmp_path: Path) -> None:
    files = {"MCP_TLS": "files", "MCP_TLS_CERT_FILE": "/cert.pem", "MCP_TLS_KEY_FILE": "/key.pem"}
    for settings, scheme, told in (
        ({}, "http://", None),
        ({"MCP_TLS": "local"}, "https://", "--authority"),
        (files, "https://", "--key"),
    ):
        found = {one.name: one for one in table(tmp_path, 1, **settings).processes}
        assert found["traefik"].url.startswith(scheme)
        assert ("certificate" in found) == (told is not None)
        assert told is None or told in found["certificate"].argv
        others = [one.url for one in found.values() if one.url and one.name != "traefik"]
        assert all(url.startswith("http://") for url in others)


@pytest.mark.feature("E5")
def test_what_seals_keys_is_told_to_control_planes_and_agent_alone_and_only_where_it_is_needed(tmp_path: Path) -> None:
    file = "MCP_API_KEY_ENCRYPTION_KEY_FILE"
    assert not [one.name for one in table(tmp_path, 2).processes if file in one.env]
    sealed = table(tmp_path, 2, MCP_API_KEY_ENCRYPTION="true")
    assert {one.name for one in sealed.processes if file in one.env} == {"control-plane", "control-plane-2", "agent"}
    assert not [one.name for one in sealed.services if file in one.pattern.env]
    made = Layout(tmp_path).sealing_keys
    made.parent.mkdir(parents=True)
    made.write_text("{}")
    off = [one for one in table(tmp_path, 1).processes if one.env.get(file) == str(made)]
    assert [one.env.get("MCP_API_KEY_ENCRYPTION") for one in off] == ["false", None]


@pytest.mark.feature("E7")
def test_each_process_is_told_the_file_of_its_own_role_and_traefik_of_none(tmp_path: Path) -> None:
    Layout(tmp_path).make_folders()
    make_credentials(Layout(tmp_path))
    made = table(tmp_path, 2)
    told = {one.name: one.env.get("MCP_CONSUL_TOKEN_FILE", "") for one in made.processes}
    told |= {one.name: one.pattern.env["MCP_CONSUL_TOKEN_FILE"] for one in made.services}
    roles = {name: Path(path).stem if path else "" for name, path in told.items()}
    assert roles == {
        **dict.fromkeys(("consul", "consul-acl", "traefik", "pages"), ""),
        **dict.fromkeys(("control-plane", "control-plane-2"), "control-plane"),
        "agent": "gate",
        **{service: f"service-{service}" for service in ("browser", "filesystem", "search", "hub")},
    }
    assert all(Path(path).stat().st_mode & 0o777 == 0o600 for path in told.values() if path)
    held = [path.read_text().strip() for path in (tmp_path / ".tekup" / "secrets" / "consul").glob("*.[tk]*")]
    assert len(held) > 10
    assert not [secret for secret in held if secret in made.text()]


@pytest.mark.feature("E7")
def test_secrets_are_made_once_and_those_that_are_missing_again(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    layout.make_folders()
    make_credentials(layout)
    folder = layout.consul_secrets
    before = {path.name: path.read_text() for path in folder.iterdir()}
    make_credentials(layout)
    assert {path.name: path.read_text() for path in folder.iterdir()} == before
    (folder / "gate.token").unlink()
    make_credentials(layout)
    after = {path.name: path.read_text() for path in folder.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"gate.token"}


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


@pytest.mark.feature("E1")
def test_operators_have_an_entrypoint_of_their_own_by_tls_and_none_without(tmp_path: Path) -> None:
    assert "OPERATORS_SERVERS" not in gate_values(parts(tmp_path))
    assert "MCP_OPERATORS_PORT" not in wanted_ports(parts(tmp_path).effective)
    made = parts(tmp_path, MCP_TLS="local", MCP_CONTROL_PLANE_REPLICAS="3")
    values = {**gate_values(made), "HTTP3": ""}
    points = yaml.safe_load(rendered(repository() / "traefik" / "traefik.yml.tmpl", values))["entryPoints"]
    assert points["operators"]["address"] == made.address("MCP_OPERATORS_PORT") != points["public"]["address"]
    told = yaml.safe_load(rendered(repository() / "traefik" / "operators.yml.tmpl", values))["http"]
    assert len(told["services"]["operators"]["loadBalancer"]["servers"]) == 3
    routers = told["routers"].values()
    assert all(one["entryPoints"] == ["operators"] and "tls" in one for one in routers)


@pytest.mark.feature("A2")
def test_hosts_and_origins_are_told_to_the_gate_as_a_list(tmp_path: Path) -> None:
    made = parts(
        tmp_path, MCP_GATE_ALLOWED_HOSTS="MCP.example.org, [::1]", MCP_GATE_ALLOWED_ORIGINS="https://a.example"
    )
    values = gate_values(made)
    assert (values["ALLOWED_HOSTS"], values["ALLOWED_ORIGINS"]) == (
        '"mcp.example.org", "[::1]"',
        '"https://a.example"',
    )
    with pytest.raises(BadSettings, match="MCP_GATE_ALLOWED_HOSTS"):
        parts(tmp_path, MCP_GATE_ALLOWED_HOSTS='a"]}}, evil: {')
