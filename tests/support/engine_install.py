"""What a container engine needs on a bare Debian machine: packages of the machine's own release, and of a newer one
the two plugins of Docker's command line that bookworm does not have.

Nothing outside the user's cache and apt's own packages is touched. No mirror is named here: the machine's own is asked.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

PLUGINS = {"docker-compose": "compose", "docker-buildx": "buildx"}
"""Debian package, which is its file's name too, and the command it adds to `docker`."""
NEWER = "trixie"
KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
PACKAGES = {"dockerd": "docker.io", "docker": "docker.io", "iptables": "iptables", "debootstrap": "debootstrap"}
"""Command, and the package that brings it."""
APT_S = 600.0
ASK_S = 60.0
TAIL = 15


class NoEngine(RuntimeError):
    """There is no container engine to be had; says what was tried and what to do."""


def told(
    argv: Sequence[str], *, timeout_s: float, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> str:
    """Run a command to its end.

    Args:
        argv: Program and arguments.
        timeout_s: The most it may take, in seconds.
        cwd: Folder to run in.
        env: Its whole environment; without, ours.

    Returns:
        What it wrote to its standard output.

    Raises:
        NoEngine: It could not be started, took too long or failed; has its last lines.
    """
    line = " ".join(argv)
    pipe = subprocess.PIPE
    try:
        # a group of its own, so that nothing of it is left when it takes too long
        running = subprocess.Popen(
            argv,
            cwd=cwd,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=pipe,
            stderr=pipe,
            text=True,
            start_new_session=True,
        )
    except OSError as error:
        raise NoEngine(f"`{line}` could not be started: {error.strerror}") from error
    try:
        output, errors = running.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired as error:
        raise NoEngine(f"`{line}` did not end within {timeout_s:.0f} s") from error
    finally:
        if running.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
            running.communicate()
    if running.returncode != 0:
        last = "\n".join((output + errors).strip().splitlines()[-TAIL:])
        raise NoEngine(f"`{line}` ended with code {running.returncode}; its last lines:\n{last}")
    return output


def install_packages() -> None:
    """Install of `PACKAGES` what is not on PATH.

    Raises:
        NoEngine: Something is missing and this is not Debian, we are not root, or apt failed.
    """
    missing = sorted({package for command, package in PACKAGES.items() if shutil.which(command) is None})
    if not missing:
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise NoEngine(
            f"no Docker engine answers, and {', '.join(missing)} can only be installed by root on Debian: "
            "start an engine of your own and set DOCKER_HOST to it"
        )
    apt = ["apt-get", "-y", "-o", "DPkg::Lock::Timeout=300"]
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    told([*apt, "update"], timeout_s=APT_S, env=env)
    told([*apt, "install", "--no-install-recommends", *missing], timeout_s=APT_S, env=env)
    if left := sorted(command for command in PACKAGES if shutil.which(command) is None):
        raise NoEngine(f"{', '.join(missing)} were installed, but PATH has no {', '.join(left)}: install those by hand")


def lacks_plugins(env: Mapping[str, str]) -> bool:
    """Whether `docker` in this environment has not both plugins."""
    try:
        for plugin in PLUGINS.values():
            told(["docker", plugin, "version"], timeout_s=ASK_S, env=env)
    except NoEngine:
        return True
    return False


def plugins_into(folder: Path) -> None:
    """Take the plugins out of the newer release's packages, unless the folder has them.

    Args:
        folder: Becomes a configuration folder of Docker's command line (`DOCKER_CONFIG`).

    Raises:
        NoEngine: They could not be fetched or do not run.
    """
    target = folder / "cli-plugins"
    env = {**os.environ, "DOCKER_CONFIG": str(folder)}
    if all((target / name).exists() for name in PLUGINS) and not lacks_plugins(env):
        return
    target.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tekup-plugins-") as scratch:
        for package in _downloaded(Path(scratch)):
            told(["dpkg-deb", "-x", str(package), f"{scratch}/x"], timeout_s=ASK_S)
        for name in PLUGINS:
            found = next(Path(scratch, "x").rglob(f"cli-plugins/{name}"), None)
            if found is None:
                raise NoEngine(f"Debian's package {name} of {NEWER} has no plugin {name}: put one into {target}")
            _put(found, target / name)
    if lacks_plugins(env):
        raise NoEngine(f"the plugins in {target} do not run: see `DOCKER_CONFIG={folder} docker compose version`")


def _put(found: Path, target: Path) -> None:
    ready = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.copyfile(found, ready)
    ready.chmod(0o755)
    ready.rename(target)


def _downloaded(scratch: Path) -> list[Path]:
    if shutil.which("apt-get") is None:
        raise NoEngine(
            "`docker` lacks its plugins compose and buildx, and only Debian's apt-get is known to bring them"
        )
    parts, lists, archives = scratch / "parts", scratch / "lists", scratch / "archives"
    for each in (parts, lists / "partial", archives / "partial"):
        each.mkdir(parents=True)
    (parts / "newer.sources").write_text(
        f"Types: deb\nURIs: {mirror()}\nSuites: {NEWER}\nComponents: main\nSigned-By: {KEYRING}\n", encoding="utf-8"
    )
    options = {
        "Dir::Etc::sourcelist": "/dev/null", "Dir::Etc::sourceparts": parts, "Dir::State::lists": lists,
        "Dir::Cache::archives": archives, "Dir::Cache::pkgcache": "", "Dir::Cache::srcpkgcache": "",
        "APT::Sandbox::User": "root",
    }  # fmt: skip
    apt = ["apt-get", *(part for name, value in options.items() for part in ("-o", f"{name}={value}"))]
    told([*apt, "update"], timeout_s=APT_S)
    told([*apt, "download", *PLUGINS], timeout_s=APT_S, cwd=scratch)
    return sorted(scratch.glob("*.deb"))


def mirror() -> str:
    """Where this machine has Debian's packages from: the first address of its own release.

    Raises:
        NoEngine: apt knows none.
    """
    release = _codename()
    for address, named, _part in _known():
        if named == release:
            return address
    raise NoEngine(f"apt knows no source of Debian {release}: add one below /etc/apt/sources.list.d")


def sources(release: str) -> str:
    """What an image of that release has in its `sources.list`: this machine's own sources where it is of that release,
    updates and fixes of security included, else the release alone."""
    own = [f"deb {address} {named} {part}" for address, named, part in _known() if named.split("-")[0] == release]
    return "\n".join(own or [f"deb {mirror()} {release} main"]) + "\n"


def _known() -> list[tuple[str, str, str]]:
    """Address, release and component of every source that apt knows."""
    asked = ["apt-get", "indextargets", "Created-By: Packages", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)"]
    lines = (line.split() for line in told(asked, timeout_s=ASK_S).splitlines())
    return [(line[0], line[1], line[2]) for line in lines if len(line) == 3]


def _codename() -> str:
    for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.partition("=")[2].strip('"')
    raise NoEngine("/etc/os-release names no VERSION_CODENAME: this is not a released Debian")
