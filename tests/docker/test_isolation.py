"""What a container of ours can see, do and reach; tried inside each one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.container_environment import ContainerEnvironment
from tests.support.engine import Engine
from tests.support.leftovers import LABEL

pytestmark = [pytest.mark.docker, pytest.mark.feature("E2", "E3", "E4")]

PYTHON = ("mcp-browser", "egress", "mcp-filesystem", "mcp-search", "mcp-hub", "control-plane", "mcp-agent")
RUNNING = (*PYTHON, "consul-access", "mcp-gateway", "consul")
USER = "10001"
LOOK_S = 2.0
METADATA = ("169.254.169.254", 80)
SEES = {
    "mcp-browser": {"consul": 8500, "mcp-gateway": 3000, "pages": 8080, "egress": 3128},
    "egress": {"consul": 8500, "mcp-gateway": 3000, "pages": 8080, "mcp-browser": 3001},
    "mcp-filesystem": {"consul": 8500, "mcp-gateway": 3000, "mcp-search": 3003},
    "mcp-search": {"consul": 8500, "mcp-gateway": 3000, "mcp-filesystem": 3002},
    "mcp-hub": {"consul": 8500, "mcp-gateway": 3005},
    "mcp-agent": {"consul": 8500, "mcp-gateway": 3006, "control-plane": 3010},
    "control-plane": {"consul": 8500, "mcp-gateway": 3005},
}
"""Whom each may reach, so that a test which finds nobody would be noticed."""
PORTS = {"mcp-browser": 3001, "mcp-filesystem": 3002, "mcp-search": 3003, "mcp-hub": 3004, "control-plane": 3010}
WAYS_OUT = {"egress", "mcp-gateway", "control-plane"}
"""Who is in a network that leads out: pages are fetched, and two ports are published in development."""
CONNECT = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def said(place):
    try:
        socket.create_connection(place, %s).close()
        return "reached"
    except OSError as error:
        return type(error).__name__
places = [tuple(place) for place in json.load(sys.stdin)]
with ThreadPoolExecutor(len(places)) as looking:
    found = looking.map(said, places)
print(json.dumps({f"{host}:{port}": one for (host, port), one in zip(places, found)}))
"""
LOOK = """
import json, os
from pathlib import Path
status = dict(line.split(":", 1) for line in Path("/proc/1/status").read_text().splitlines() if ":" in line)
def refused(what):
    try:
        what()
        return False
    except (OSError, IndexError):
        return True
print(json.dumps({
    "user": os.getuid(), "groups": os.getgroups(),
    "capabilities": [status[name].strip() for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
    "no new privileges": status["NoNewPrivs"].strip(), "seccomp": status["Seccomp"].strip(),
    "root is read-only": refused(lambda: Path("/written").write_text("")) and refused(lambda: Path("/app/x").touch()),
    "kernel settings": refused(lambda: Path("/proc/sys/kernel/core_pattern").write_text("|/x")),
    "kernel memory": refused(lambda: open("/proc/kcore", "rb").read(1)[0]) if Path("/proc/kcore").exists() else True,
    "cgroups": refused(lambda: Path("/sys/fs/cgroup/x").mkdir()),
    "mounting": refused(lambda: os.mkdir("/tmp/m") or os.chroot("/tmp")),
    "sockets of an engine": [str(path) for path in map(Path, ("/var/run/docker.sock", "/run/docker.sock",
        "/run/containerd/containerd.sock")) if path.exists()],
    "devices": sorted(path.name for path in Path("/dev").iterdir() if path.is_block_device()),
    "mounts": sorted({line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()}),
    "processes": [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()],
}))
"""


def inside(environment: ContainerEnvironment, service: str, script: str, given: str = "") -> dict[str, object]:
    """What a Python script prints inside a service's container."""
    done = environment.compose("exec", "-T", service, "python", "-c", script, given=given)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("service", PYTHON)
def test_a_container_holds_nothing_by_which_to_leave_it(dev: ContainerEnvironment, service: str) -> None:
    found = inside(dev, service, LOOK)
    mounts, processes = found.pop("mounts"), found.pop("processes")
    assert found == {
        "user": int(USER),
        "groups": [int(USER)],
        "capabilities": ["0" * 16] * 5,
        "no new privileges": "1",
        "seccomp": "2",
        "root is read-only": True,
        "kernel settings": True,
        "kernel memory": True,
        "cgroups": True,
        "mounting": True,
        "sockets of an engine": [],
        "devices": [],
    }
    assert isinstance(mounts, list)
    ours = {mount for mount in mounts if not mount.startswith(("/proc", "/sys", "/dev", "/etc/"))}
    assert ours <= {"/", "/tmp", "/run/tekup", "/workspace", "/gate", "/app/services", "/usr/sbin/docker-init"}, ours
    assert isinstance(processes, list)
    assert 1 in processes


