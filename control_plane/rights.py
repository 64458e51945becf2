"""The verbs on clients and their keys: who may call, and what."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from control_plane import clients, decide, keys
from control_plane.clients import Amendment
from control_plane.desired import Documents
from control_plane.errors import Refused
from control_plane.keys import Rotated
from control_plane.model import NAME, ClientPolicy, Key, Limit, Table, check_name
from control_plane.outcome import Outcome, Wish
from control_plane.page import MOST_CHANGED, Page, found
from control_plane.sealed import Sealing
from control_plane.signed import NewKey, new_key
from control_plane.state import CarryOut


class Rights:
    """Clients and keys; `now` tells the seconds since the epoch.

    Args:
        carry_out: Makes a change and waits until it is in force.
        now: Seconds since the epoch.
        sealing: How hashes of keys are to lie in the store.
    """

    def __init__(self, carry_out: CarryOut, now: Callable[[], float], sealing: Sealing | None = None) -> None:
        self._carry_out = carry_out
        self.now = now
        self.sealing = sealing or Sealing()

    async def add_client(self, client: ClientPolicy, wish: Wish) -> Outcome:
        """Add a client; see :func:`control_plane.decide.add_client`."""

        def add(page: Page) -> Documents:
            current = page.find(Table.CLIENTS, client.id, ClientPolicy)
            return {(Table.CLIENTS, client.id): decide.add_client(current, client)}

        return await self._carry_out("client.add", wish, add, rights=True)

    async def replace_client(self, client: ClientPolicy, wish: Wish) -> Outcome:
        """Make a client that exists what is wanted, whole."""
        return await self._change_client("client.set", client.id, wish, lambda _: decide.checked_client(client))

    async def amend_client(self, client_id: str, amendment: Amendment, wish: Wish) -> Outcome:
        """Change some of a client; see :func:`control_plane.clients.amended`."""
        return await self._change_client("client.set", client_id, wish, lambda now: clients.amended(now, amendment))

    async def limit_client(self, client_id: str, limit: Limit, wish: Wish) -> Outcome:
        """Set a limit of a client, in the place of the one of that name."""
        return await self._change_client("client.limit", client_id, wish, lambda now: clients.with_limit(now, limit))

    async def unlimit_client(self, client_id: str, name: str, wish: Wish) -> Outcome:
        """Take a limit of a client away."""
        return await self._change_client(
            "client.unlimit", client_id, wish, lambda now: clients.without_limit(now, name)
        )

    async def _change_client(
        self, verb: str, client_id: str, wish: Wish, change: Callable[[ClientPolicy], ClientPolicy]
    ) -> Outcome:
        def changed(page: Page) -> Documents:
            current = found(page.find(Table.CLIENTS, client_id, ClientPolicy), f"client {client_id}")
            return {(Table.CLIENTS, client_id): change(current)}

        return await self._carry_out(verb, wish, changed, rights=True)

    async def remove_client(self, client_id: str, wish: Wish) -> Outcome:
        """Remove a client and revoke its keys."""

        def remove(page: Page) -> Documents:
            found(page.find(Table.CLIENTS, client_id, ClientPolicy), f"client {client_id}")
            mine = (key for key in page.all(Table.KEYS, Key).values() if key.client == client_id)
            revoked = {(Table.KEYS, key.id): decide.revoke(key, self.now()) for key in mine}
            return {(Table.CLIENTS, client_id): None, **revoked}

        return await self._carry_out("client.remove", wish, remove, rights=True)

    async def create_key(
        self, client_id: str, wish: Wish, *, label: str = "", expires_s: int = 0
    ) -> tuple[NewKey, Outcome]:
        """Make a key of a client. Its text is returned once and kept nowhere."""
        check_name(client_id, NAME, "client")
        key = new_key(client_id, self.now(), label, expires_s)

        def create(page: Page) -> Documents:
            found(page.find(Table.CLIENTS, client_id, ClientPolicy), f"client {client_id}")
            if expires_s and expires_s <= self.now():
                raise Refused(f"expires: {expires_s} lies in the past")
            return {(Table.KEYS, key.document.id): self.sealing.stored(key.document)}

        return key, await self._carry_out("key.create", wish, create, rights=True)

    async def rotate_key(
        self, name: str, overlap_s: int, wish: Wish, *, expires_s: int | None = None
    ) -> tuple[Rotated, Outcome]:
        """Put a new key in the place of one, in one change; see :func:`control_plane.keys.rotated`.

        Args:
            name: A key's id, or that of a client with one good key.
            overlap_s: How long both are good.
            wish: Who and why.
            expires_s: When the new one ends, 0 = never; None: it lasts as long as the old one was meant to.
        """
        made: list[Rotated] = []

        def rotate(page: Page) -> Documents:
            old = page.find(Table.KEYS, name, Key) or keys.to_rotate(page.all(Table.KEYS, Key), name, self.now())
            old = found(old, f"key or client {name}")
            found(page.find(Table.CLIENTS, old.client, ClientPolicy), f"client {old.client}")
            made.append(keys.rotated(old, overlap_s, self.now(), expires_s=expires_s))
            fresh = self.sealing.stored(made[0].new.document)
            return {(Table.KEYS, fresh.id): fresh, (Table.KEYS, old.id): made[0].old}

        outcome = await self._carry_out("key.rotate", wish, rotate, rights=True)
        return made[0], outcome

    async def end_key(self, key_id: str, expires_s: int, wish: Wish) -> Outcome:
        """Give a key another end; see :func:`control_plane.keys.ending`."""

        def end(page: Page) -> Documents:
            key = found(page.find(Table.KEYS, key_id, Key), f"key {key_id}")
            return {(Table.KEYS, key_id): keys.ending(key, expires_s, self.now())}

        return await self._carry_out("key.expire", wish, end, rights=True)

    async def revoke_key(self, key_id: str, wish: Wish) -> Outcome:
        """Revoke a key for good."""

        def revoke(page: Page) -> Documents:
            key = found(page.find(Table.KEYS, key_id, Key), f"key {key_id}")
            return {(Table.KEYS, key_id): decide.revoke(key, self.now())}

        return await self._carry_out("key.revoke", wish, revoke, rights=True)

    async def revoke_keys(self, only: Iterable[str] | None, wish: Wish) -> Outcome:
        """Revoke many keys for good, in one change; None: all. One that is not there is passed over."""
        named = None if only is None else set(only)

        def revoke(page: Page) -> Documents:
            there = page.all(Table.KEYS, Key)
            mine = (key for name, key in there.items() if (named is None or name in named) and not key.revoked)
            return {(Table.KEYS, key.id): decide.revoke(key, self.now()) for key in mine}

        return await self._carry_out("keys.revoke", wish, revoke, rights=True)

    async def reseal_keys(self, wish: Wish) -> tuple[Outcome, tuple[str, ...]]:
        """Have the hashes of all keys lie in the store as the settings say: sealed by the current key, or bare.

        Returns:
            What became of it, and a sentence for each key that cannot be opened, which stays as it is.
        """
        left: list[str] = []

        def reseal(page: Page) -> Documents:
            left.clear()
            changed: Documents = {}
            for key in page.all(Table.KEYS, Key).values():
                try:
                    stored = self.sealing.stored(key)
                except Refused as error:
                    left.append(f"key {key.id}: {error}")
                    continue
                if stored is not key and len(changed) < MOST_CHANGED:
                    changed[(Table.KEYS, key.id)] = stored
            return changed

        outcome = await self._carry_out("key.reseal", wish, reseal, rights=True)
        return outcome, tuple(left)
