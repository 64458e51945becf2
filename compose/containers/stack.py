"""What Compose says of an environment, in the words of Swarm. Pure: `docker compose config` in, a stack out.

Swarm leaves out without a word what it does not know, so nothing is handed on that is not named here. What one machine
is told otherwise than several stands in compose/swarm.yml, not here.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

KEEP = "keep"
"""The secret by which `setup` on each machine gets what was made on the first (decision 0042)."""
USER = "10001"
PREFIX = "mcp-"
"""Of the Compose services that are services of the platform."""
SHARED = "/dev/shm"  # noqa: S108 (whose memory several processes of one container share)
NOWHERE = "nowhere"
"""The network of those who need none: Swarm puts everybody into one."""
LOOPBACK = "127.0.0.1"
SAME = (
    "image", "command", "entrypoint", "environment", "user", "init", "read_only", "cap_drop", "cap_add",
    "stop_grace_period", "hostname", "labels",
)  # fmt: skip
CHECKED = {"start_period": "300s", "interval": "10s", "timeout": "10s"}
"""Swarm replaces who is not healthy, and nobody is before Consul has its servers and knows its tokens. Gates look by
themselves, each second: that the engine looks as well is for a deployment that waits."""
Said = Mapping[str, Any]


def stack(
    config: Said, *, only: Sequence[str], keep: str = "", beside: Mapping[str, str] = MappingProxyType({})
) -> dict[str, Any]:
    """The whole file for `docker stack deploy`.

    Args:
        config: What `docker compose config --format json` says.
        only: Services to take.
        keep: The name of the secret with what `setup` made on one machine, where `setup` is taken.
        beside: A further version of a service, which is started beside the one there is. Who gets calls is the control
            plane's to say; Swarm replaces nothing by it.
    """
    services = {name: said for name, said in config["services"].items() if name in only}
    for service, version in beside.items():
        if (there := services.get(f"{PREFIX}{service}")) is not None:
            image = f"{there['image'].rpartition(':')[0]}:{version}"
            services[f"{PREFIX}{service}-{version.replace('.', '-').lower()}"] = {**there, "image": image}
    return {
        "version": "3.13",
        "services": {name: _service(config["name"], name, said) for name, said in services.items()},
        "networks": {
            **{name: _network(said) for name, said in config["networks"].items()},
            NOWHERE: {"driver": "overlay", "internal": True},
        },
        "volumes": {name: {"name": said["name"]} for name, said in config["volumes"].items()},
        "secrets": {KEEP: {"external": True, "name": keep}} if keep else {},
    }


def ulimits(said: Said) -> dict[str, Any]:
    """The limits of a service's processes; `docker compose config` leaves out those of 0, and no one takes that."""
    return {limit: how or 0 for limit, how in said["ulimits"].items()}


def _service(project: str, name: str, said: Said) -> dict[str, Any]:
    made = {key: said[key] for key in SAME if said.get(key) is not None}
    made["volumes"] = [*map(_mount, said.get("volumes", [])), *_memory(said)]
    made["ulimits"] = ulimits(said)
    made["networks"] = said.get("networks") or {NOWHERE: {}}
    made["logging"] = _logging(project, name, said["logging"])
    made["healthcheck"] = {**said.get("healthcheck", {}), **CHECKED}
    made["deploy"] = _deploy(said)
    if said.get("healthcheck", {}).get("disable"):
        made["healthcheck"] = {"disable": True}
    if ports := [_port(port) for port in said.get("ports", []) if port.get("host_ip") != LOOPBACK]:
        made["ports"] = ports
    if made["deploy"].get("mode") == "global-job":
        made["secrets"] = [{"source": KEEP, "target": KEEP, "uid": USER, "gid": USER, "mode": 0o400}]
    return made


def _deploy(said: Said) -> dict[str, Any]:
    deploy = {key: value for key, value in said.get("deploy", {}).items() if key != "resources"}
    job = deploy.get("mode") == "global-job"
    limits = {"cpus": str(said["cpus"]), "memory": f"{said['mem_limit']}b", "pids": said["pids_limit"]}
    deploy["resources"] = {"limits": limits}
    deploy["endpoint_mode"] = "dnsrr"
    deploy["restart_policy"] = {"condition": "on-failure", "max_attempts": 3} if job else {"delay": "2s"}
    if "scale" in said:
        deploy["replicas"] = said["scale"]
    return deploy


def _mount(mount: Said) -> dict[str, Any]:
    made = {key: mount[key] for key in ("type", "source", "target", "read_only") if key in mount}
    return made | ({"volume": {"nocopy": True}} if mount.get("volume", {}).get("nocopy") else {})


def _memory(said: Said) -> list[dict[str, Any]]:
    """Folders in memory. Swarm makes each noexec, nosuid and nodev by itself."""
    wanted = [tuple(one.split(":", 1)) for one in said.get("tmpfs", [])]
    shared = [(SHARED, f"size={said['shm_size']}")] if "shm_size" in said else []
    return [
        {"type": "tmpfs", "target": target, "tmpfs": {"size": _size(options), "mode": 0o1777}}
        for target, options in (*wanted, *shared)
    ]


def _size(options: str) -> int:
    size = next(option.removeprefix("size=") for option in options.split(",") if option.startswith("size="))
    return int(size.rstrip("m")) << (20 if size.endswith("m") else 0)


def _logging(project: str, name: str, said: Said) -> dict[str, Any]:
    """The tag names who wrote a line as Compose's does, with the container in the place of a number."""
    options = {**said["options"], "tag": f"{project}/{name}/{{{{.ID}}}}"}
    return {"driver": said["driver"], "options": options}


def _port(port: Said) -> dict[str, Any]:
    return {"target": port["target"], "published": int(port["published"]), "protocol": port["protocol"], "mode": "host"}


def _network(said: Said) -> dict[str, Any]:
    made: dict[str, Any] = {"name": said["name"], "driver": "overlay"}
    if said.get("internal"):
        made["internal"] = True
    if said.get("ipam"):
        made["ipam"] = said["ipam"]
    return made