@pytest.mark.parametrize("service", RUNNING)
def test_a_container_is_started_without_rights(dev: ContainerEnvironment, engine: Engine, service: str) -> None:
    (about,) = json.loads(engine.docker("inspect", dev.said("ps", "--quiet", service).split()[0]))
    held = about["HostConfig"]
    assert about["Config"]["User"] == f"{USER}:{USER}"
    assert held["ReadonlyRootfs"]
    assert held["CapDrop"] == ["ALL"]
    assert not held["CapAdd"]
    assert not held["Privileged"]
    assert "no-new-privileges:true" in held["SecurityOpt"]
    assert any(option.startswith("seccomp=") and "unconfined" not in option for option in held["SecurityOpt"])
    assert {held["PidMode"], held["IpcMode"], held["UTSMode"]} <= {"", "private", "shareable"}
    assert held["Memory"] > 0
    assert held["NanoCpus"] > 0
    assert held["PidsLimit"] > 0
    assert {limit["Name"] for limit in held["Ulimits"]} == {"nofile", "core"}
    log = held["LogConfig"]["Config"]
    assert (log["max-size"], log["max-file"]) == ("10m", "3")
    assert log["tag"].startswith(f"{dev.project}/")


@contextmanager
def outsider(engine: Engine, prefix: str) -> Iterator[str]:
    """The address of somebody outside, who listens on port 8000: what is not ours to reach."""
    network = engine.docker("network", "create", "--label", f"{LABEL}={prefix}", f"{prefix}-outside")
    command = ("run", "--detach", "--label", f"{LABEL}={prefix}", "--network", network, "--entrypoint", "python")
    made = engine.docker(*command, "tekup/mcp-control-plane:latest", "-m", "http.server", "8000")
    try:
        (about,) = json.loads(engine.docker("inspect", made))
        (there,) = about["NetworkSettings"]["Networks"].values()
        yield there["IPAddress"]
    finally:
        engine.docker("rm", "--force", "--volumes", made)
        engine.docker("network", "rm", network)


@pytest.mark.parametrize("service", PYTHON)
def test_a_container_reaches_whom_it_needs_and_nobody_else(
    dev: ContainerEnvironment, engine: Engine, run_prefix: str, service: str
) -> None:
    allowed = SEES[service]
    others = {name: port for name, port in PORTS.items() if name not in allowed and name != service}
    with outsider(engine, run_prefix) as address:
        bridge = ".".join([*address.split(".")[:3], "1"])
        outside = [] if service in WAYS_OUT else [(address, 8000), (bridge, 22), METADATA]
        asked = [*allowed.items(), *others.items(), *outside]
        found = inside(dev, service, CONNECT % LOOK_S, json.dumps(asked))
    assert {name for name, said in found.items() if said == "reached"} == {f"{n}:{p}" for n, p in allowed.items()}


def test_no_secret_stands_in_what_the_engine_tells_of_a_container(dev: ContainerEnvironment, engine: Engine) -> None:
    script = "cd /keep/.tekup && cat operator.token dev.key secrets/*.json secrets/consul/* gate/tables/secrets.json"
    kept = dev.said("run", "--rm", "--no-deps", "-T", "--entrypoint", "sh", "setup", "-c", script)
    words = {word.strip('",[]{}') for word in kept.replace(":", " ").split()}
    secrets = {word for word in words if len(word) > 30}
    assert len(secrets) > 10
    secrets |= {secret.rpartition("_")[2] for secret in secrets if secret.startswith("tk_")}
    told = {}
    for container in dev.said("ps", "--all", "--quiet").split():
        (about,) = json.loads(engine.docker("inspect", container))
        name = about["Config"]["Labels"]["com.docker.compose.service"]
        told[f"inspect {name}"] = json.dumps(about)
        told[f"history {name}"] = engine.docker("history", "--no-trunc", about["Image"])
        if name != "first-call":  # in development it tells the key to whoever set it up
            told[f"logs {name}"] = dev.said("logs", "--no-log-prefix", name)
    assert len(told) > 20
    found = {where for where, text in told.items() for secret in secrets if secret in text}
    assert found == set()
    assert any(secret in dev.said("logs", "first-call") for secret in secrets), "it would not have been noticed"
