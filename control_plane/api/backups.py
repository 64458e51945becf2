"""The routes of backups: what was taken, and taking keys back after one was restored."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from control_plane.api.bodies import Body, Done, Reason
from control_plane.api.route import ApiRoute, Asked
from control_plane.backups import Backup
from control_plane.errors import NotFound
from control_plane.model import Name
from control_plane.standbys import Standby


class BackupShown(Body):
    """The last backup that was told."""

    name: str
    taken: Annotated[float, Field(ge=0, description="The moment it shows, in seconds since the epoch.")]
    size_bytes: Annotated[int, Field(ge=0)]

    @classmethod
    def of(cls, backup: Backup) -> BackupShown:
        """From what the control plane says."""
        return cls(**backup.model_dump())


class StandbyShown(Body):
    """The last round of the standby replica."""

    target: Annotated[str, Field(min_length=1, max_length=512, description="Where it lies, as rsync names it.")]
    at: Annotated[float, Field(ge=0, description="When the round began, in seconds since the epoch.")]
    seconds: Annotated[float, Field(ge=0, description="How long it took.")]
    every_s: Annotated[float, Field(ge=0, description="How long after its end the next begins.")]


class RevocationWish(Body):
    """Keys to revoke, in one change."""

    only: Annotated[tuple[Name, ...] | None, Field(description="Which; null: all. One that is not there counts.")] = (
        None
    )
    reason: Reason


async def last_backup(ask: Asked) -> BackupShown:
    """The last backup."""
    last = await ask.plane.backups.last()
    if last is None:
        raise NotFound("no backup was ever told; `tekup backup create` takes one")
    return BackupShown.of(last)


async def backup_taken(ask: Asked) -> BackupShown:
    """Tell that a backup was taken."""
    body = ask.read(BackupShown)
    told = Backup.parse(body.model_dump_json(), "backup")
    return BackupShown.of(await ask.plane.backups.taken(told))


async def last_standby(ask: Asked) -> StandbyShown:
    """The last round of the standby replica."""
    last = await ask.plane.standbys.last()
    if last is None:
        raise NotFound("no standby replica was ever told; `tekup replica run` keeps one")
    return StandbyShown(**last.model_dump())


async def standby_kept(ask: Asked) -> StandbyShown:
    """Tell of a round of the standby replica."""
    told = Standby.parse(ask.read(StandbyShown).model_dump_json(), "standby")
    return StandbyShown(**(await ask.plane.standbys.told(told)).model_dump())


async def revoke_keys(ask: Asked) -> Done:
    """Revoke many keys for good."""
    body = ask.read(RevocationWish)
    return Done.of(await ask.plane.rights.revoke_keys(body.only, ask.wish(body.reason)))


BACKUP_ROUTES: tuple[ApiRoute, ...] = (
    ApiRoute("GET", "/v1/backup", "The last backup", last_backup, BackupShown),
    ApiRoute("PUT", "/v1/backup", "Tell of a backup", backup_taken, BackupShown, BackupShown, own=True),
    ApiRoute("GET", "/v1/standby", "The last round of the standby replica", last_standby, StandbyShown),
    ApiRoute("PUT", "/v1/standby", "Tell of a round", standby_kept, StandbyShown, StandbyShown, looks=True),
    ApiRoute("POST", "/v1/revocations", "Revoke many keys, or all", revoke_keys, Done, RevocationWish),
)
