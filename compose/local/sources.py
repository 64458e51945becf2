"""The ways a program can be had. Each finds it or says, in one `SourceFailed`, why not.

A source answers with a path; that the program there is new enough is checked by the resolver, by the
version the program itself prints.
"""

import hashlib
import importlib.util
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .cache import Entry, cached_or_built
from .errors import SourceFailed
from .files import carried, repository
from .run import run_or_fail
from .work import Doing, Work

DOWNLOAD_S = 15 * 60.0
BUILD_S = 45 * 60.0
NPM_FILES = ("package.json", "package-lock.json")


class Source(Protocol):
    """One way to a program."""

    @property
    def origin(self) -> str:
        """Short words for `tekup doctor`: where this source has it from."""

    async def obtain(self, name: str, version: str, work: Work, *, fetch: bool) -> Path | None:
        """Find the program.

        Args:
            name: the program's name in the table.
            version: the version this source is pinned to, where it has a choice.
            work: reporter and other programs.
            fetch: whether it may be fetched or built; without, only what is already there counts.

        Returns:
            Its path, or None if it would have to be fetched first and `fetch` is false.

        Raises:
            SourceFailed: this source does not have it.
        """


@dataclass(frozen=True)
class OnPath:
    """Installed on this machine, under one of several names."""

    names: tuple[str, ...]

    @property
    def origin(self) -> str:
        """The PATH."""
        return "PATH"

    async def obtain(self, name: str, version: str, work: Work, *, fetch: bool) -> Path | None:  # noqa: ARG002
        """See `Source.obtain`."""
        for candidate in self.names:
            if found := shutil.which(candidate):
                return Path(found)
        raise SourceFailed(f"not on PATH as {' or '.join(self.names)}")


@dataclass(frozen=True)
class InOurEnvironment:
    """Beside our own Python: put there by a wheel among our pinned dependencies."""

    executable: str
    package: str

    @property
    def origin(self) -> str:
        """The wheel."""
        return f"wheel {self.package}"

    async def obtain(self, name: str, version: str, work: Work, *, fetch: bool) -> Path | None:  # noqa: ARG002
        """See `Source.obtain`."""
        path = Path(sys.executable).parent / self.executable
        if not path.exists():
            raise SourceFailed(f"{path} is missing: the package {self.package} is not installed there")
        return path


@dataclass(frozen=True)
class GoBuild:
    """Built by Go from a module of ours whose go.sum pins every hash."""

    module: str
    package: str
    tags: tuple[str, ...] = ()
    """Build tags."""
    version_in: str = ""
    """The variable that holds the version the program prints, where the build has to set it."""

    @property
    def origin(self) -> str:
        """The module's folder."""
        return f"Go build of {self.module}/go.mod"

    def entry(self, name: str, version: str) -> Entry:
        """Where the result is kept; the key covers everything that decides what is built."""
        folder = carried(self.module)
        digest = hashlib.sha256(" ".join((self.package, *self._flags(version))).encode())
        for file in (folder / "go.mod", folder / "go.sum", *sorted(folder.glob("*.go"))):
            digest.update(file.read_bytes())
        return Entry(name, version, digest.hexdigest(), name)

    async def obtain(self, name: str, version: str, work: Work, *, fetch: bool) -> Path | None:
        """See `Source.obtain`."""
        entry = self.entry(name, version)
        if not fetch:
            return entry.verified()

        async def build(folder: Path) -> None:
            go = await work.need("go")
            async with work.step(name, "fetching Go modules") as doing:
                await self._build(go, folder / name, version, doing)

        return await cached_or_built(entry, build, work.report)

    async def _build(self, go: Path, output: Path, version: str, doing: Doing) -> None:
        module = carried(self.module)
        env = {"GOWORK": "off"}
        packages = 0

        def listed(line: str) -> None:
            nonlocal packages
            if line.startswith("go: downloading "):
                doing.text = f"fetching {line.split()[2].rpartition('/')[2]}"
            else:
                packages += 1

        def compiled(_line: str) -> None:
            doing.done += 1

        await run_or_fail(
            [str(go), "list", *self._tags(), "-deps", self.package],
            timeout_s=DOWNLOAD_S,
            cwd=module,
            env=env,
            on_line=listed,
        )
        doing.text, doing.total = "compiling, once per user; what was compiled before is reused", packages
        # -buildvcs=false: the checkout around the module is not the source of the program
        argv = [str(go), "build", "-buildvcs=false", *self._flags(version), "-v", "-o", str(output), self.package]
        await run_or_fail(argv, timeout_s=BUILD_S, cwd=module, env=env, on_line=compiled)

    def _tags(self) -> tuple[str, ...]:
        return ("-tags", ",".join(self.tags)) if self.tags else ()

    def _flags(self, version: str) -> tuple[str, ...]:
        return (*self._tags(), *(("-ldflags", f"-X {self.version_in}={version}") if self.version_in else ()))


