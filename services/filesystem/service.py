"""Settings of the filesystem service, and what it is made of."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Literal

import anyio.to_thread
from pydantic import AfterValidator, Field, model_validator
from pydantic_settings import SettingsConfigDict

from services.common import Folders, Kit, ServiceSettings, ServiceSpec
from services.common.paths import Roots
from services.common.ripgrep import RgBinary, Ripgrep
from services.filesystem.files import Files, Limits
from services.filesystem.quotas import Quota
from services.filesystem.tools import changing, looking, reading, searching, trash

__all__ = ["SPEC", "FilesystemSettings"]

INSTRUCTIONS = """Reads and changes files within the roots this server was given (filesystem_list_roots).
Paths are absolute, or relative where there is one root. Read a file before editing it; filesystem_edit_file wants the
exact text, once. Nothing is overwritten or deleted recursively unless you say so; what is deleted can be restored."""


def _usable(folders: Folders) -> Folders:
    Roots.of(folders)
    return folders


class FilesystemSettings(ServiceSettings):
    """`MCP_FILESYSTEM_…`."""

    model_config = SettingsConfigDict(env_prefix="MCP_FILESYSTEM_")

    roots: Annotated[Folders, AfterValidator(_usable)] = ()
    read_only_roots: Annotated[Folders, AfterValidator(_usable)] = ()
    hard_links: Literal["refuse", "allow"] = "refuse"
    answer_bytes: int = Field(default=64 << 10, ge=1024)
    inline_bytes: int = Field(default=1 << 20, ge=0, le=16 << 20)
    resource_bytes: int = Field(default=16 << 20, ge=0, le=64 << 20)
    quota_bytes: int = Field(default=0, ge=0)
    quota_files: int = Field(default=0, ge=0)
    trash_days: float = Field(default=30.0, ge=0)
    rg: RgBinary

    @model_validator(mode="after")
    def _fitting(self) -> "FilesystemSettings":
        if not self.roots and not self.read_only_roots:
            raise ValueError("there is no root; name folders in MCP_FILESYSTEM_ROOTS or MCP_FILESYSTEM_READ_ONLY_ROOTS")
        self.usable_roots()
        return self

    def usable_roots(self) -> Roots:
        """The roots.

        Raises:
            RootsError: Some of them cannot be used.
        """
        return Roots.of(self.roots, read_only=self.read_only_roots, hard_links=self.hard_links == "allow")

    @property
    def limits(self) -> Limits:
        """What one answer, and one root, may hold."""
        quota = Quota(self.quota_bytes, self.quota_files)
        return Limits(self.answer_bytes, self.inline_bytes, self.resource_bytes, quota, self.trash_days)


@asynccontextmanager
async def build(kit: Kit, settings: FilesystemSettings) -> AsyncIterator[None]:
    """Clear away what a killed instance left, and declare the tools."""
    files = Files(settings.usable_roots(), settings.limits)
    await anyio.to_thread.run_sync(files.tidy)
    for tools in (reading, looking, changing, trash):
        tools.declare(kit, files)
    searching.declare(kit, files, Ripgrep(str(settings.rg)))
    folders = [*settings.roots, *settings.read_only_roots]
    kit.probe("filesystem_list_directory", {"path": str(folders[0]), "limit": 1})
    kit.metrics.usage.watch_disk("roots", folders)
    yield


SPEC = ServiceSpec("filesystem", FilesystemSettings, build, INSTRUCTIONS)
