"""Who may do what in Consul: one role per kind of process, its policy from `consul/policies/`, its token in a file.

The files are the truth: a token is made here, written 0600, and then introduced to Consul, which takes the secret it is
given. So a Consul that lost its data gets the same tokens again, and whoever dies in the middle goes on where it was.

`python -m compose.local.consul_acl DIRECTORY URL` does so for ever; it is the one process with the management token.
"""

from __future__ import annotations

import os
import string
import sys
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .bridged.declared import declared
from .consul_api import BootstrapOver, ConsulApi, ConsulAway, ConsulRefuses
from .errors import LocalError, StepFailed
from .files import PRIVATE, carried, write_atomically
from .layout import Layout
from .log import log
from .settings import CONTROL_PLANE, SERVICES

MANAGEMENT = "management"
CONSUL, GATE, PROMETHEUS, OPERATOR, KEEPER = "consul", "gate", "prometheus", "operator", "keeper"
NODE = "tekup"
"""`node_name` in `consul/agent.json`."""
GATE_ID = "local"
LOOK_EVERY_S = 2.0
AGAIN_S = 0.2


@dataclass(frozen=True)
class Role:
    """What one kind of process may do.

    Attributes:
        name: of its token's file, and in the token's description.
        template: the policy's file in `consul/policies/`, without `.hcl`.
        values: for the placeholders of the file.
    """

    name: str
    template: str
    values: Mapping[str, str] = field(default_factory=dict)

    @property
    def policy(self) -> str:
        """The policy's name in Consul."""
        return f"tekup-{self.name}"

    @property
    def description(self) -> str:
        """By which its tokens are known again."""
        return f"tekup {self.name}"

    def rules(self) -> str:
        """The policy, filled in.

        Raises:
            StepFailed: the file wants a value we do not have.
        """
        path = carried("consul", "policies", f"{self.template}.hcl")
        try:
            return string.Template(path.read_text(encoding="utf-8")).substitute(self.values)
        except (OSError, KeyError, ValueError) as error:
            raise StepFailed(f"{path} cannot be filled in: {error}") from error


def service_role(service: str) -> Role:
    """The role of a service's instances."""
    return Role(f"service-{service}", "service", {"service": service})


ROLES = (
    Role(CONSUL, "consul", {"node": NODE}),
    Role(GATE, "gate", {"gate": GATE_ID, "node": NODE}),
    Role(CONTROL_PLANE, "control-plane"),
    Role(PROMETHEUS, "prometheus"),
    *(service_role(service) for service in SERVICES),
    # the last: whoever waits for all waits for this one
    Role(OPERATOR, "operator"),
)


def gate_role(gate: str, node: str = NODE) -> Role:
    """The role of the agent beside a further gate, on a node of Consul's."""
    return Role(f"{GATE}-{gate}", "gate", {"gate": gate, "node": node})


def keeper_role() -> Role:
    """The role of who starts and stops containers."""
    return Role(KEEPER, "keeper")


def server_role(node: str) -> Role:
    """The role of a Consul server that is a node of its own."""
    return Role(f"{CONSUL}-{node}", "consul", {"node": node})


def token_file(layout: Layout, role: str) -> Path:
    """Where a role's token lies."""
    return layout.consul_secrets / f"{role}.token"


def read_token(path: Path) -> str:
    """A token from its file.

    Raises:
        StepFailed: the file is missing, unreadable or empty.
    """
    try:
        token = path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise StepFailed(
            f"{path} cannot be read ({error.strerror}); `tekup down` and `tekup up` make it anew"
        ) from error
    if not token:
        raise StepFailed(f"{path} is empty; remove it, then `tekup down` and `tekup up` make it anew")
    return token


def make_tokens(layout: Layout, roles: Iterable[Role] = ROLES) -> None:
    """Make the token files that are missing; Consul learns of them later."""
    for role in (MANAGEMENT, *(role.name for role in roles)):
        path = token_file(layout, role)
        if not path.exists():
            write_token(path, str(uuid.uuid4()))