@dataclass(frozen=True)
class CargoBuild:
    """Built by the Cargo on PATH from a crate, of which the version is told and whose own lock file pins the rest."""

    crate: str
    features: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """The crate."""
        return f"Cargo build of crate {self.crate}"

    async def obtain(self, name: str, version: str, work: Work, *, fetch: bool) -> Path | None:
        """See `Source.obtain`."""
        asked = (f"{self.crate}@{version}", "--locked", *(f"--features={each}" for each in self.features))
        entry = Entry(name, version, hashlib.sha256(" ".join(asked).encode()).hexdigest(), name)
        if not fetch:
            return entry.verified()
        cargo = shutil.which("cargo")
        if cargo is None:
            raise SourceFailed("cargo is not on PATH")

        async def build(folder: Path) -> None:
            async with work.step(name, "fetching crates") as doing:

                def show(line: str) -> None:
                    doing.text = line.strip()

                argv = [cargo, "install", *asked, "--root", str(folder)]
                await run_or_fail(argv, timeout_s=BUILD_S, on_line=show)
            # Not every program tells its version; what Cargo installed there it has written down.
            program, tells = folder / name, r"""sed -n 's/^"\([^(]*\) (.*/\1/p' "$here"/.crates.toml"""
            runs = f'exec "$here"/bin/{shlex.quote(self.crate)} "$@"'
            said = f'#!/bin/sh\nhere="$(dirname "$0")"\nif [ "$1" = --version ]; then {tells}; else {runs}; fi\n'
            _write_program(program, said)

        return await cached_or_built(entry, build, work.report)


@dataclass(frozen=True)
class FromWheel:
    """A wheel unpacked into the cache, for programs that do not belong into our own environment."""

    package: str
    executable: str
    sha256: tuple[str, ...] = ()
    """Of the wheels of all platforms; where given, no other file is taken."""

    @property
    def origin(self) -> str:
        """The wheel."""
        return f"wheel {self.package}"

    async def obtain(self, name: str, version: str, work: Work, *, fetch: bool) -> Path | None:
        """See `Source.obtain`."""
        requirement = f"{self.package}=={version}"
        pinned = " ".join((requirement, *(f"--hash=sha256:{digest}" for digest in self.sha256)))
        entry = Entry(name, version, hashlib.sha256(pinned.encode()).hexdigest(), self.executable)
        if not fetch:
            return entry.verified()

        async def build(folder: Path) -> None:
            asked = folder / "requirement.txt"
            asked.write_text(f"{pinned}\n", encoding="ascii")
            async with work.step(name, f"fetching {requirement}"):
                await run_or_fail(
                    [*_installer(), "--no-deps", "--target", str(folder), "--requirement", str(asked)],
                    timeout_s=DOWNLOAD_S,
                )

        return await cached_or_built(entry, build, work.report)


@dataclass(frozen=True)
class PythonPackages:
    """Python packages from a lock file of ours that pins every hash, and a Python that sees them before our own."""

    lock: str

    @property
    def origin(self) -> str:
        """The lock file."""
        return f"Python lock {self.lock}"

    async def obtain(self, name: str, version: str, work: Work, *, fetch: bool) -> Path | None:
        """See `Source.obtain`."""
        lock = repository() / self.lock
        digest = hashlib.sha256(f"{sys.executable}\0".encode() + lock.read_bytes()).hexdigest()
        entry = Entry(name, version, digest, name)
        if not fetch:
            return entry.verified()

        async def build(folder: Path) -> None:
            async with work.step(name, f"fetching the packages of {self.lock}"):
                options = ("--no-deps", "--require-hashes", "--only-binary", ":all:", "--target", str(folder / "site"))
                await run_or_fail([*_installer(), *options, "--requirement", str(lock)], timeout_s=DOWNLOAD_S)
            program, python = folder / name, shlex.quote(sys.executable)
            sees = 'PYTHONPATH="$(dirname "$0")"/site PYTHONDONTWRITEBYTECODE=1'
            _write_program(program, f'#!/bin/sh\n{sees} exec {python} "$@"\n')

        return await cached_or_built(entry, build, work.report)


def _write_program(path: Path, script: str) -> None:
    path.write_text(script, encoding="utf-8")
    path.chmod(0o755)


