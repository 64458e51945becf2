"""What becomes of keys over time: their expiry, their rotation, and what to say of each. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from control_plane import decide
from control_plane.errors import Refused
from control_plane.model import Key
from control_plane.signed import NewKey, new_key

DAY_S = 86_400
SOON_S = 14 * DAY_S
UNUSED_S = 90 * DAY_S


class KeyState(StrEnum):
    """What a gate makes of a key."""

    GOOD = "good"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True)
class Uses:
    """When keys were last accepted, as far as it is known.

    Attributes:
        last: Seconds since the epoch, by key id.
        gates: The gates that say so themselves, by key id; what was written down before one restarted has none.
        silent: Gates that could not be asked, a sentence each: keys may have been used there since.
        since: Since when uses are written down; 0 = nothing is known.
    """

    last: Mapping[str, int] = field(default_factory=dict)
    gates: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    silent: tuple[str, ...] = ()
    since: int = 0


def state_of(key: Key, now_s: float) -> KeyState:
    """What a gate makes of it now."""
    if key.revoked:
        return KeyState.REVOKED
    return KeyState.EXPIRED if key.expires and key.expires <= now_s else KeyState.GOOD


def good(keys: Iterable[Key], client_id: str, now_s: float) -> list[Key]:
    """A client's keys that let it in now, the oldest first."""
    mine = (key for key in keys if key.client == client_id and state_of(key, now_s) is KeyState.GOOD)
    return sorted(mine, key=lambda key: (key.created, key.id))


def successors(keys: Iterable[Key], now_s: float) -> dict[tuple[str, str], Key]:
    """The youngest good key by client and label: who has taken the place of others with that label."""
    found: dict[tuple[str, str], Key] = {}
    for key in keys:
        held = found.get((key.client, key.label))
        if state_of(key, now_s) is KeyState.GOOD and (held is None or _rank(held) < _rank(key)):
            found[key.client, key.label] = key
    return found


def _rank(key: Key) -> tuple[int, bool, int]:
    return key.created, not key.expires, key.expires


def notes_on(key: Key, successor: Key | None, uses: Uses, now_s: float) -> tuple[str, ...]:
    """What its owner should know of a key that is good, a sentence each.

    Args:
        key: The key.
        successor: The youngest good key of its client and label, which may be itself.
        uses: When keys were last used.
        now_s: Seconds since the epoch.
    """
    if state_of(key, now_s) is not KeyState.GOOD:
        return ()
    notes = []
    if key.expires and key.expires - now_s <= SOON_S:
        after = successor.id if successor and successor.id != key.id else ""
        then = f"its client has a younger one, {after}" if after else f"rotate it: tekup keys rotate {key.id}"
        notes.append(f"key {key.id} ends in {_days(key.expires - now_s)}; {then}")
    # What nobody has watched may have been used: only the time that uses are written down counts.
    begun_s = max(uses.last.get(key.id, 0), key.created, uses.since)
    if uses.since and now_s - begun_s >= UNUSED_S:
        whole = "" if not uses.silent else " as far as is known"
        notes.append(
            f"key {key.id} was not used for {_days(now_s - begun_s)}{whole}; revoke it: tekup keys revoke {key.id}"
        )
    return tuple(notes)


def _days(seconds: float) -> str:
    days = int(seconds // DAY_S)
    if not days:
        return "less than a day"
    return "1 day" if days == 1 else f"{days} days"


def ending(key: Key, expires_s: int, now_s: float) -> Key:
    """A key with another end; 0 = never.

    Raises:
        Refused: It is no good any more, or the end lies in the past.
    """
    _refuse_ended(key, now_s)
    if expires_s and expires_s <= now_s:
        raise Refused(f"expires: {expires_s} lies in the past; `tekup keys revoke {key.id}` ends a key at once")
    return key.model_copy(update={"expires": expires_s})


@dataclass(frozen=True)
class Rotated:
    """A key's successor, and the key itself with its end.

    Attributes:
        new: The successor.
        old: The key with its new end.
        old_ended: When it was to end before; 0 = never.
    """

    new: NewKey
    old: Key
    old_ended: int


def rotated(old: Key, overlap_s: int, now_s: float, *, expires_s: int | None = None) -> Rotated:
    """A new key in the place of an old one, which goes on for a while.

    Args:
        old: The key.
        overlap_s: How long both are good. The old one never lasts longer for it; 0 revokes it.
        now_s: Seconds since the epoch.
        expires_s: When the new one ends, 0 = never; None: it lasts as long as the old one was meant to.

    Raises:
        Refused: The old one is no good any more, or the new one would end before the overlap does.
    """
    _refuse_ended(old, now_s)
    if expires_s is None:
        expires_s = int(now_s) + (old.expires - old.created) if old.expires else 0
    if expires_s and expires_s <= now_s:
        raise Refused(f"expires: {expires_s} lies in the past")
    fresh = new_key(old.client, now_s, old.label, expires_s)
    if not overlap_s:
        return Rotated(fresh, decide.revoke(old, now_s), old.expires)
    ends_s = int(now_s) + overlap_s
    ended = old.model_copy(update={"expires": min(old.expires, ends_s) if old.expires else ends_s})
    return Rotated(fresh, ended, old.expires)


def _refuse_ended(key: Key, now_s: float) -> None:
    state = state_of(key, now_s)
    if state is not KeyState.GOOD:
        raise Refused(f"key {key.id} is {state}; make a new one: tekup keys create {key.client}")


def to_rotate(keys: Mapping[str, Key], name: str, now_s: float) -> Key | None:
    """The one good key of the client of that name; None if nobody has had a key of it.

    Raises:
        Refused: The client has several good keys, or none.
    """
    if not any(key.client == name for key in keys.values()):
        return None
    mine = good(keys.values(), name, now_s)
    if len(mine) == 1:
        return mine[0]
    if not mine:
        raise Refused(f"client {name} has no good key; make one: tekup keys create {name}")
    listed = ", ".join(f"{key.id} ({key.label})" if key.label else key.id for key in mine)
    raise Refused(f"client {name} has {len(mine)} good keys: {listed}; name the one to rotate by its id")
