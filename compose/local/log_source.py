"""Where the collector reads log lines: the files of local processes, or what Docker's json-file driver writes.

Either way a line's origin becomes `<service or process>` and an instance's name, which the rest of
`observability/collector/collector.yml.tmpl` goes by.
"""

from dataclasses import dataclass
from pathlib import Path

from .settings import SERVICES

FOLDER = Path("/logs")
"""Where the collector's container has the engine's folder of containers."""
_VERSION = r"[0-9A-Za-z]*[0-9.][0-9A-Za-z.]*"
"""Of an added service, as far as it is known here: with a digit or a dot, which no process has before its number
(`control-plane-2`)."""


@dataclass(frozen=True)
class LogSource:
    """What the template of the collector says of lines and their origin."""

    files: tuple[str, ...]
    left_out: tuple[str, ...]
    names: str
    """Regular expression over `log.file.name`: groups `instance`, and `service`, `added` or `process`."""
    unpacked: tuple[str, ...] = ()
    """Operators before that, one line of YAML each."""

    def values(self) -> dict[str, str]:
        """For the placeholders of the template."""
        return {
            "LOG_FILES": ", ".join(f'"{file}"' for file in self.files),
            "LOG_FILES_LEFT_OUT": ", ".join(f'"{file}"' for file in self.left_out),
            "LOG_NAMES": self.names,
            "LOG_UNPACKED": "\n".join(f"      - {operator}" for operator in self.unpacked) or "      # as they are",
        }


def of_processes(logs: Path) -> LogSource:
    """The local environment's: `<process>.log`, of a service `<service>-<version>-<number>.log`.

    Args:
        logs: Their folder.
    """
    services = "|".join(SERVICES)
    return LogSource(
        files=(f"{logs}/*.log", f"{logs}/*.log.1"),
        # Its own lines stay in its file: each failure to send would be one more line to send.
        left_out=(f"{logs}/collector.log", f"{logs}/collector.log.1"),
        names=rf"^(?P<instance>(?:(?P<service>{services})-.+-\d+|(?P<added>[a-z][a-z0-9-]*?)-{_VERSION}-\d+"
        r"|(?P<process>[a-z-]+?)(?:-\d+)?))\.log(?:\.1)?$",
    )


def of_containers(project: str) -> LogSource:
    """Docker's, of the containers of one project: their lines bear the tag `<project>/<service>/<number>`.

    In the place of the number is the container's id where Swarm numbers nobody.

    Args:
        project: Its name.
    """
    services = "|".join(SERVICES)
    tag = "attributes.docker?.attrs?.tag"
    unpacked = (
        "{type: json_parser, parse_to: attributes.docker, on_error: drop_quiet}",
        f"{{type: add, field: attributes.tag, value: 'EXPR({tag} ?? \"\")'}}",
        # of others' containers, none; of the collector's own, none either: each failure to send would be one more line
        f"{{type: filter, expr: 'not (attributes.tag startsWith \"{project}/\")'}}",
        f"{{type: filter, expr: 'attributes.tag startsWith \"{project}/collector/\"'}}",
        # which prints the key it was given
        f"{{type: filter, expr: 'attributes.tag startsWith \"{project}/first-call/\"'}}",
        # what runs in it, and what local environments call it
        """{type: add, field: 'attributes["log.file.name"]', """
        """value: 'EXPR(replace(attributes.tag, "mcp-gateway", "traefik"))'}""",
        r"""{type: add, field: body, value: 'EXPR(trimSuffix(attributes.docker.log, "\n"))'}""",
        "{type: time_parser, parse_from: attributes.docker.time, layout_type: gotime, "
        "layout: '2006-01-02T15:04:05.999999999Z07:00', on_error: send_quiet}",
        "{type: remove, field: attributes.docker}",
        "{type: remove, field: attributes.tag}",
    )
    return LogSource(
        files=(f"{FOLDER}/*/*-json.log*",),
        left_out=(),
        names=rf"^[^/]+/(?P<instance>(?:mcp-(?P<service>{services})|(?:mcp-)?(?P<process>[a-z-]+?)(?:-\d+)?)/[0-9a-f]+)$",
        unpacked=unpacked,
    )
