"""What `setup` makes for an environment of containers, and what each container is given of it."""

import io
import json
import stat
import tarfile
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from compose.containers.places import Here
from compose.containers.settings import ContainerSettings, bytes_of
from compose.containers.setup import prepare
from compose.containers.takeover import hand_over, take_in
from compose.local.consul_config import node_id
from compose.local.errors import BadSettings, StepFailed
from compose.local.files import repository
from compose.local.layout import Layout
from compose.local.settings import load
from tests.support.compose_files import compose_file

RECIPIENTS = ("consul", "control-plane", "gate", "browser", "filesystem", "search", "hub")
ALL = (*RECIPIENTS, "egress")


def here(root: Path, **settings: str) -> Here:
    """An environment whose volumes are folders below `root`."""
    return Here(load(Layout(root / "keep"), settings, ContainerSettings), root)


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """All volumes, empty."""
    for folder in ("keep", "workspace", *(f"given/{name}" for name in ALL)):
        (tmp_path / folder).mkdir(parents=True)
    return tmp_path


def texts(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_each_recipient_is_given_its_own_secrets_and_nobody_elses(volumes: Path) -> None:
    prepare(here(volumes))
    tokens = {name: (volumes / "given" / name / "consul.token").read_text() for name in RECIPIENTS[1:]}
    assert len(set(tokens.values())) == len(tokens)
    for name, token in tokens.items():
        for other in RECIPIENTS:
            found = any(token.strip() in text for text in texts(volumes / "given" / other).values())
            assert found == (other == name), f"{name}'s token lies with {other}"
    management = (volumes / "keep/.tekup/secrets/consul/management.token").read_text().strip()
    assert not any(management in text for text in texts(volumes / "given").values())
    assert not any(management in text for text in texts(volumes / "keep/.tekup/gate").values())


def test_what_is_given_can_be_read_by_its_owner_alone(volumes: Path) -> None:
    prepare(here(volumes))
    modes = {path: path.stat().st_mode & 0o777 for path in (volumes / "given").rglob("*") if path.is_file()}
    assert set(modes.values()) == {0o600}


def test_who_starts_containers_is_given_a_token_that_its_group_may_read(volumes: Path) -> None:
    (volumes / "given/keeper").mkdir()
    prepare(here(volumes))
    assert sorted(texts(volumes / "given/keeper")) == ["consul-ca.pem", "consul.token"]
    assert {path.stat().st_mode & 0o777 for path in (volumes / "given/keeper").iterdir()} == {0o640}


def test_a_second_time_changes_nothing(volumes: Path) -> None:
    prepare(here(volumes, MCP_API_KEY_ENCRYPTION="true"))
    before = {path: (path.read_text(), path.stat().st_ino) for path in (volumes / "given").rglob("*") if path.is_file()}
    prepare(here(volumes, MCP_API_KEY_ENCRYPTION="true"))
    after = {path: (path.read_text(), path.stat().st_ino) for path in (volumes / "given").rglob("*") if path.is_file()}
    assert after == before


@pytest.mark.parametrize("sealed", ["true", "false"])
def test_sealing_keys_are_given_to_those_who_seal_and_open(volumes: Path, sealed: str) -> None:
    prepare(here(volumes, MCP_API_KEY_ENCRYPTION=sealed))
    assert [name for name in RECIPIENTS if (volumes / "given" / name / "sealing-keys.json").exists()] == [
        "control-plane",
        "gate",
    ]


def test_a_file_of_an_earlier_time_does_not_stay_with_a_recipient(volumes: Path) -> None:
    (volumes / "given/hub/old.token").write_text("once")
    prepare(here(volumes))
    assert sorted(path.name for path in (volumes / "given/hub").iterdir()) == [
        "consul-ca.pem",
        "consul.token",
        "secrets.json",
    ]


def test_the_gate_listens_everywhere_in_its_networks_and_finds_its_tables_where_it_sees_them(volumes: Path) -> None:
    prepare(here(volumes))
    static = yaml.safe_load((volumes / "keep/.tekup/gate/traefik.yml").read_text())
    assert {name: entry["address"] for name, entry in static["entryPoints"].items()} == {
        "public": "0.0.0.0:3000",
        "internal": "0.0.0.0:3005",
        "private": "0.0.0.0:3006",
    }
    assert 'tables: "/gate/tables"' in (volumes / "keep/.tekup/gate/dynamic/gate.yml").read_text()


def test_consul_is_told_of_its_network_and_keeps_what_every_environment_has(volumes: Path) -> None:
    prepare(here(volumes))
    given = volumes / "given/consul"
    assert json.loads((given / "agent.json").read_text())["acl"]["default_policy"] == "deny"
    assert json.loads((given / "zz-container.json").read_text()) == {"client_addr": "0.0.0.0"}
    assert json.loads((given / "private.json").read_text())["encrypt"]


def test_the_welcome_is_laid_into_an_empty_workspace_and_into_no_other(volumes: Path) -> None:
    prepare(here(volumes))
    assert "lighthouse" in (volumes / "workspace/welcome.md").read_text()
    (volumes / "workspace/welcome.md").unlink()
    (volumes / "workspace/mine.txt").write_text("mine")
    prepare(here(volumes))
    assert [path.name for path in (volumes / "workspace").iterdir()] == ["mine.txt"]


def test_a_damaged_file_of_secrets_stops_it_and_is_left_as_it_is(volumes: Path) -> None:
    prepare(here(volumes))
    secrets = volumes / "keep/.tekup/gate/tables/secrets.json"
    secrets.write_text("{")
    given = texts(volumes / "given")
    with pytest.raises(StepFailed, match=r"secrets\.json cannot be read"):
        prepare(here(volumes))
    assert secrets.read_text() == "{"
    assert texts(volumes / "given") == given


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("MCP_ENV", "testing", "'development', 'staging' or 'production'"),
        ("MCP_LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error'"),
        ("MCP_BROWSER_MEMORY", "100m", "browser needs 512m at least"),
        ("MCP_SEARCH_MEMORY", "much", "as in 512m or 2g"),
        ("MCP_FILESYSTEM_CPUS", "0", "greater than or equal to 0.05"),
        ("MCP_GATEWAY_PORT", "70000", "less than or equal to 65535"),
        ("MCP_ENABLE_SANDBOX", "perhaps", "valid boolean"),
    ],
)
def test_a_wrong_setting_is_named_with_what_it_may_be(tmp_path: Path, name: str, value: str, said: str) -> None:
    with pytest.raises(BadSettings) as raised:
        here(tmp_path, **{name: value})
    assert f"{name} = {value!r} (from environment)" in str(raised.value)
    assert said in str(raised.value)


