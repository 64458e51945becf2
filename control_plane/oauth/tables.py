"""The gate's tables as this process needs them: which clients bearers may count as, which services there are."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from control_plane.agent.disk import GateFolder
from control_plane.errors import Refused, Unavailable
from control_plane.model import HUB, ClientPolicy, problems_of

log = logging.getLogger(__name__)

Identity = tuple[int, int, int]
FILES = ("clients.json", "clients-changes.json", "services.json", "secrets.json")


@dataclass(frozen=True)
class Known:
    """What the tables say.

    Attributes:
        clients: Those that bearers may count as.
        services: Names of all services but the hub.
        mac_key: Signs grants.
    """

    clients: tuple[ClientPolicy, ...]
    services: tuple[str, ...]
    mac_key: bytes

    def client_of(self, issuer: str, client: str) -> ClientPolicy | None:
        """Whom a bearer counts as; its very client goes before everybody of its issuer.

        Raises:
            Refused: Two policy clients say it is theirs.
        """
        for bearers in (f"{issuer}#{client}", issuer):
            claimed = [one for one in self.clients if bearers in one.oauth]
            if len(claimed) > 1:
                names = " and ".join(sorted(one.id for one in claimed))
                raise Refused(f"clients {names} both say that bearers of {bearers} are theirs; take it from one")
            if claimed:
                return claimed[0]
        return None


class Tables:
    """Reads the tables again whenever a file is another one than before.

    Args:
        gate: The gate's folder.
    """

    def __init__(self, gate: Path) -> None:
        self._gate = GateFolder(gate)
        self._folder = gate / "tables"
        self._seen: tuple[Identity | None, ...] | None = None
        self._known: Known | None = None

    def known(self) -> Known:
        """What they say now. The same object as before if nothing has changed.

        Raises:
            Unavailable: There are no tables yet.
        """
        seen = tuple(_identity(self._folder / name) for name in FILES)
        if seen != self._seen or self._known is None:
            self._seen, self._known = seen, self._read()
        return self._known

    def _read(self) -> Known:
        clients, services = (self._members(name) for name in ("clients", "services"))
        try:
            return Known(tuple(_clients(clients)), tuple(sorted(set(services) - {HUB})), self._gate.mac_key())
        except Refused as error:
            raise Unavailable(str(error)) from error

    def _members(self, name: str) -> Mapping[str, object]:
        found = self._gate.table(name).get(name)
        if not isinstance(found, dict):
            raise Unavailable(f"the gate has no {name}.json yet; try again in a second")
        return found


def _clients(table: Mapping[str, object]) -> Iterable[ClientPolicy]:
    for name, said in table.items():
        if not isinstance(said, dict) or not said.get("oauth"):
            continue
        try:
            yield ClientPolicy.model_validate({"id": name, **said})
        except ValidationError as error:
            # That client is refused, and nobody else.
            log.warning("oauth.client_refused", extra={"client": name, "problem": problems_of(error)})


def _identity(path: Path) -> Identity | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
