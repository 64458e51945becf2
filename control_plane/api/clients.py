"""Routes of clients and keys."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from control_plane.api import client_bodies as bodies
from control_plane.api.bodies import Done
from control_plane.api.route import ApiRoute, Asked
from control_plane.keys import KeyState, Uses, state_of, successors
from control_plane.model import ClientPolicy, Key, Table
from control_plane.page import Page, found
from control_plane.roles import Role


async def clients(ask: Asked) -> bodies.Clients:
    """Every client."""
    page = await ask.plane.page()
    known = page.all(Table.CLIENTS, ClientPolicy)
    counts = _counts(page.all(Table.KEYS, Key), ask.plane.rights.now())
    return bodies.Clients(
        revision=page.revision.number,
        clients=tuple(known.values()),
        keys={name: counts.get(name, bodies.KeyCounts(good=0, ended=0)) for name in known},
    )


def _counts(keys: Mapping[str, Key], now_s: float) -> dict[str, bodies.KeyCounts]:
    counts: dict[str, list[int]] = {}
    for key in keys.values():
        counts.setdefault(key.client, [0, 0])[state_of(key, now_s) is not KeyState.GOOD] += 1
    return {client: bodies.KeyCounts(good=good, ended=ended) for client, (good, ended) in counts.items()}


async def client(ask: Asked) -> bodies.ClientShown:
    """Everything of one client."""
    page, name = await ask.plane.page(), ask.path["client"]
    known = found(page.find(Table.CLIENTS, name, ClientPolicy), f"client {name}")
    shown = await _keys(ask, page, lambda key: key.client == name)
    return bodies.ClientShown(client=known, **shown.model_dump())


async def add_client(ask: Asked) -> Done:
    """Add a client."""
    body = ask.read(bodies.NewClient)
    wish = ask.wish(body.reason, body.expected_revision, dry_run=body.dry_run)
    return Done.of(await ask.plane.rights.add_client(body.client(body.id), wish))


async def replace_client(ask: Asked) -> Done:
    """Make a client what is wanted, whole."""
    body = ask.read(bodies.ClientWish)
    wish = ask.wish(body.reason, body.expected_revision, dry_run=body.dry_run)
    known = found((await ask.plane.page()).find(Table.CLIENTS, ask.path["client"], ClientPolicy), _client(ask))
    return Done.of(await ask.plane.rights.replace_client(body.client(known.id), wish))


async def amend_client(ask: Asked) -> Done:
    """Change some of a client."""
    body = ask.read(bodies.ClientPatch)
    wish = ask.wish(body.reason, body.expected_revision, dry_run=body.dry_run)
    return Done.of(await ask.plane.rights.amend_client(ask.path["client"], body.amendment(), wish))


async def remove_client(ask: Asked) -> Done:
    """Remove a client and revoke its keys."""
    return Done.of(await ask.plane.rights.remove_client(ask.path["client"], ask.wish()))


async def limit_client(ask: Asked) -> Done:
    """Set a limit of a client."""
    body = ask.read(bodies.LimitWish)
    wish = ask.wish(body.reason, body.expected_revision, dry_run=body.dry_run)
    limit = body.limit(ask.path["limit"])
    return Done.of(await ask.plane.rights.limit_client(ask.path["client"], limit, wish))


async def unlimit_client(ask: Asked) -> Done:
    """Take a limit of a client away."""
    wish = ask.wish()
    return Done.of(await ask.plane.rights.unlimit_client(ask.path["client"], ask.path["limit"], wish))


async def all_keys(ask: Asked) -> bodies.Keys:
    """Keys of all clients, nothing secret."""
    return await _keys(ask, await ask.plane.page(), lambda _: True)


async def keys(ask: Asked) -> bodies.Keys:
    """Keys of a client, nothing secret."""
    page, name = await ask.plane.page(), ask.path["client"]
    found(page.tables[Table.CLIENTS].get(name), _client(ask))
    return await _keys(ask, page, lambda key: key.client == name)


async def _keys(ask: Asked, page: Page, wanted: Callable[[Key], bool]) -> bodies.Keys:
    mine = [key for key in page.all(Table.KEYS, Key).values() if wanted(key)]
    uses, now_s = await ask.plane.usage.look() if ask.plane.usage else Uses(), ask.plane.rights.now()
    after = successors(mine, now_s)
    return bodies.Keys(
        revision=page.revision.number,
        keys=tuple(bodies.KeyShown.of(key, after.get((key.client, key.label)), uses, now_s) for key in mine),
        used_since=uses.since,
        silent=uses.silent,
    )


async def create_key(ask: Asked) -> bodies.KeyMade:
    """Make a key; its text is shown this once."""
    body = ask.read(bodies.KeyWish)
    wish = ask.wish(body.reason, dry_run=body.dry_run)
    key, outcome = await ask.plane.rights.create_key(ask.path["client"], wish, label=body.label, expires_s=body.expires)
    made = ("", "") if body.dry_run else (key.document.id, key.text)
    return bodies.KeyMade(**dict(Done.of(outcome)), id=made[0], key=made[1])


async def rotate_key(ask: Asked) -> bodies.KeyRotated:
    """Put a new key in the place of one; its text is shown this once."""
    body = ask.read(bodies.Rotation)
    wish = ask.wish(body.reason, body.expected_revision, dry_run=body.dry_run)
    made, outcome = await ask.plane.rights.rotate_key(ask.path["key"], body.overlap_s, wish, expires_s=body.expires)
    new = ("", "") if body.dry_run else (made.new.document.id, made.new.text)
    return bodies.KeyRotated(
        **dict(Done.of(outcome)),
        id=new[0],
        key=new[1],
        client=made.old.client,
        old=made.old.id,
        old_expires=0 if made.old.revoked else made.old.expires,
        old_ended=made.old_ended,
    )


async def end_key(ask: Asked) -> Done:
    """Give a key another end."""
    body = ask.read(bodies.KeyEnd)
    wish = ask.wish(body.reason, body.expected_revision, dry_run=body.dry_run)
    return Done.of(await ask.plane.rights.end_key(ask.path["key"], body.expires, wish))


async def revoke_key(ask: Asked) -> Done:
    """Revoke a key for good."""
    return Done.of(await ask.plane.rights.revoke_key(ask.path["key"], ask.wish()))


async def reseal_keys(ask: Asked) -> bodies.Resealed:
    """Have every hash lie in Consul as the settings say: sealed by the current key, or bare."""
    body = ask.read(bodies.ResealWish)
    outcome, left = await ask.plane.rights.reseal_keys(ask.wish(body.reason, dry_run=body.dry_run))
    return bodies.Resealed(**dict(Done.of(outcome)), left=left)


def _client(ask: Asked) -> str:
    return f"client {ask.path['client']}"


ONE, LIMIT, KEY = "/v1/clients/{client}", "/v1/clients/{client}/limits/{limit}", "/v1/keys/{key}"
CLIENT = (Table.CLIENTS, "client")
CLIENT_ROUTES: tuple[ApiRoute, ...] = (
    ApiRoute("GET", "/v1/clients", "All clients", clients, bodies.Clients),
    ApiRoute("POST", "/v1/clients", "Add a client", add_client, Done, bodies.NewClient),
    ApiRoute("GET", ONE, "Everything of a client", client, bodies.ClientShown, about=CLIENT),
    ApiRoute("PUT", ONE, "Make a client what is wanted, whole", replace_client, Done, bodies.ClientWish, about=CLIENT),
    ApiRoute("PATCH", ONE, "Change some of a client", amend_client, Done, bodies.ClientPatch, about=CLIENT),
    ApiRoute("DELETE", ONE, "Remove a client, revoke its keys", remove_client, Done, about=CLIENT),
    ApiRoute("PUT", LIMIT, "Set a limit of a client", limit_client, Done, bodies.LimitWish, about=CLIENT),
    ApiRoute("DELETE", LIMIT, "Take a limit of a client away", unlimit_client, Done, about=CLIENT),
    ApiRoute("GET", "/v1/keys", "Keys of all clients", all_keys, bodies.Keys),
    ApiRoute("GET", ONE + "/keys", "Keys of a client", keys, bodies.Keys),
    ApiRoute("POST", ONE + "/keys", "Make a key", create_key, bodies.KeyMade, bodies.KeyWish),
    ApiRoute("POST", KEY + "/rotate", "Put a new key in its place", rotate_key, bodies.KeyRotated, bodies.Rotation),
    ApiRoute("PATCH", KEY, "Give a key another end", end_key, Done, bodies.KeyEnd),
    ApiRoute("DELETE", KEY, "Revoke a key", revoke_key, Done, needs=Role.OPERATOR),
    ApiRoute("POST", "/v1/reseal", "Seal the hashes of keys", reseal_keys, bodies.Resealed, bodies.ResealWish),
)