def test_all_wrong_settings_are_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(BadSettings) as raised:
        here(tmp_path, MCP_ENV="testing", MCP_HUB_MEMORY="1m")
    assert "MCP_ENV" in str(raised.value)
    assert "MCP_HUB_MEMORY" in str(raised.value)


def test_each_kind_of_environment_can_be_made_of_containers_and_one_of_local_processes(tmp_path: Path) -> None:
    for kind in ("development", "staging", "production"):
        assert here(tmp_path, MCP_ENV=kind).effective.settings.env == kind
    with pytest.raises(BadSettings, match="local processes are for development"):
        load(Layout(tmp_path), {"MCP_ENV": "staging"})


@pytest.mark.parametrize(("text", "amount"), [("512m", 512 << 20), ("2g", 2 << 30), ("2GB", 2 << 30), ("1024", 1024)])
def test_memory_is_read_as_compose_reads_it(text: str, amount: int) -> None:
    assert bytes_of(text) == amount


def test_every_setting_that_compose_hands_on_is_one(tmp_path: Path) -> None:
    base = compose_file(repository() / "compose/base.yml")
    known = {str(field.alias) for field in ContainerSettings.model_fields.values()}
    assert set(base["services"]["setup"]["environment"]) <= known


PRODUCTION = {
    "MCP_ENV": "production",
    "MCP_TLS": "local",
    "MCP_MTLS": "on",
    "MCP_WITH": "observability",
    "MCP_GATES": "2",
    "MCP_CONTROL_PLANE_REPLICAS": "3",
    "MCP_CONSUL_SERVERS": "3",
    "MCP_PROJECT": "shop",
}
FURTHER = (
    *("consul-1", "consul-2", "consul-3", "gate-2", "certificate", "operators-gate"),
    *("prometheus", "alertmanager", "loki", "jaeger", "collector"),
)


@pytest.fixture
def production(volumes: Path) -> Path:
    """All volumes of production, prepared."""
    for name in FURTHER:
        (volumes / "given" / name).mkdir()
    (volumes / "data" / "receivers").mkdir(parents=True)
    prepare(here(volumes, **PRODUCTION))
    return volumes


def test_consul_s_agents_each_have_a_certificate_and_a_token_of_their_own(production: Path) -> None:
    agents = ("consul", "consul-1", "consul-2", "consul-3")
    given = {name: texts(production / "given" / name) for name in agents}
    assert len({files["consul.key"] for files in given.values()}) == len(agents)
    assert len({json.loads(files["private.json"])["acl"]["tokens"]["agent"] for files in given.values()}) == len(agents)
    assert len({json.loads(files["private.json"])["encrypt"] for files in given.values()}) == 1
    for name in agents:
        leaf = x509.load_pem_x509_certificate(given[name]["consul.pem"].encode())
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert ("server.local.consul" in names.get_values_for_type(x509.DNSName)) == (name != "consul")
        assert json.loads(given[name]["agent.json"])["server"] == (name != "consul")
    assert json.loads(given["consul-2"]["zz-container.json"])["node_name"] == "consul-2"


