"""A program out of a Debian package that is downloaded and unpacked, and not installed: installing starts daemons.

Needs no root, and leaves nothing on the machine outside our cache. For programs that need nothing but themselves.
"""

import asyncio
import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from .cache import Entry, cached_or_built
from .errors import SourceFailed
from .run import run_or_fail
from .work import Doing, Work

DOWNLOAD_S = 5 * 60.0
UNPACK_S = 60.0
VERSION = "debian"
"""Which version there is, the distribution decides; the table's minimum says whether it will do."""


@dataclass(frozen=True)
class UnpackedDebianPackage:
    """One program of a package of the machine's own distribution, whose signatures apt checks."""

    package: str
    executable: str

    @property
    def origin(self) -> str:
        """The package."""
        return f"Debian package {self.package}, unpacked"

    async def obtain(self, name: str, version: str, work: Work, *, fetch: bool) -> Path | None:  # noqa: ARG002
        """See `Source.obtain`."""
        digest = hashlib.sha256(f"{self.package}\0{self.executable}".encode()).hexdigest()
        entry = Entry(name, VERSION, digest, name)
        if not fetch:
            return entry.verified()

        async def build(folder: Path) -> None:
            missing = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
            if missing:
                raise SourceFailed(f"this machine has no {' and no '.join(missing)}")
            async with work.step(name, f"downloading the Debian package {self.package}") as doing:
                await self._unpack(folder, folder / name, doing)

        return await cached_or_built(entry, build, work.report)

    async def _unpack(self, folder: Path, program: Path, doing: Doing) -> None:
        # The sandbox's own user may not write here, and apt would warn; what it downloads is checked all the same.
        download = ["apt-get", "-o", "APT::Sandbox::User=root", "download", self.package]
        try:
            await run_or_fail(download, timeout_s=DOWNLOAD_S, cwd=folder)
        except SourceFailed:  # a package list that is missing or too old: fetch a new one, once; that takes root
            doing.text = "refreshing the package list"
            await run_or_fail(["apt-get", "update"], timeout_s=DOWNLOAD_S)
            await run_or_fail(download, timeout_s=DOWNLOAD_S, cwd=folder)
        (archive,) = await asyncio.to_thread(lambda: list(folder.glob("*.deb")))
        unpacked = folder / "unpacked"
        await run_or_fail(["dpkg-deb", "--extract", str(archive), str(unpacked)], timeout_s=UNPACK_S)
        await asyncio.to_thread(_keep_only, unpacked / self.executable, program, archive, unpacked)


def _keep_only(found: Path, program: Path, archive: Path, unpacked: Path) -> None:
    if not found.is_file():
        raise SourceFailed(f"{archive.name} holds no {found.relative_to(unpacked)}")
    found.rename(program)
    archive.unlink()
    shutil.rmtree(unpacked)
