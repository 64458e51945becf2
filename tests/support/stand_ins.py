"""Images of third parties by their own name and tag, built around the same programs: where tests run nothing can be
pulled. Entrypoint, user, folders and default arguments are the official images', so that a Compose file cannot tell.

An image of that name which was pulled is the real one, and stays. There is none of Grafana: it is in no
package registry.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from compose.containers.third_party import THIRD_PARTIES
from compose.local.cache import cache_folder
from tests.support.container_environment import left_out
from tests.support.engine import Engine
from tests.support.engine_install import NoEngine, mirror, sources, told
from tests.support.programs import program

BASE = "debian:bookworm-slim"
RELEASE = "bookworm"
LABEL = "tekup.stand-in"
STRAP_S = 900.0
BUILD_S = 300.0
SLIM = ("usr/share/man", "usr/share/info", "usr/share/locale", "usr/share/groff", "usr/share/lintian")
EMPTY = ("var/lib/apt/lists", "var/cache/apt", "var/cache/debconf", "var/log")

CONSUL_ENTRYPOINT = """#!/bin/sh
# Behaves as the official image's: an agent gets its folders, a command of consul needs no `consul` before it, and
# root becomes the user consul.
set -e
data=${CONSUL_DATA_DIR:-/consul/data}
config=${CONSUL_CONFIG_DIR:-/consul/config}
[ -z "$CONSUL_LOCAL_CONFIG" ] || printf '%s' "$CONSUL_LOCAL_CONFIG" > "$config/local.json"
if [ "$1" = agent ]; then
  shift
  [ -z "$CONSUL_CLIENT_INTERFACE" ] || set -- "-client={{ GetInterfaceIP \\"$CONSUL_CLIENT_INTERFACE\\" }}" "$@"
  [ -z "$CONSUL_BIND_INTERFACE" ] || set -- "-bind={{ GetInterfaceIP \\"$CONSUL_BIND_INTERFACE\\" }}" "$@"
  set -- consul agent -data-dir="$data" -config-dir="$config" "$@"
elif ! command -v "$1" > /dev/null; then
  set -- consul "$@"
fi
if [ "$1" = consul ] && [ "$(id -u)" = 0 ]; then
  chown consul:consul "$data" "$config"
  exec setpriv --reuid consul --regid consul --clear-groups -- "$@"
fi
exec "$@"
"""


@dataclass(frozen=True)
class StandIn:
    """What an official image has besides its name."""

    programs: Mapping[str, str]
    """Program of compose.local.programs, and its path in the image."""
    instructions: str
    files: Mapping[str, str] = field(default_factory=dict)
    """Scripts in the build's context."""


STAND_INS = {
    "consul": StandIn(
        {"consul": "/bin/consul"},
        """RUN groupadd --gid 1000 consul && useradd --uid 100 --gid consul --no-create-home consul \
 && mkdir -p /consul/data /consul/config && chown -R consul:consul /consul
COPY docker-entrypoint.sh /usr/local/bin/
VOLUME /consul/data
EXPOSE 8300 8301 8301/udp 8302 8302/udp 8500 8600 8600/udp
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["agent", "-dev", "-client", "0.0.0.0"]
""",
        {"docker-entrypoint.sh": CONSUL_ENTRYPOINT},
    ),
    "prometheus": StandIn(
        {"prometheus": "/bin/prometheus", "promtool": "/bin/promtool"},
        """RUN mkdir -p /prometheus /etc/prometheus && chown -R nobody:nogroup /prometheus /etc/prometheus
USER nobody
WORKDIR /prometheus
VOLUME /prometheus
EXPOSE 9090
ENTRYPOINT ["/bin/prometheus"]
CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
""",
    ),
    "alertmanager": StandIn(
        {"alertmanager": "/bin/alertmanager", "amtool": "/bin/amtool"},
        """RUN mkdir -p /alertmanager /etc/alertmanager && chown -R nobody:nogroup /alertmanager /etc/alertmanager
USER nobody
WORKDIR /alertmanager
VOLUME /alertmanager
EXPOSE 9093
ENTRYPOINT ["/bin/alertmanager"]
CMD ["--config.file=/etc/alertmanager/alertmanager.yml", "--storage.path=/alertmanager"]
""",
    ),
    "loki": StandIn(
        {"loki": "/usr/bin/loki"},
        """RUN mkdir -p /loki /etc/loki && chown -R 10001:10001 /loki /etc/loki
USER 10001
EXPOSE 3100
ENTRYPOINT ["/usr/bin/loki"]
CMD ["-config.file=/etc/loki/local-config.yaml"]
""",
    ),
    "jaeger": StandIn(
        {"jaeger": "/go/bin/all-in-one-linux"},
        """USER 10001
VOLUME /tmp
EXPOSE 4317 4318 14269 16686
ENTRYPOINT ["/go/bin/all-in-one-linux"]
""",
    ),
    "collector": StandIn(
        {"collector": "/usr/bin/collector"},
        """USER 10001
EXPOSE 4317 4318
ENTRYPOINT ["/usr/bin/collector"]
CMD ["--config=/etc/collector/collector.yml"]
""",
    ),
}