def test_a_second_time_in_production_changes_nothing_either(production: Path) -> None:
    before = texts(production / "given")
    prepare(here(production, **PRODUCTION))
    assert texts(production / "given") == before


def test_both_gates_hold_the_same_keys_and_each_agent_its_own_token(production: Path) -> None:
    one, two = (texts(production / "keep/.tekup" / gate) for gate in ("gate", "gate-2"))
    assert one["tables/secrets.json"] == two["tables/secrets.json"]
    assert one["traefik.yml"] == two["traefik.yml"]
    tokens = [(production / "given" / gate / "consul.token").read_text() for gate in ("gate", "gate-2")]
    assert tokens[0] != tokens[1]


def test_no_gate_in_containers_leads_to_the_operators_api(production: Path) -> None:
    gate = production / "keep" / ".tekup" / "gate"
    assert not (gate / "dynamic" / "operators.yml").exists()
    assert "operators:" not in (gate / "traefik.yml").read_text()


def test_operators_have_a_gate_of_their_own_that_knows_every_control_plane_and_nothing_else(production: Path) -> None:
    gate = production / "given" / "operators-gate"
    static = yaml.safe_load((gate / "traefik.yml").read_text())
    entries = {name: entry["address"] for name, entry in static["entryPoints"].items()}
    assert entries == {"operators": "0.0.0.0:3008", "private": "127.0.0.1:3006"}
    told = yaml.safe_load((gate / "dynamic/operators.yml").read_text())["http"]
    (servers,) = (each["loadBalancer"]["servers"] for each in told["services"].values())
    replicas = ("control-plane", "control-plane-2", "control-plane-3")
    assert servers == [{"url": f"http://{name}:3010"} for name in replicas]
    assert all(router["entryPoints"] == ["operators"] and "tls" in router for router in told["routers"].values())
    assert not (gate / "tables").exists()
    assert {path.name for path in (gate / "dynamic").iterdir()} == {"operators.yml", "tls.yml"}


def test_operators_come_by_tls_where_something_else_ends_that_of_clients(volumes: Path) -> None:
    for name in FURTHER:
        (volumes / "given" / name).mkdir()
    prepare(here(volumes, **{**PRODUCTION, "MCP_TLS": "off"}))
    assert (volumes / "given/operators-gate/dynamic/tls.yml").exists()
    assert not (volumes / "keep/.tekup/gate/dynamic/tls.yml").exists()
    assert "ca.pem" in texts(volumes / "given/certificate")


def test_alertmanager_begins_with_the_platforms_own_configuration_and_keeps_what_its_keeper_wrote(
    production: Path,
) -> None:
    live = production / "data/receivers/live.yml"
    assert live.read_text() == (production / "given/alertmanager/alertmanager.yml").read_text()
    live.write_text("the keeper's")
    prepare(here(production, **PRODUCTION))
    assert live.read_text() == "the keeper's"


def test_a_gate_finds_its_certificate_where_it_sees_it(production: Path) -> None:
    said = yaml.safe_load((production / "keep/.tekup/gate-2/dynamic/tls.yml").read_text())
    (pair,) = said["tls"]["certificates"] if "certificates" in said["tls"] else said["tls"]["stores"].values()
    pair = pair.get("defaultCertificate", pair)
    assert pair["certFile"].startswith("/gate/certificates/")
    assert (production / "keep/.tekup/gate-2/certificates" / Path(pair["certFile"]).name).exists()


def test_the_on_call_stack_finds_everybody_by_name(production: Path) -> None:
    said = yaml.safe_load((production / "given/prometheus/prometheus.yml").read_text())
    targets = {
        job["job_name"]: [one for each in job.get("static_configs", ()) for one in each["targets"]]
        for job in said["scrape_configs"]
    }
    assert targets["consul"] == ["consul-1:8501", "consul-2:8501", "consul-3:8501"]
    assert targets["control-plane"] == ["control-plane:3010", "control-plane-2:3010", "control-plane-3:3010"]
    assert targets["containers"] == ["usage:9100"]
    assert (production / "given/prometheus/rules/alerts/gates.yml").exists()
    collector = (production / "given/collector/collector.yml").read_text()
    assert 'startsWith "shop/"' in collector
    assert (production / "given/collector/collector.yml").stat().st_mode & 0o777 == 0o644


MACHINES = {**PRODUCTION, "MCP_GATES": "3", "MCP_MACHINES": "anna,bert,carl"}
AGENTS = {"consul": "anna", "consul-agent-2": "bert", "consul-agent-3": "carl"}


