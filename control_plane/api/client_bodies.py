"""What the API takes and gives of clients and keys."""

from __future__ import annotations

import json
from typing import Annotated, Any

from pydantic import Field

from control_plane.api.bodies import Body, Done, DryRun, Reason
from control_plane.clients import Amendment
from control_plane.keys import KeyState, Uses, notes_on, state_of
from control_plane.model import Access, Bearers, ClientPolicy, Cohort, Glob, Host, Key, Limit, Line, Name, Root, Time

Expected = Annotated[int | None, Field(description="Refuse if the revision is another by now.")]
MOST_OVERLAP_S = 366 * 86_400


class ClientWish(Body):
    """All of a client; what is left out has its default."""

    allow: Annotated[tuple[Glob, ...], Field(description="Globs on tool, prompt and resource names.")] = ("*",)
    access: Annotated[Access, Field(description="Of these tools, those annotated so.")] = Access.ALL
    cohort: Cohort = ""
    roots: Annotated[
        tuple[Root, ...], Field(description="Folders that narrow the services' own; none: all of them.")
    ] = ()
    hosts: Annotated[
        tuple[Host, ...], Field(description="Private hosts whose pages it may open, host or host:port.")
    ] = ()
    limits: Annotated[tuple[Limit, ...], Field(max_length=16)] = ()
    oauth: Annotated[
        tuple[Bearers, ...], Field(max_length=16, description="Whose bearers count as it: issuer or issuer#client.")
    ] = ()
    reason: Reason
    expected_revision: Expected = None
    dry_run: DryRun = False

    def client(self, client_id: str) -> ClientPolicy:
        """As it is to be stored.

        Raises:
            Refused: The whole makes no sense.
        """
        fields = self.model_dump(mode="json", exclude={"id", "reason", "expected_revision", "dry_run"})
        return ClientPolicy.parse(json.dumps({"id": client_id, **fields}), f"client {client_id}")


class NewClient(ClientWish):
    """A client to add."""

    id: Name


class ListChange(Body):
    """Entries to add to, or to take out of, lists of a client."""

    allow: tuple[Glob, ...] = ()
    roots: tuple[Root, ...] = ()
    hosts: tuple[Host, ...] = ()
    oauth: tuple[Bearers, ...] = ()


class ClientPatch(Body):
    """What is to change of a client; what is not named stays."""

    merge: Annotated[
        dict[str, Any], Field(description="JSON merge patch (RFC 7396) of it; null gives a field its default.")
    ] = Field(default_factory=dict)
    add: ListChange = ListChange()
    remove: ListChange = ListChange()
    reason: Reason
    expected_revision: Expected = None
    dry_run: DryRun = False

    def amendment(self) -> Amendment:
        """As the core takes it."""
        return Amendment(self.merge, dict(self.add), dict(self.remove))


class LimitWish(Body):
    """A limit to set, whole."""

    tools: Annotated[tuple[Glob, ...], Field(description="Globs; none: everything it sends.")] = ()
    per_s: float = 0
    burst: int = 0
    concurrent: int = 0
    reason: Reason
    expected_revision: Expected = None
    dry_run: DryRun = False

    def limit(self, name: str) -> Limit:
        """As it is to be stored.

        Raises:
            Refused: It makes no sense.
        """
        fields = self.model_dump(mode="json", include={"tools", "per_s", "burst", "concurrent"})
        return Limit.parse(json.dumps({"name": name, **fields}), "bad limit")


class KeyWish(Body):
    """A key to make."""

    label: Line = ""
    expires: Annotated[Time, Field(description="Seconds since the epoch; 0 = never.")] = 0
    reason: Reason
    dry_run: DryRun = False


class KeyEnd(Body):
    """When a key is to end."""

    expires: Annotated[Time, Field(description="Seconds since the epoch; 0 = never.")]
    reason: Reason
    expected_revision: Expected = None
    dry_run: DryRun = False


class Rotation(Body):
    """A key to put a new one in the place of."""

    overlap_s: Annotated[
        int, Field(ge=0, le=MOST_OVERLAP_S, description="How long both are good; 0: the old one is revoked.")
    ]
    expires: Annotated[
        Time | None, Field(description="When the new one ends; null: it lasts as long as the old one was meant to.")
    ] = None
    reason: Reason
    expected_revision: Expected = None
    dry_run: DryRun = False


class ResealWish(Body):
    """Have every hash lie in Consul as the settings say."""

    reason: Reason
    dry_run: DryRun = False


class Resealed(Done):
    """What became of it."""

    left: Annotated[tuple[str, ...], Field(description="Keys that cannot be opened, a sentence each.")]


class KeyMade(Done):
    """A new key; ``key`` is shown this once."""

    id: Annotated[str, Field(description="Its id; empty in a dry run.")]
    key: str


class KeyRotated(KeyMade):
    """A new key, and what became of the old one."""

    client: Name
    old: Name
    old_expires: Annotated[int, Field(description="When the old one ends; 0: it is revoked now.")]
    old_ended: Annotated[int, Field(description="When it was to end before; 0 = never.")]


class KeyShown(Body):
    """A key without anything secret."""

    id: Name
    client: Name
    label: str
    created: int
    expires: int
    revoked: int
    state: KeyState
    last_used: Annotated[int, Field(description="Seconds since the epoch; 0: not since `used_since`.")]
    used_on: Annotated[tuple[str, ...], Field(description="Gates that say so, since they started.")]
    notes: Annotated[tuple[str, ...], Field(description="What its owner should know, a sentence each.")]

    @classmethod
    def of(cls, key: Key, successor: Key | None, uses: Uses, now_s: float) -> KeyShown:
        """From the stored key."""
        return cls(
            **key.model_dump(exclude={"hash"}),
            state=state_of(key, now_s),
            last_used=uses.last.get(key.id, 0),
            used_on=uses.gates.get(key.id, ()),
            notes=notes_on(key, successor, uses, now_s),
        )


class KeyCounts(Body):
    """A client's keys."""

    good: int
    ended: Annotated[int, Field(description="Expired or revoked.")]


class Clients(Body):
    """All clients."""

    revision: int
    clients: tuple[ClientPolicy, ...]
    keys: Annotated[dict[str, KeyCounts], Field(description="By client.")]


class Keys(Body):
    """Keys, and since when their uses are known."""

    revision: int
    keys: tuple[KeyShown, ...]
    used_since: Annotated[int, Field(description="Since when uses are written down; 0: they are not.")]
    silent: Annotated[tuple[str, ...], Field(description="Gates that do not tell of uses now, a sentence each.")]


class ClientShown(Keys):
    """Everything of a client."""

    client: ClientPolicy