def stand_ins(engine: Engine, base: str) -> list[str]:
    """Build every stand-in that is not there, several side by side.

    Args:
        engine: Where.
        base: The image they are built on.

    Returns:
        Their names with tags, real ones included.

    Raises:
        NoEngine: One could not be built.
    """
    with ThreadPoolExecutor(2) as side_by_side:
        wanted = [service for service in STAND_INS if service not in left_out()]
        return list(side_by_side.map(lambda service: stand_in(engine, base, service), wanted))


def stand_in(engine: Engine, base: str, service: str) -> str:
    """Build one stand-in, unless it is there; its name with tag.

    Args:
        engine: Where.
        base: The image it is built on.
        service: Its service in the Compose files.

    Raises:
        NoEngine: It could not be built.
    """
    name = THIRD_PARTIES[service].image
    wanted = STAND_INS[service]
    programs = {Path(program(which)): path for which, path in wanted.programs.items()}
    recipe = _recipe(base, service, programs, wanted.instructions)
    digest = _digest(recipe, programs, wanted.files)
    if _label(engine, name) in (digest, None):
        return name
    with _context(recipe, programs, wanted.files) as folder:
        engine.docker("build", "--quiet", "--label", f"{LABEL}={digest}", "--tag", name, str(folder), timeout_s=BUILD_S)
    return name


def _recipe(base: str, service: str, programs: Mapping[Path, str], instructions: str) -> str:
    copies = "".join(f"COPY {source.name} {target}\n" for source, target in programs.items())
    return f"FROM {base}\n{copies}{instructions}"


def _digest(recipe: str, programs: Mapping[Path, str], files: Mapping[str, str]) -> str:
    """Covers what the image is made of; a program of the resolver's cache has a new path when it is a new program."""
    facts = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in programs]
    return hashlib.sha256(repr((recipe, facts, sorted(files.items()))).encode()).hexdigest()[:16]


def _label(engine: Engine, name: str) -> str | None:
    """The digest in a stand-in's label, None for the real image, empty where there is neither.

    What was pulled has a digest of its registry; what was built here, by whomever, has none and cannot be trusted to
    be like the real one.
    """
    if not engine.docker("image", "ls", "--quiet", name):
        return ""
    form = f'{{{{len .RepoDigests}}}} {{{{with .Config.Labels}}}}{{{{index . "{LABEL}"}}}}{{{{end}}}}'
    pulled, _, label = engine.docker("image", "inspect", "--format", form, name).partition(" ")
    return label if pulled == "0" else None


@contextlib.contextmanager
def _context(recipe: str, programs: Mapping[Path, str], files: Mapping[str, str]) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="stand-in-", dir=cache_folder().parent) as scratch:
        folder = Path(scratch)
        (folder / "Dockerfile").write_text(recipe, encoding="utf-8")
        for source in programs:
            try:  # beside the cache of programs, so that nothing is copied
                os.link(source, folder / source.name)
            except OSError:
                shutil.copy(source, folder / source.name)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
            (folder / name).chmod(0o755)
        yield folder


def base_image(engine: Engine) -> str:
    """The image that all others are built on, made from Debian's packages where it is not there.

    Raises:
        NoEngine: It is not there and could not be made.
    """
    if engine.docker("image", "ls", "--quiet", BASE):
        return BASE
    archive = cache_folder().parent / f"debian-{RELEASE}-slim.tar"
    if not archive.exists():
        _strap(archive)
    engine.docker("import", "--change", 'CMD ["bash"]', "--change", f"LABEL {LABEL}=debootstrap", str(archive), BASE)
    return BASE


def _strap(archive: Path) -> None:
    if os.geteuid() != 0 or shutil.which("debootstrap") is None:
        raise NoEngine(f"the engine has no image {BASE}: pull it, or run as root on Debian with debootstrap installed")
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="strap-", dir=archive.parent) as scratch:
        root = Path(scratch, "root")
        told(["debootstrap", "--variant=minbase", RELEASE, str(root), mirror()], timeout_s=STRAP_S)
        (root / "etc/apt/sources.list").write_text(sources(RELEASE), encoding="utf-8")
        _slim(root)
        packed = Path(scratch, "packed.tar")
        told(["tar", "--numeric-owner", "-C", str(root), "-cf", str(packed), "."], timeout_s=STRAP_S)
        packed.rename(archive)


def _slim(root: Path) -> None:
    for name in SLIM:
        shutil.rmtree(root / name, ignore_errors=True)
    for name in EMPTY:
        for path in (root / name).iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in (root / "usr/share/doc").rglob("*"):
        if not path.is_dir() and path.name != "copyright":
            path.unlink()
