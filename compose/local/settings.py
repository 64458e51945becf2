"""The local environment's settings: read once, frozen, every problem reported at once.

Three places, the first that has a value wins: environment variable, `tekup.toml` in the environment's
directory, default. A name is the same in all of them. `MCP_<SERVICE>_…` names this module does not know
are the service's own and are handed on to its instances.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from .errors import BadSettings
from .layout import SETTINGS_FILE, Layout

SERVICES = ("browser", "filesystem", "search", "hub")
CONTROL_PLANE = "control-plane"
"""Name of the control plane's first replica, and of the group of all."""
EXTRAS = ("prometheus",)
"""What runs only when asked for."""
_PREFIXES = tuple(f"MCP_{service.upper()}_" for service in SERVICES)
_KIT = ("MCP_TOOL_DEADLINE_S", "MCP_RELOAD")
_SECRET_WORDS = ("KEY", "TOKEN", "SECRET", "PASSWORD")

Port = Annotated[int, Field(ge=0, le=65535)]
Seconds = Annotated[float, Field(gt=0, le=3600)]


class Settings(BaseModel):
    """What can be set. Ports: 0 takes a free one and keeps it for this environment."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    env: Literal["development"] = Field(
        "development", alias="MCP_ENV", description="kind of environment; local processes are for development"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", alias="MCP_LOG_LEVEL", description="how much the platform's processes log"
    )
    mtls: Literal["off", "on"] = Field(
        "off", alias="MCP_MTLS", description="gate, services and control plane prove themselves by certificates"
    )
    gateway_port: Port = Field(3000, alias="MCP_GATEWAY_PORT", description="where MCP clients connect")
    browser_port: Port = Field(3001, alias="MCP_BROWSER_PORT", description="first browser instance")
    filesystem_port: Port = Field(3002, alias="MCP_FILESYSTEM_PORT", description="first filesystem instance")
    search_port: Port = Field(3003, alias="MCP_SEARCH_PORT", description="first search instance")
    hub_port: Port = Field(3004, alias="MCP_HUB_PORT", description="first hub instance")
    internal_port: Port = Field(3005, alias="MCP_INTERNAL_PORT", description="gate, for hub and control plane")
    private_port: Port = Field(3006, alias="MCP_PRIVATE_PORT", description="gate, its state and metrics")
    control_plane_port: Port = Field(3010, alias="MCP_CONTROL_PLANE_PORT", description="operators' API")
    consul_port: Port = Field(8500, alias="MCP_CONSUL_PORT", description="Consul's HTTP API")
    control_plane_replicas: Annotated[int, Field(ge=1, le=9)] = Field(
        1, alias="MCP_CONTROL_PLANE_REPLICAS", description="how many control planes; one of them leads"
    )
    prometheus_port: Port = Field(9090, alias="MCP_PROMETHEUS_PORT", description="Prometheus, where it is asked for")
    also: str = Field("", alias="MCP_WITH", description="what to run besides, comma-separated: prometheus")
    drain_quiet_s: Seconds = Field(
        0.5, alias="MCP_DRAIN_QUIET_S", description="a stopping instance serves on until so long without a call"
    )
    drain_deadline_s: Seconds = Field(
        10.0, alias="MCP_DRAIN_DEADLINE_S", description="the most a stopping instance waits for its calls"
    )
    browser_executable: str = Field(
        "", alias="MCP_BROWSER_EXECUTABLE", description="the browser to drive; empty: found or installed"
    )
    browser_allow_hosts: str = Field(
        "", alias="MCP_BROWSER_ALLOW_HOSTS", description="private hosts pages may be opened from, comma-separated"
    )
    filesystem_roots: str = Field(
        "", alias="MCP_FILESYSTEM_ROOTS", description="folders for filesystem besides .tekup/workspace, `:`-separated"
    )
    search_roots: str = Field(
        "", alias="MCP_SEARCH_ROOTS", description="folders for search besides .tekup/workspace, `:`-separated"
    )

    @field_validator("also")
    @classmethod
    def _known(cls, also: str) -> str:
        unknown = sorted(set(_names(also)) - set(EXTRAS))
        if unknown:
            raise ValueError(f"there is no {', '.join(unknown)} to run besides, only {', '.join(EXTRAS)}")
        return also

    @property
    def extras(self) -> tuple[str, ...]:
        """What is asked for besides, each a program of that name."""
        return tuple(name for name in EXTRAS if name in _names(self.also))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


class Origin(StrEnum):
    """Where an effective value came from."""

    ENVIRONMENT = "environment"
    FILE = SETTINGS_FILE
    DEFAULT = "default"


@dataclass(frozen=True)
class Effective:
    """The settings in force, what is handed on to services, and where each came from."""

    settings: Settings
    handed_on: Mapping[str, str]
    origins: Mapping[str, Origin]

    def rows(self) -> list[tuple[str, str, Origin]]:
        """Name, value and origin of each setting, secrets hidden, for `tekup config show`."""
        values = {**self.settings.model_dump(mode="json", by_alias=True), **self.handed_on}
        return [(name, _shown(name, str(value)), self.origins[name]) for name, value in values.items()]

    def for_service(self, service: str) -> dict[str, str]:
        """The handed-on variables that one service gets."""
        prefix = f"MCP_{service.upper()}_"
        return {name: value for name, value in self.handed_on.items() if name.startswith(prefix) or name in _KIT}


def _shown(name: str, value: str) -> str:
    return "(hidden)" if value and any(word in name.split("_") for word in _SECRET_WORDS) else value


def load(layout: Layout, environ: Mapping[str, str] | None = None) -> Effective:
    """Read the settings of an environment.

    Args:
        layout: which environment.
        environ: the environment variables; by default this process's.

    Returns:
        The effective settings.

    Raises:
        BadSettings: with every problem there is.
    """
    environ = os.environ if environ is None else environ
    known = {str(field.alias) for field in Settings.model_fields.values()}
    names = {name: str(field.alias) for name, field in Settings.model_fields.items()}
    from_file = {names.get(name, name): value for name, value in _read_file(layout.settings).items()}
    from_environment = {name: value for name, value in environ.items() if value and (name in known or _handed(name))}
    merged: dict[str, object] = {**from_file, **from_environment}
    origins = dict.fromkeys(known, Origin.DEFAULT)
    origins.update(dict.fromkeys(from_file, Origin.FILE))
    origins.update(dict.fromkeys(from_environment, Origin.ENVIRONMENT))
    own = {name: value for name, value in merged.items() if name in known or not _handed(name)}
    problems: list[str] = []
    settings = _validated(own, origins, problems)
    handed_on = {name: _text(value) for name, value in merged.items() if name not in own}
    problems += _clashes(settings) if settings else []
    problems += _missing_folders(settings, origins) if settings else []
    if settings is None or problems:
        raise BadSettings("The settings have problems:\n" + "\n".join(f"  {problem}" for problem in problems))
    return Effective(settings, handed_on, origins)


def _handed(name: str) -> bool:
    return name.startswith(_PREFIXES) or name in _KIT


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _read_file(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BadSettings(f"{path} cannot be read: {error}") from error


def _validated(values: dict[str, object], origins: Mapping[str, Origin], problems: list[str]) -> Settings | None:
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        for detail in error.errors():
            name = str(detail["loc"][0])
            if detail["type"] == "extra_forbidden":
                problems.append(f"{name} (from {origins[name]}): there is no such setting; see `tekup config show`")
            else:
                value = _shown(name, str(detail["input"]))
                problems.append(f"{name} = {value!r} (from {origins[name]}): {detail['msg']}")
        return None


def named_ports(settings: Settings) -> dict[str, int]:
    """All ports that are settings and in use, by the variable that sets them."""
    values: dict[str, object] = settings.model_dump(by_alias=True)
    unused = {f"MCP_{name.upper()}_PORT" for name in EXTRAS if name not in settings.extras}
    return {
        name: value
        for name, value in values.items()
        if name.endswith("_PORT") and name not in unused and isinstance(value, int)
    }


def replica_ports(settings: Settings) -> dict[str, str]:
    """The replicas of the control plane in order, each with the name of its port; the first has the setting's."""
    further = (f"{CONTROL_PLANE}-{number}" for number in range(2, settings.control_plane_replicas + 1))
    return {CONTROL_PLANE: "MCP_CONTROL_PLANE_PORT", **{name: name for name in further}}


def _clashes(settings: Settings) -> list[str]:
    by_port: dict[int, list[str]] = {}
    for name, port in named_ports(settings).items():
        if port:
            by_port.setdefault(port, []).append(name)
    return [f"{' and '.join(names)} are all {port}; give each its own, or 0 for a free one"
            for port, names in by_port.items() if len(names) > 1]  # fmt: skip


def _missing_folders(settings: Settings, origins: Mapping[str, Origin]) -> list[str]:
    problems = []
    for name, value in (
        ("MCP_FILESYSTEM_ROOTS", settings.filesystem_roots),
        ("MCP_SEARCH_ROOTS", settings.search_roots),
    ):
        for folder in filter(None, value.split(":")):
            if not Path(folder).is_absolute() or not Path(folder).is_dir():
                problems.append(
                    f"{name} (from {origins[name]}): {folder} is not an existing folder with an absolute path"
                )
    return problems
