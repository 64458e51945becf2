"""Consul in an environment of containers: one agent for everybody on a machine, with servers behind it or as one.

With servers, all of Consul's speaks TLS by an authority of its own, made here: between agents both sides prove
themselves, its API proves itself to whoever asks.
"""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from compose.local.authority import CA, LEAF_LIFE, is_of, issue, make_authority
from compose.local.certificates import Pair, read_pair
from compose.local.consul_acl import CONSUL, keep, server_role
from compose.local.consul_config import private_text
from compose.local.errors import BadCertificate
from compose.local.files import PRIVATE, carried, write_atomically
from compose.local.observability import DATACENTER

from .places import CONSUL_CA, GIVEN, Agent, Here

MOST_SERVERS = 7
LIFE = timedelta(days=180)
CERTIFICATE, KEY = "consul.pem", "consul.key"
SUBNET_TEMPLATE = '{{{{ GetPrivateInterfaces | include "network" "{subnet}" | attr "address" }}}}'
"""Of go-sockaddr: the address in the network of Consul's own, whatever others the container is in."""
EVERYWHERE = {"client_addr": "0.0.0.0"}
"""Of Consul's configuration: with one server, only its HTTP API is others' to reach."""


def make_consul_authority(here: Here, now: datetime) -> None:
    """Make Consul's authority, unless there is one with time before it."""
    folder = here.layout.consul_authority
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    servers = (f"{CONSUL}-{number}" for number in range(1, MOST_SERVERS + 1))
    # the name `consul` stands for `server.local.consul` too
    make_authority(folder, now, CONSUL, *servers)


def authority_text(here: Here) -> str:
    """Whom to trust, PEM."""
    return (here.layout.consul_authority / CA).read_text(encoding="ascii")


def keep_access(here: Here) -> None:
    """Keep Consul knowing who may do what, for ever.

    Raises:
        LocalError: nothing more can be done here without a person.
    """
    ca = here.layout.consul_authority / CA if here.servers else None
    keep(here.layout, here.consul_url(), here.roles(), ca)


def consul_files(here: Here) -> dict[str, dict[str, str]]:
    """What the agent and each server are given, by recipient and file.

    Raises:
        LocalError: a file is damaged.
    """
    if not here.servers:
        given = {"agent.json": _source("agent.json"), "private.json": private_text(here.layout, CONSUL),
                 "zz-container.json": _text(EVERYWHERE)}  # fmt: skip
        return {CONSUL: given}
    return {
        **{name: _given(here, name, agent.role, agent) for name, agent in here.agents.items()},
        **{server: _given(here, server, server_role(server).name) for server in here.servers},
    }


def _given(here: Here, name: str, role: str, agent: Agent | None = None) -> dict[str, str]:
    """What an agent, or one of the servers behind it, is given."""
    pair = _pair(here, name, agent.names if agent else (name, f"server.{DATACENTER}.consul"))
    differs = {"node_name": agent.node} if agent else {"node_name": name, "bootstrap_expect": len(here.servers)}
    return {
        "agent.json": _source("agent.client.json" if agent else "agent.prod.json"),
        "private.json": private_text(here.layout, role),
        # the last: what differs here
        "zz-container.json": _text(_own(here) | differs),
        CONSUL_CA: authority_text(here),
        CERTIFICATE: pair.chain,
        KEY: pair.key,
    }


def _own(here: Here) -> dict[str, object]:
    files = {"ca_file": CONSUL_CA, "cert_file": CERTIFICATE, "key_file": KEY}
    return {
        "datacenter": DATACENTER,
        "bind_addr": "0.0.0.0",
        "advertise_addr": SUBNET_TEMPLATE.format(subnet=here.settings.consul_subnet),
        "retry_join": list(here.servers),
        "auto_reload_config": True,
        "tls": {"defaults": {setting: str(GIVEN / file) for setting, file in files.items()}},
    }


def _pair(here: Here, name: str, names: Sequence[str]) -> Pair:
    """The certificate in place while it has a third of its time left and all names, else a new one."""
    folder, now = here.layout.consul_authority, datetime.now(UTC)
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    wanted = (*names, "localhost")
    if (kept := _good(certificate, key, folder, now)) is not None and _names(kept) >= set(wanted):
        return kept
    pair = issue(folder, now, LIFE, names=wanted, called=name)
    write_atomically(key, pair.key, PRIVATE)
    write_atomically(certificate, pair.chain)
    return pair


def _good(certificate: Path, key: Path, folder: Path, now: datetime) -> Pair | None:
    try:
        pair = read_pair(certificate, key)
        leaf = pair.leaf()
        good = is_of(folder, leaf) and leaf.not_valid_after_utc - now > max(LIFE / 3, LEAF_LIFE)
    except (BadCertificate, ValueError):
        return None
    return pair if good else None


def _names(pair: Pair) -> set[str]:
    names = pair.leaf().extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return set(names.get_values_for_type(x509.DNSName))


def _source(name: str) -> str:
    return carried("consul", name).read_text(encoding="utf-8")


def _text(config: object) -> str:
    return json.dumps(config, indent=1) + "\n"
