"""The verbs on clients and their keys: who may call, and what."""

from __future__ import annotations

from collections.abc import Callable

from control_plane import decide
from control_plane.desired import Documents
from control_plane.errors import Refused
from control_plane.model import ClientPolicy, Key, Table
from control_plane.outcome import Outcome, Wish
from control_plane.page import Page, found
from control_plane.signed import NewKey, new_key
from control_plane.state import CarryOut


class Rights:
    """Clients and keys.

    Args:
        carry_out: Makes a change and waits until it is in force.
        now: Seconds since the epoch.
    """

    def __init__(self, carry_out: CarryOut, now: Callable[[], float]) -> None:
        self._carry_out = carry_out
        self._now = now

    async def add_client(self, client: ClientPolicy, wish: Wish) -> Outcome:
        """Add a client; see :func:`control_plane.decide.add_client`."""

        def add(page: Page) -> Documents:
            current = page.find(Table.CLIENTS, client.id, ClientPolicy)
            return {(Table.CLIENTS, client.id): decide.add_client(current, client)}

        return await self._carry_out("client.add", wish, add, rights=True)

    async def remove_client(self, client_id: str, wish: Wish) -> Outcome:
        """Remove a client and revoke its keys."""

        def remove(page: Page) -> Documents:
            found(page.find(Table.CLIENTS, client_id, ClientPolicy), f"client {client_id}")
            mine = (key for key in page.all(Table.KEYS, Key).values() if key.client == client_id)
            revoked = {(Table.KEYS, key.id): decide.revoke(key, self._now()) for key in mine}
            return {(Table.CLIENTS, client_id): None, **revoked}

        return await self._carry_out("client.remove", wish, remove, rights=True)

    async def create_key(
        self, client_id: str, wish: Wish, *, label: str = "", expires_s: int = 0
    ) -> tuple[NewKey, Outcome]:
        """Make a key of a client. Its text is returned once and kept nowhere."""
        key = new_key(client_id, self._now(), label, expires_s)

        def create(page: Page) -> Documents:
            found(page.find(Table.CLIENTS, client_id, ClientPolicy), f"client {client_id}")
            if expires_s and expires_s <= self._now():
                raise Refused(f"expires: {expires_s} lies in the past")
            return {(Table.KEYS, key.document.id): key.document}

        return key, await self._carry_out("key.create", wish, create, rights=True)

    async def revoke_key(self, key_id: str, wish: Wish) -> Outcome:
        """Revoke a key for good."""

        def revoke(page: Page) -> Documents:
            key = found(page.find(Table.KEYS, key_id, Key), f"key {key_id}")
            return {(Table.KEYS, key_id): decide.revoke(key, self._now())}

        return await self._carry_out("key.revoke", wish, revoke, rights=True)
