"""`tekup secrets rotate`: new secrets for old, without a lost call and without a moment in which neither is good.

Each kind goes through the same order: the new one is made known where it is checked, then put where it is shown, then
every process is seen to use it, and only then is the old one taken away. So it may be ended at any point and run again:
what an ended run has left is taken away by the next.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path

from .consul_acl import CONSUL, MANAGEMENT, ROLES, Role, add_token, added_roles, read_token, token_file, write_token
from .consul_api import ConsulApi, ConsulAway
from .consul_config import gossip_file, new_gossip_key, write_gossip_key, write_private_config
from .errors import StepFailed, WaitedTooLong
from .key_rotation import rotate_keys
from .layout import Layout
from .link import Link
from .operators_api import first_to_answer
from .progress import Reporter, wait_for
from .taken_up import Users

CALL_S = 20.0
LONGEST_POLL_S = 11.0
"""A blocking read that was begun with the old token has ended by then."""
MANAGERS = ("tekup management", "Bootstrap Token (Global Management)")


class Kind(StrEnum):
    """What can be rotated."""

    CONSUL_TOKENS = "consul-tokens"
    GATE_KEYS = "gate-keys"
    GOSSIP = "gossip"


@dataclass(frozen=True)
class Rotated:
    """One kind that is done.

    Attributes:
        kind: which.
        count: how many secrets are new.
        seconds: until every process used the new ones and the old ones were gone, or held as previous only.
    """

    kind: Kind
    count: int
    seconds: float

    def data(self) -> dict[str, object]:
        """For `--json`."""
        return asdict(self)


@dataclass(frozen=True)
class Rotation:
    """Rotates the secrets of one running environment.

    Args:
        layout: the environment.
        api: its Consul.
        report: told while waiting.
        timeout_s: the most to wait for the processes, each time.
    """

    layout: Layout
    api: ConsulApi
    report: Reporter
    timeout_s: float

    def rotate(self, kind: Kind) -> Rotated:
        """Rotate one kind.

        Raises:
            WaitedTooLong: a process does not take the new one up; old and new are both good.
            StepFailed: a file is missing or damaged.
            ConsulRefuses: Consul said no.
        """
        began = time.monotonic()
        how = {Kind.CONSUL_TOKENS: self._tokens, Kind.GATE_KEYS: self._keys, Kind.GOSSIP: self._gossip}
        count = how[kind]()
        return Rotated(kind, count, round(time.monotonic() - began, 1))

    def _tokens(self) -> int:
        roles = (*added_roles(self.layout), *ROLES)
        for role in roles:
            self._renew(role)
        for role in roles:
            path = token_file(self.layout, role.name)
            self._until(partial(self._behind, role.name, path), role.name)
        self.report.update("consul", f"waiting {LONGEST_POLL_S:.0f} s until no read with an old token is under way")
        time.sleep(LONGEST_POLL_S)
        for role in roles:
            self._forget({role.description}, read_token(token_file(self.layout, role.name)))
        self._management()
        return len(roles) + 1

    def _behind(self, role: str, path: Path) -> list[str]:
        return self._users().behind_with_token(role, path)

    def _renew(self, role: Role) -> None:
        secret = str(uuid.uuid4())
        add_token(self.api, role, secret, self._manager())
        write_token(token_file(self.layout, role.name), secret)
        if role.name == CONSUL:
            write_private_config(self.layout)
            self.api.ask("PUT", "/v1/agent/token/agent", self._manager(), {"Token": secret})

    def _management(self) -> None:
        secret = str(uuid.uuid4())
        body = {"SecretID": secret, "Description": MANAGERS[0], "Policies": [{"Name": "global-management"}]}
        self.api.ask("PUT", "/v1/acl/token", self._manager(), body)
        write_token(token_file(self.layout, MANAGEMENT), secret)
        self._forget(set(MANAGERS), secret)

    def _forget(self, descriptions: set[str], kept: str) -> None:
        """Delete every token of a role but one, those that an ended run has left as well."""
        mine = self.api.own(kept)
        if mine is None:
            raise StepFailed("Consul does not know a token that was just introduced; see `tekup logs consul-acl`")
        for one in self.api.tokens(self._manager()):
            if one.get("Description") in descriptions and one.get("AccessorID") != mine["AccessorID"]:
                self.api.ask("DELETE", f"/v1/acl/token/{one['AccessorID']}", self._manager(), missing=True)

    def _keys(self) -> int:
        return rotate_keys(self.layout, self._users, self._until)

    def _gossip(self) -> int:
        key, path = new_gossip_key(), "/v1/operator/keyring"
        self.api.ask("POST", path, self._manager(), {"Key": key})
        # before it is in use, so that a Consul that lost its data starts with a key that is known
        write_gossip_key(self.layout, key)
        write_private_config(self.layout)
        self.api.ask("PUT", path, self._manager(), {"Key": key})
        for old in self._gossip_keys() - {key}:
            self.api.ask("DELETE", path, self._manager(), {"Key": old})
        return 1

    def _gossip_keys(self) -> set[str]:
        found = self.api.ask("GET", "/v1/operator/keyring", self._manager())
        rings = found if isinstance(found, list) else []
        return {key for ring in rings for key in ring.get("Keys", {})}

    def _manager(self) -> str:
        return read_token(token_file(self.layout, MANAGEMENT))

    def _users(self) -> Users:
        return Users(self.layout, Link(self.layout).status(), self.api)

    def _until(self, behind: Callable[[], list[str]], what: str) -> None:
        left: list[str] = []

        def done() -> bool | None:
            try:
                left[:] = behind()
            except ConsulAway as error:
                left[:] = [str(error)]
            self.report.update(what, f"waiting for {', '.join(left)} to take the new secret up")
            return None if left else True

        try:
            wait_for(done, f"{what}'s new secret to be in use", self.timeout_s, self.report, what)
        except WaitedTooLong as error:
            raise WaitedTooLong(
                f"{', '.join(left)} did not take the new secret of {what} up within {self.timeout_s:.0f} s; "
                "old and new are both good. Mend it (`tekup status`, `tekup restart`), then run this again"
            ) from error


def rotate(layout: Layout, kinds: Iterable[Kind], reason: str, timeout_s: float, report: Reporter) -> list[Rotated]:
    """Rotate secrets of a running environment; written down in the history before anything is changed.

    Args:
        layout: the environment.
        kinds: which.
        reason: for the history.
        timeout_s: the most to wait for the processes, each time.
        report: told while waiting.

    Returns:
        What was rotated, in order.

    Raises:
        LocalError: a subclass that says what went wrong; what is not named as done may be run again.
    """
    status = Link(layout).status()
    consul = next((process.url for process in status.processes if process.name == "consul" and process.pid), "")
    if not consul:
        raise StepFailed("Consul does not run here, so its tokens cannot be replaced; see `tekup status`")
    asked = first_to_answer(layout, status.processes, CALL_S)
    if asked is None:
        raise StepFailed("no control plane runs here to write this down; nothing was rotated; see `tekup status`")
    if not gossip_file(layout).exists():
        raise StepFailed(f"{gossip_file(layout)} is missing: `tekup down` and `tekup up` first")
    kinds = list(kinds)
    asked[0].note(f"secrets rotated: {', '.join(kinds)}", reason)
    with ConsulApi(consul) as api:
        rotation = Rotation(layout, api, report, timeout_s)
        return [rotation.rotate(kind) for kind in kinds]
