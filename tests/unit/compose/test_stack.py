"""What Swarm is told of an environment: nothing that it would leave out without a word."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from compose.containers.stack import CHECKED, KEEP, NOWHERE, stack
from compose.containers.swarm import well
from compose.local.files import repository

COMPOSE = repository() / "compose"
BOUNDED: dict[str, Any] = {
    "image": "tekup/mcp-hub:latest",
    "init": True,
    "read_only": True,
    "user": "10001:10001",
    "cap_drop": ["ALL"],
    "security_opt": ["no-new-privileges:true"],
    "restart": "unless-stopped",
    "mem_limit": "268435456",
    "cpus": 0.5,
    "pids_limit": 64,
    "ulimits": {"nofile": {"soft": 4096, "hard": 4096}},
    "tmpfs": ["/tmp:size=64m,mode=1777,noexec,nosuid,nodev"],
    "logging": {"driver": "json-file", "options": {"max-size": "10m", "tag": "by Compose's labels"}},
    "depends_on": {"setup": {"condition": "service_completed_successfully"}},
    "networks": {"hub": None},
    "command": None,
}


def told(**differs: Any) -> dict[str, Any]:
    """What Swarm is told of one service."""
    config = {
        "name": "shop",
        "services": {"one": {**BOUNDED, **differs}},
        "networks": {"hub": {"name": "shop_hub", "internal": True, "ipam": {}}},
        "volumes": {"data": {"name": "shop_data"}},
    }
    made: dict[str, Any] = stack(config, only=["one"], keep="shop-setup")["services"]["one"]
    return made


def test_every_bound_of_compose_is_one_of_swarms() -> None:
    one = told()
    assert one["deploy"]["resources"] == {"limits": {"cpus": "0.5", "memory": "268435456b", "pids": 64}}
    assert one["volumes"] == [{"type": "tmpfs", "target": "/tmp", "tmpfs": {"size": 64 << 20, "mode": 0o1777}}]
    assert {"init", "read_only", "user", "cap_drop", "ulimits"} <= set(one)


def test_what_swarm_leaves_out_without_a_word_is_not_told_to_it() -> None:
    one = told(shm_size="268435456", scale=2, pid="host")
    gone = {
        "security_opt",
        "restart",
        "depends_on",
        "mem_limit",
        "cpus",
        "pids_limit",
        "tmpfs",
        "shm_size",
        "scale",
        "pid",
    }
    assert not gone & set(one)
    assert one["deploy"]["replicas"] == 2
    assert one["volumes"][1] == {"type": "tmpfs", "target": "/dev/shm", "tmpfs": {"size": 256 << 20, "mode": 0o1777}}


def test_names_lead_to_containers_and_ports_are_the_machines_own() -> None:
    public = {"target": 3000, "published": "3000", "protocol": "tcp", "mode": "ingress"}
    one = told(ports=[public, {**public, "published": "3010", "host_ip": "127.0.0.1"}])
    assert one["deploy"]["endpoint_mode"] == "dnsrr"
    # Swarm cannot publish on loopback alone: what belongs there is not published
    assert one["ports"] == [{"target": 3000, "published": 3000, "protocol": "tcp", "mode": "host"}]


def test_who_is_in_no_network_is_in_one_of_those_who_need_none() -> None:
    made = stack(
        {"name": "shop", "services": {"one": {**BOUNDED, "networks": None}}, "networks": {}, "volumes": {}},
        only=["one"],
    )
    assert made["services"]["one"]["networks"] == {NOWHERE: {}}
    assert made["networks"][NOWHERE] == {"driver": "overlay", "internal": True}


def test_nobody_is_replaced_for_not_being_healthy_while_the_environment_begins() -> None:
    checked = told(healthcheck={"test": ["CMD", "true"], "interval": "2s"})["healthcheck"]
    assert checked == {"test": ["CMD", "true"], **CHECKED}
    assert told()["healthcheck"] == CHECKED  # the image's own, with more patience
    assert told(healthcheck={"disable": True})["healthcheck"] == {"disable": True}


def test_a_line_of_the_log_tells_whose_it_is() -> None:
    assert told()["logging"]["options"]["tag"] == "shop/one/{{.ID}}"


def test_the_job_of_each_machine_alone_is_given_what_the_first_has_made() -> None:
    job = told(deploy={"mode": "global-job", "resources": {}})
    assert job["secrets"] == [{"source": KEEP, "target": KEEP, "uid": "10001", "gid": "10001", "mode": 0o400}]
    assert job["deploy"]["restart_policy"] == {"condition": "on-failure", "max_attempts": 3}
    assert "secrets" not in told()


def test_a_volume_has_the_name_that_compose_gives_it() -> None:
    mount = {"type": "volume", "source": "data", "target": "/data", "volume": {"nocopy": True}}
    assert told(volumes=[mount])["volumes"][0] == mount


def test_a_further_version_is_a_service_beside_the_one_that_is_there() -> None:
    config = {"name": "shop", "services": {"mcp-hub": BOUNDED, "setup": BOUNDED}, "networks": {}, "volumes": {}}
    made = stack(config, only=["mcp-hub"], beside={"hub": "0.2.0", "search": "0.2.0"})["services"]
    assert {name: said["image"] for name, said in made.items()} == {
        "mcp-hub": "tekup/mcp-hub:latest",
        "mcp-hub-0-2-0": "tekup/mcp-hub:0.2.0",
    }


@pytest.mark.parametrize(
    ("how", "is_well"),
    [("3/3", True), ("2/3", False), ("1/1 (max 1 per node)", True), ("0/3 (3/3 completed)", True),
     ("1/3 (2/3 completed)", False)],
)  # fmt: skip
def test_a_service_is_well_when_as_many_run_as_should_or_its_job_is_done(how: str, is_well: bool) -> None:
    assert well(how) is is_well


class _AnyTag(yaml.SafeLoader):
    """Compose has tags of its own (`!override`), which say nothing here."""


_AnyTag.add_multi_constructor("!", lambda loader, _, node: getattr(loader, f"construct_{node.id}")(node))


def _services(name: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.load((COMPOSE / name).read_text(), _AnyTag)["services"]
    return found


def test_whoever_asks_one_engine_is_not_told_to_swarm() -> None:
    asks = {
        service
        for name in ("base.yml", "production.yml", "oncall.yml", "prod.yml")
        for service, given in _services(name).items()
        if any("MCP_ENGINE_SOCKET" in str(volume) for volume in given.get("volumes", ()))
    }
    on_swarm = _services("swarm.yml")
    assert {"keeper", "links", "usage"} <= asks
    assert {service for service in asks if on_swarm.get(service, {}).get("profiles") != ["one-machine"]} == set()