def _installer() -> Sequence[str]:
    if importlib.util.find_spec("pip") is not None:
        return (sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "--no-input")
    if uv := shutil.which("uv"):
        return (uv, "pip", "install", "--python", sys.executable)
    raise SourceFailed("neither pip nor uv is available to fetch a wheel")


@dataclass(frozen=True)
class NpmPackage:
    """Installed by npm from a folder of ours whose package-lock.json pins the integrity of every package."""

    folder: str
    script: str
    """Path inside `node_modules`, or the name of a script of ours in the folder, which is installed beside it."""
    ours: bool = False

    @property
    def origin(self) -> str:
        """The lock file."""
        return f"npm lock of {self.folder}/package-lock.json"

    def entry(self, name: str, version: str, node: Path) -> Entry:
        """Where the result is kept; the key covers all that is installed and the Node that runs it."""
        digest = hashlib.sha256(f"{node}\0{self.script}\0".encode())
        for file in self._files:
            digest.update((repository() / self.folder / file).read_bytes())
        return Entry(name, version, digest.hexdigest(), name)

    @property
    def _files(self) -> tuple[str, ...]:
        return (*NPM_FILES, self.script) if self.ours else NPM_FILES

    async def obtain(self, name: str, version: str, work: Work, *, fetch: bool) -> Path | None:
        """See `Source.obtain`."""
        try:
            node = await work.need("node")
        except SourceFailed:
            if fetch:
                raise
            return None
        entry = self.entry(name, version, node)
        if not fetch:
            return entry.verified()

        async def build(folder: Path) -> None:
            async with work.step(name, "fetching npm packages"):
                await self._install(node, folder)
            script = shlex.quote(self.script if self.ours else f"node_modules/{self.script}")
            program = folder / name
            _write_program(program, f'#!/bin/sh\nexec {shlex.quote(str(node))} "$(dirname "$0")"/{script} "$@"\n')

        return await cached_or_built(entry, build, work.report)

    async def _install(self, node: Path, folder: Path) -> None:
        for file in self._files:
            shutil.copyfile(repository() / self.folder / file, folder / file)
        # npm lies beside every Node that its own makers packed. Nothing of what is installed may run meanwhile.
        npm = node.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        options = ("--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier")
        await run_or_fail([str(node), str(npm), "ci", *options], timeout_s=DOWNLOAD_S, cwd=folder)


@dataclass(frozen=True)
class DebianPackage:
    """A package of the machine's own distribution; needs root."""

    package: str
    executable: str

    @property
    def origin(self) -> str:
        """The package."""
        return f"Debian package {self.package}"

    async def obtain(self, name: str, version: str, work: Work, *, fetch: bool) -> Path | None:  # noqa: ARG002
        """See `Source.obtain`."""
        if shutil.which("apt-get") is None:
            raise SourceFailed("this machine has no apt-get")
        if os.geteuid() != 0:
            raise SourceFailed(f"installing the Debian package {self.package} needs root")
        if not fetch:
            return None
        async with work.step(name, f"installing the Debian package {self.package}") as doing:
            await self._install(doing)
        return Path(shutil.which(self.executable) or f"/usr/bin/{self.executable}")

    async def _install(self, doing: Doing) -> None:
        apt = ["apt-get", "-y", "-o", "DPkg::Lock::Timeout=300"]
        env = {"DEBIAN_FRONTEND": "noninteractive"}

        def show(line: str) -> None:
            if line.startswith(("Get:", "Unpacking ", "Setting up ")):
                doing.text = line

        install = [*apt, "install", "--no-install-recommends", self.package]
        try:
            await run_or_fail(install, timeout_s=DOWNLOAD_S, env=env, on_line=show)
        except SourceFailed:  # a package list that is missing or too old: fetch a new one, once
            doing.text = "refreshing the package list"
            await run_or_fail([*apt, "update"], timeout_s=DOWNLOAD_S, env=env, on_line=show)
            await run_or_fail(install, timeout_s=DOWNLOAD_S, env=env, on_line=show)


@dataclass(frozen=True)
class PlaywrightBrowser:
    """The browser Playwright's own installer has put on this machine, if it has."""

    @property
    def origin(self) -> str:
        """Playwright."""
        return "Playwright"

    async def obtain(self, name: str, version: str, work: Work, *, fetch: bool) -> Path | None:  # noqa: ARG002
        """See `Source.obtain`."""
        folder = Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or Path.home() / ".cache" / "ms-playwright")
        found = _executables(folder)
        if not found:
            raise SourceFailed(f"Playwright has no browser in {folder}")
        return max(found, key=lambda path: path.stat().st_mtime)


def _executables(folder: Path) -> list[Path]:
    return [path for path in folder.glob("chromium-*/chrome-*/chrome") if os.access(path, os.X_OK)]
