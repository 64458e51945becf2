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
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, ValidationError, field_validator

from .backup_settings import BackupSettings
from .errors import BadSettings
from .layout import SETTINGS_FILE, Layout
from .observability_settings import EXTRAS, ObservabilitySettings, Port

SERVICES = ("browser", "filesystem", "search", "hub")
CONTROL_PLANE = "control-plane"
"""Name of the control plane's first replica, and of the group of all."""
ALL = "observability"
"""Stands for all extras."""
_PREFIXES = tuple(f"MCP_{service.upper()}_" for service in SERVICES)
_KIT = ("MCP_TOOL_DEADLINE_S", "MCP_RELOAD")
_SECRET_WORDS = ("KEY", "TOKEN", "SECRET", "PASSWORD")

NAMES = r"^[A-Za-z0-9.:/\[\], -]*$"
"""Hosts and origins; nothing that YAML or Traefik's templates would read as more than that."""
Count = Annotated[int, Field(ge=0, le=10_000_000)]
Seconds = Annotated[float, Field(gt=0, le=3600)]


class Settings(ObservabilitySettings, BackupSettings):
    """What can be set. Ports: 0 takes a free one and keeps it for this environment."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    env: Literal["development", "staging", "production"] = Field(
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
    operators_port: Port = Field(
        3008, alias="MCP_OPERATORS_PORT", description="gate, operators' API and console by TLS; without TLS unused"
    )
    control_plane_port: Port = Field(3010, alias="MCP_CONTROL_PLANE_PORT", description="operators' API")
    consul_port: Port = Field(8500, alias="MCP_CONSUL_PORT", description="Consul's HTTP API")
    control_plane_replicas: Annotated[int, Field(ge=1, le=9)] = Field(
        1, alias="MCP_CONTROL_PLANE_REPLICAS", description="how many control planes; one of them leads"
    )
    gate_allowed_hosts: Annotated[str, Field(pattern=NAMES)] = Field(
        "",
        alias="MCP_GATE_ALLOWED_HOSTS",
        description="names clients may call the gate by, comma-separated; empty: any",
    )
    gate_allowed_origins: Annotated[str, Field(pattern=NAMES)] = Field(
        "",
        alias="MCP_GATE_ALLOWED_ORIGINS",
        description="whose pages may call it, comma-separated; empty: this machine's",
    )
    gate_policy_max_age_s: Annotated[int, Field(ge=0, le=86_400)] = Field(
        0,
        alias="MCP_GATE_POLICY_MAX_AGE_S",
        description="a gate whose policy nobody confirmed for so long refuses; 0: never",
    )
    also: str = Field(
        "",
        alias="MCP_WITH",
        description=f"what to run besides, comma-separated: {', '.join(EXTRAS)}; or observability for all of these",
    )
    oauth_issuers_file: str = Field(
        "", alias="MCP_OAUTH_ISSUERS_FILE", description="authorization servers whose bearers count; empty: keys only"
    )
    oauth_scope: str = Field("mcp:{service}", alias="MCP_OAUTH_SCOPE", description="the form of our OAuth scopes")
    public_url: str = Field(
        "", alias="MCP_PUBLIC_URL", description="where clients reach the gate; empty: as this machine does"
    )
    drain_quiet_s: Seconds = Field(
        0.5, alias="MCP_DRAIN_QUIET_S", description="a stopping instance serves on until so long without a call"
    )
    drain_deadline_s: Seconds = Field(
        10.0, alias="MCP_DRAIN_DEADLINE_S", description="the most a stopping instance waits for its calls"
    )
    restart_failing_s: Annotated[float, Field(ge=0, le=86_400)] = Field(
        60.0,
        alias="MCP_RESTART_FAILING_S",
        description="an instance that lives and fails for so long is restarted; 0: never",
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

    tls: Literal["off", "local", "files"] = Field(
        "off", alias="MCP_TLS", description="https for clients: off, local (a CA made here), files (yours)"
    )
    tls_cert_file: str = Field("", alias="MCP_TLS_CERT_FILE", description="certificate and its chain, PEM; for files")
    tls_key_file: str = Field("", alias="MCP_TLS_KEY_FILE", description="its private key, PEM; for files")
    tls_ca_file: str = Field(
        "", alias="MCP_TLS_CA_FILE", description="what clients trust; for files of no public authority"
    )
    tls_hsts_s: Annotated[int, Field(ge=0)] = Field(
        31_536_000, alias="MCP_TLS_HSTS_S", description="how long browsers insist on https; for files, 0 = not at all"
    )
    tls_http3: bool = Field(False, alias="MCP_TLS_HTTP3", description="HTTP/3 too, on the same port over UDP")
    gate_address_rate: Count = Field(
        0, alias="MCP_GATE_ADDRESS_RATE", description="calls a second from one address; 0 = no ceiling"
    )
    gate_address_burst: Count = Field(
        0, alias="MCP_GATE_ADDRESS_BURST", description="calls at once above that; at least the rate"
    )
    gate_address_connections: Count = Field(
        0, alias="MCP_GATE_ADDRESS_CONNECTIONS", description="calls and streams open from one address; 0 = no ceiling"
    )
    gate_body_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = Field(
        8 << 20, alias="MCP_GATE_BODY_BYTES", description="a longer body is not even taken in; services read 4 MiB"
    )
    gate_read_timeout_s: Seconds = Field(
        60.0, alias="MCP_GATE_READ_TIMEOUT_S", description="a call has to be sent within so long, body included"
    )
    gate_trusted_proxies: str = Field(
        "", alias="MCP_GATE_TRUSTED_PROXIES", description="addresses whose X-Forwarded-For is believed, comma-separated"
    )

    gate_proxy_hops: Annotated[int, Field(ge=1, le=9)] = Field(
        1, alias="MCP_GATE_PROXY_HOPS", description="how many of them a call passes; the caller is that far back"
    )
    api_key_encryption: bool = Field(
        False, alias="MCP_API_KEY_ENCRYPTION", description="whether hashes of API keys lie sealed in Consul"
    )
    api_key_encryption_key_file: str = Field(
        "", alias="MCP_API_KEY_ENCRYPTION_KEY_FILE", description="what seals them, 0600; empty: made in .tekup"
    )
    region_secret_file: str = Field(
        "",
        alias="MCP_REGION_SECRET_FILE",
        description="what two regions share, 0600; empty: .tekup/secrets/region.secret",
    )
    region_ca_file: str = Field(
        "", alias="MCP_REGION_CA_FILE", description="whom to trust for the other region's certificate; empty: as here"
    )

    git_mirror: str = Field(
        "", alias="MCP_GIT_MIRROR", description="folder for git repositories of all revisions; empty: none"
    )
    git_remote: str = Field("", alias="MCP_GIT_REMOTE", description="where they are pushed to; empty: nowhere")

    @field_validator("also")
    @classmethod
    def _known(cls, also: str) -> str:
        unknown = sorted(set(listed(also)) - {*EXTRAS, ALL})
        if unknown:
            raise ValueError(f"there is no {', '.join(unknown)} to run besides, only {', '.join(EXTRAS)} and {ALL}")
        return also

    def problems(self) -> list[str]:
        """What an environment of this kind cannot be, though each setting is right by itself."""
        if self.env == "development":
            return []
        return [f"MCP_ENV = {self.env!r}: local processes are for development; compose/docker-compose.*.yml has others"]

    @property
    def extras(self) -> tuple[str, ...]:
        """What is asked for besides, each a program of that name."""
        asked = listed(self.also)
        return tuple(name for name in EXTRAS if name in asked or ALL in asked)


def listed(text: str) -> list[str]:
    """What is listed with commas between."""
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
        return [(name, _shown(name, _text(value)), self.origins[name]) for name, value in values.items()]

    def for_service(self, service: str) -> dict[str, str]:
        """The handed-on variables that one service gets."""
        prefix = f"MCP_{service.upper()}_"
        return {name: value for name, value in self.handed_on.items() if name.startswith(prefix) or name in _KIT}


def _shown(name: str, value: str) -> str:
    if value in ("true", "false"):
        return value  # a switch about secrets is none
    secret = any(word in name.split("_") for word in _SECRET_WORDS) and not name.endswith("_FILE")
    return "(hidden)" if value and secret else value


def load(layout: Layout, environ: Mapping[str, str] | None = None, kind: type[Settings] = Settings) -> Effective:
    """Read the settings of an environment.

    Args:
        layout: which environment.
        environ: the environment variables; by default this process's.
        kind: what can be set in an environment of its kind.

    Returns:
        The effective settings.

    Raises:
        BadSettings: with every problem there is.
    """
    environ = os.environ if environ is None else environ
    known = {str(field.alias) for field in kind.model_fields.values()}
    names = {name: str(field.alias) for name, field in kind.model_fields.items()}
    from_file = {names.get(name, name): value for name, value in _read_file(layout.settings).items()}
    from_environment = {name: value for name, value in environ.items() if value and (name in known or _handed(name))}
    merged: dict[str, object] = {**from_file, **from_environment}
    origins = dict.fromkeys(known, Origin.DEFAULT)
    origins.update(dict.fromkeys(from_file, Origin.FILE))
    origins.update(dict.fromkeys(from_environment, Origin.ENVIRONMENT))
    own = {name: value for name, value in merged.items() if name in known or not _handed(name)}
    problems: list[str] = []
    settings = _validated(kind, own, origins, problems)
    handed_on = {name: _text(value) for name, value in merged.items() if name not in own}
    problems += settings.problems() if settings else []
    problems += _clashes(settings) if settings else []
    problems += _missing_folders(settings, origins) if settings else []
    problems += _missing_files(settings, origins) if settings else []
    problems += _edge_problems(settings) if settings else []
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


def _validated(
    kind: type[Settings], values: dict[str, object], origins: Mapping[str, Origin], problems: list[str]
) -> Settings | None:
    try:
        return kind.model_validate(values)
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
    unused |= {"MCP_OPERATORS_PORT"} if settings.tls == "off" else set()
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


def _edge_problems(settings: Settings) -> list[str]:
    problems = []
    for name, value in (("MCP_TLS_CERT_FILE", settings.tls_cert_file), ("MCP_TLS_KEY_FILE", settings.tls_key_file)):
        if settings.tls == "files" and not value:
            problems.append(f"{name} is missing: MCP_TLS = files takes the certificate from there")
        elif settings.tls != "files" and value:
            problems.append(f"{name} is set, and MCP_TLS is {settings.tls}: set it to files, or leave out the file")
    for proxy in listed(settings.gate_trusted_proxies):
        try:
            ip_network(proxy)
        except ValueError as error:
            problems.append(f"MCP_GATE_TRUSTED_PROXIES: {error}")
    return problems


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


def _missing_files(settings: Settings, origins: Mapping[str, Origin]) -> list[str]:
    name, path = "MCP_OAUTH_ISSUERS_FILE", settings.oauth_issuers_file
    if not path or (Path(path).is_absolute() and Path(path).is_file()):
        return []
    return [f"{name} (from {origins[name]}): {path} is not an existing file with an absolute path"]
