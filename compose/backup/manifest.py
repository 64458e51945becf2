"""What a backup says of itself: the first entry of its archive. Pure values.

A part is what is put back as a whole: Consul's snapshot, and the environment's files.
"""

from __future__ import annotations

import datetime
import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from compose.local.errors import LocalError
from compose.local.exits import Exit

FORMAT = 1
MANIFEST = "manifest.json"
SNAPSHOT = "consul.snap"
STATE = "state/"
"""What stands before a file's path within `.tekup`."""
SETTINGS = "tekup.toml"
SUFFIX = ".tar.gz.age"
NAME = re.compile(r"tekup-(?P<at>\d{8}T\d{6}Z)-(?P<environment>[0-9a-f]{8})\.tar\.gz\.age")
STAMP = "%Y%m%dT%H%M%SZ"
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class BackupRefused(LocalError):
    """A backup that is damaged, somebody else's, or of a newer platform. Nothing was touched."""

    exit_code = Exit.USAGE


class Part(BaseModel):
    """One file of a backup."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sha256: Sha256
    size_bytes: Annotated[int, Field(ge=0)]
    mode: Annotated[int, Field(ge=0, le=0o7777)] = 0o600


class Manifest(BaseModel):
    """What a backup holds.

    Attributes:
        format: Of the archive.
        platform: Version of the platform that took it.
        environment: Which environment, by the random name it got with its first backup.
        datacenter: Consul's.
        epoch: Of the policy's revision.
        revision: Its number.
        taken: The moment it shows, in seconds since the epoch.
        held_s: How long writers of files waited.
        whole: All of it is of one moment; else files were copied until `held_s` and longer, each whole in itself.
        parts: Every file, by its name in the archive.
        links: Symbolic links, with what they say.
        folders: Folders, the empty ones among them.
        left_out: What belongs to the environment and is not in here, a sentence each.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: int = FORMAT
    platform: str
    environment: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}$")]
    datacenter: str
    epoch: int
    revision: int
    taken: float
    held_s: float
    whole: bool
    parts: dict[str, Part]
    links: dict[str, str] = Field(default_factory=dict)
    folders: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of its archive."""
        return name_of(self.taken, self.environment)

    def check(self, platform: str) -> None:
        """Check that this platform may restore it.

        Raises:
            BackupRefused: It is a newer one's, or names what it must not.
        """
        if self.format > FORMAT or _numbers(self.platform) > _numbers(platform):
            raise BackupRefused(
                f"the backup was taken by TekUp MCP {self.platform} (format {self.format}), this is {platform} (format"
                f" {FORMAT}): restore it with that version or a later one"
            )
        if odd := [name for name in (*self.parts, *self.links, *self.folders) if not is_safe(name)]:
            raise BackupRefused(f"the backup names {odd[0]!r}, which lies outside of an environment; it is not ours")


def name_of(taken_s: float, environment: str) -> str:
    """The name of an archive."""
    at = datetime.datetime.fromtimestamp(taken_s, datetime.UTC)
    return f"tekup-{at.strftime(STAMP)}-{environment}{SUFFIX}"


def is_safe(name: str) -> bool:
    """Whether an entry of an archive lies where entries may lie."""
    if name in (SNAPSHOT, SETTINGS):
        return True
    parts = name.split("/")
    return name.startswith(STATE) and not {"", ".", ".."} & set(parts[1:]) and "\0" not in name


def read_manifest(raw: bytes) -> Manifest:
    """Read a manifest.

    Raises:
        BackupRefused: It is none, or of a newer form.
    """
    try:
        return Manifest.model_validate_json(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise BackupRefused(
            f"the backup's manifest makes no sense to this version ({where}: {first['msg']}); it is damaged, or a newer"
            " platform's"
        ) from None


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