@pytest.fixture
def machines(volumes: Path) -> Path:
    """All volumes of production on three machines, prepared."""
    for name in (*FURTHER, "gate-3", "consul-agent-2", "consul-agent-3"):
        (volumes / "given" / name).mkdir()
    prepare(here(volumes, **MACHINES))
    return volumes


def test_each_machine_has_an_agent_of_its_own_that_is_found_by_the_machines_name(machines: Path) -> None:
    for agent, machine in AGENTS.items():
        given = texts(machines / "given" / agent)
        leaf = x509.load_pem_x509_certificate(given["consul.pem"].encode())
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["consul", f"{machine}.consul", "localhost"]
    own = [json.loads(texts(machines / "given" / agent)["zz-container.json"])["node_name"] for agent in AGENTS]
    assert own == ["tekup", "tekup-2", "tekup-3"]


def test_a_gate_may_hold_sessions_on_its_own_machine_alone(machines: Path) -> None:
    rules = {role.name: role.rules() for role in here(machines, **MACHINES).roles()}
    assert 'session "tekup-3"' in rules["gate-local-3"]
    assert 'session "tekup"' in rules["gate"]
    assert 'node "tekup-2"' in rules["consul-tekup-2"]


def test_what_one_machine_has_made_is_the_same_on_another(
    machines: Path, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    layout, other = Layout(machines / "keep"), Layout(tmp_path / "other/keep")
    hand_over(layout)
    packed = tmp_path / "packed"
    packed.write_bytes(capfdbinary.readouterr().out)
    other.state.mkdir(parents=True)
    take_in(packed, other)
    assert texts(other.secrets) == texts(layout.secrets)
    assert texts(other.authority) == texts(layout.authority)
    assert texts(other.state / "gate") == {"tables/secrets.json": (layout.gate / "tables/secrets.json").read_text()}
    assert stat.S_IMODE((other.secrets / "consul/operator.token").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["../outside", "/etc/outside"])
def test_a_file_that_would_lie_outside_is_not_taken_over(tmp_path: Path, name: str) -> None:
    packed = tmp_path / "packed"
    with tarfile.open(packed, "w") as archive:
        archive.addfile(tarfile.TarInfo(name), io.BytesIO())
    with pytest.raises(StepFailed, match="no file of ours"):
        take_in(packed, Layout(tmp_path / "keep"))


def test_an_environment_of_one_server_has_no_more_than_it_needs(volumes: Path) -> None:
    prepare(here(volumes))
    assert sorted(texts(volumes / "given/consul")) == ["agent.json", "private.json", "zz-container.json"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"MCP_CONSUL_SERVERS": "2"}, "MCP_CONSUL_SERVERS"),
        ({"MCP_GATES": "4"}, "MCP_GATES"),
        ({"MCP_MACHINES": "a,b"}, "MCP_MACHINES"),
        ({"MCP_MACHINES": "a,b,A"}, "MCP_MACHINES"),
        ({"MCP_CONSUL_SUBNET": "here"}, "MCP_CONSUL_SUBNET"),
        ({"MCP_TLS": "files"}, "MCP_TLS_CERT_FILE is missing"),
        ({"MCP_ENV": "prod"}, "MCP_ENV"),
    ],
)
def test_settings_that_make_no_environment_are_refused_by_name(
    volumes: Path, settings: dict[str, str], said: str
) -> None:
    with pytest.raises(BadSettings, match=said):
        here(volumes, **settings)


def test_a_server_of_somebody_else_has_credentials_of_its_own_for_as_long_as_it_is_asked_for(volumes: Path) -> None:
    for number in (1, 2):
        (volumes / "given" / f"bridged-{number}").mkdir()
    prepare(here(volumes, MCP_BRIDGED="pear,time"))
    pear, time = (texts(volumes / "given" / f"bridged-{number}") for number in (1, 2))
    assert pear.keys() == time.keys() == {"consul.token", "consul-ca.pem", "secrets.json"}
    assert json.loads(time["secrets.json"])["service"] == "time"
    assert pear["consul.token"] != time["consul.token"]
    prepare(here(volumes, MCP_BRIDGED="pear"))
    assert texts(volumes / "given" / "bridged-1") == pear
    known = json.loads((volumes / "keep/.tekup/gate/tables/secrets.json").read_text())["services"]
    assert "pear" in known
    assert "time" not in known
    assert not (volumes / "keep/.tekup/secrets/consul/service-time.token").exists()


def test_each_consul_is_given_the_id_of_its_name_where_it_has_data(volumes: Path) -> None:
    for name in ("consul", "consul-1"):
        (volumes / "data" / name).mkdir(parents=True)
    prepare(here(volumes, MCP_CONSUL_SERVERS="3"))
    ids = {path.parent.name: path.read_text() for path in (volumes / "data").glob("*/node-id")}
    assert ids == {"consul": node_id("tekup"), "consul-1": node_id("consul-1")}