def write_token(path: Path, token: str) -> None:
    """Put a token in place."""
    write_atomically(path, token + "\n", PRIVATE)


def lay_out(layout: Layout, api: ConsulApi, roles: Iterable[Role] = ROLES) -> bool:
    """Make Consul know every role's policy and token; what it knows already is left alone.

    Args:
        layout: the environment.
        api: its Consul.
        roles: whom.

    Returns:
        Whether anything had to be done.

    Raises:
        BootstrapOver: the management token is not the one Consul was bootstrapped with.
        ConsulAway: not now.
        ConsulRefuses: Consul said no.
    """
    management = read_token(token_file(layout, MANAGEMENT))
    new = api.own(management) is None
    if new:
        api.bootstrap(management)
    done = [_introduce(layout, api, role, management) for role in roles]
    return new or any(done)


def _introduce(layout: Layout, api: ConsulApi, role: Role, management: str) -> bool:
    changed = _put_policy(api, role, management)
    secret = read_token(token_file(layout, role.name))
    if api.own(secret) is not None:
        return changed
    add_token(api, role, secret, management)
    return True


def add_token(api: ConsulApi, role: Role, secret: str, management: str) -> None:
    """Introduce a further token of a role."""
    body = {"SecretID": secret, "Description": role.description, "Policies": [{"Name": role.policy}]}
    api.ask("PUT", "/v1/acl/token", management, body)


def _put_policy(api: ConsulApi, role: Role, management: str) -> bool:
    rules = role.rules()
    known = api.policy(role.policy, management)
    if known is not None and known.get("Rules") == rules:
        return False
    path = "/v1/acl/policy" + (f"/{known['ID']}" if known else "")
    body = {"Name": role.policy, "Description": f"consul/policies/{role.template}.hcl", "Rules": rules}
    api.ask("PUT", path, management, body)
    return True


def lost(layout: Layout, error: BootstrapOver) -> str:
    """What to tell whoever lost the management token, and what mends it."""
    return (
        f"Consul's ACLs were bootstrapped with another token than the one in {token_file(layout, MANAGEMENT)}. Put the "
        f"old file back; if it is lost, allow another bootstrap: `printf {error.reset_index} > "
        f"{layout.consul / 'acl-bootstrap-reset'}`; the environment then goes on by itself"
    )


def added_roles(layout: Layout) -> Iterable[Role]:
    """The roles of services that were added, as far as they have a token."""
    roles = (service_role(one.name) for one in declared(layout))
    return (role for role in roles if token_file(layout, role.name).exists())


def keep(layout: Layout, url: str, roles: Sequence[Role] = ROLES, ca_file: Path | None = None) -> None:
    """Keep Consul knowing every role, for ever: a Consul that comes back empty knows them within seconds.

    Args:
        layout: the environment.
        url: its Consul's.
        roles: whom.
        ca_file: whom to trust, for `https`.

    Raises:
        LocalError: nothing more can be done here without a person.
    """
    with ConsulApi(url, ca_file) as api:
        before = ""
        while True:
            try:
                if lay_out(layout, api, (*added_roles(layout), *roles)):
                    log("consul's access laid out", roles=len(roles))
                now, pause_s = "", LOOK_EVERY_S
            except BootstrapOver as error:
                raise LocalError(lost(layout, error)) from error
            except (ConsulAway, ConsulRefuses) as error:
                now, pause_s = str(error), AGAIN_S
            if now and now != before:
                log("consul's access not laid out", problem=now)
            before = now
            time.sleep(pause_s)


def main() -> None:
    """Keep, until a signal ends this process."""
    layout = Layout(Path(sys.argv[1]).resolve())
    try:
        keep(layout, sys.argv[2])
    except LocalError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(os.EX_CONFIG)


if __name__ == "__main__":
    main()
