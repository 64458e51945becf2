"""Settings of the control plane's processes: from environment variables, read once, every problem reported at once."""

from __future__ import annotations

import secrets
import socket
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import BeforeValidator, Field, HttpUrl, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from control_plane.errors import Refused
from control_plane.model import Name

S = TypeVar("S", bound=BaseSettings)


def _split(text: object) -> object:
    return [part.strip() for part in text.split(",") if part.strip()] if isinstance(text, str) else text


def _none_if_empty(given: object) -> object:
    return None if given == "" else given


Port = Annotated[int, Field(ge=0, le=65535)]
Place = Annotated[Path | None, BeforeValidator(_none_if_empty)]
"""A file or a folder; empty for none, not for the folder that one is in."""
Urls = Annotated[tuple[HttpUrl, ...], NoDecode, BeforeValidator(_split)]
"""One address or several, separated by commas."""
Mtls = Literal["off", "on"]
"""Whether gate, services and control plane prove themselves to each other by certificates of Consul's CA."""
OtlpUrl = Annotated[str, Field(pattern=r"^(https?://[^\s/?#]+/?)?$")]
"""Where spans are sent, OTLP by gRPC; empty for no traces."""
Link = Annotated[str, Field(pattern=r"^(https?://[^\s\"<>]+)?$")]
"""An address on the web; empty for none."""
Level = Literal["debug", "info", "warning", "error"]
# sysexits.h EX_CONFIG: supervisors tell "will never start like this" from a crash by it.
EXIT_CONFIG = 78


class ControlPlaneSettings(BaseSettings):
    """``python -m control_plane``."""

    model_config = SettingsConfigDict(env_prefix="MCP_", frozen=True)

    env: Literal["development", "staging", "production"] = "development"
    log_level: Level = "info"
    log_level_file: Place = None
    host: str = "127.0.0.1"
    port: Port = 3010
    consul_url: str = "http://127.0.0.1:8500"
    consul_token_file: Place = None
    consul_ca_file: Place = None
    mtls: Mtls = "off"
    otlp_url: OtlpUrl = ""
    trace_sample: Annotated[float, Field(ge=0, le=1)] = 1.0
    operator_token_file: Path
    replica: Name = Field(default_factory=lambda: secrets.token_hex(3))
    advertise_url: Annotated[str, Field(pattern=r"^(https?://[^\s/?#]+(/[^\s?#]*)?)?$")] = ""
    session_ttl_s: Annotated[int, Field(ge=2, le=3600)] = 5
    # Empty: there is no source of metrics, and no rollout that needs a verdict.
    prometheus_url: str = ""
    prometheus_scrape_s: Annotated[float, Field(gt=0, le=300)] = 5
    # Every Prometheus that has to load operators' alert rules; none: the one above.
    rules_prometheus_urls: Urls = ()
    promtool: Place = None
    # Checks receivers before they are taken; none: none is taken.
    amtool: Place = None
    # Where the leader keeps a git repository with a commit for each revision; none: there is none.
    git_mirror: Place = None
    git_remote: str = ""
    alertmanager_url: Link = ""
    # Where the console leads on: as the operator's browser reaches them.
    grafana_url: Link = ""
    jaeger_url: Link = ""
    # `{service}` stands for the service.
    logs_url: Link = ""
    secrets_file: Place = None
    gate_internal_url: Urls = ()
    probe_every_s: Annotated[float, Field(gt=0, le=3600)] = 15.0
    probe_at_most: Annotated[int, Field(ge=1, le=1000)] = 8
    probe_timeout_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    api_key_encryption: bool = False
    api_key_encryption_key_file: Place = None
    # What two regions prove themselves to each other with; looked at when they do.
    region_secret_file: Place = None
    region_ca_file: Place = None

    @model_validator(mode="after")
    def _key_to_seal_with(self) -> Self:
        if self.api_key_encryption and not self.api_key_encryption_key_file:
            raise ValueError("MCP_API_KEY_ENCRYPTION needs MCP_API_KEY_ENCRYPTION_KEY_FILE, the keys to seal with")
        return self

    @model_validator(mode="after")
    def _both_or_neither(self) -> Self:
        if bool(self.gate_internal_url) != bool(self.secrets_file):
            raise ValueError("MCP_GATE_INTERNAL_URL and MCP_SECRETS_FILE are needed together, to call through a gate")
        return self

    @model_validator(mode="after")
    def _mirror_to_push(self) -> Self:
        if self.git_remote and not self.git_mirror:
            raise ValueError("MCP_GIT_REMOTE needs MCP_GIT_MIRROR, the folder of what is pushed there")
        return self

    @property
    def own_url(self) -> str:
        """Where the other replicas reach this one's API."""
        everywhere = self.host in ("0.0.0.0", "::", "")
        host = socket.gethostname() if everywhere else f"[{self.host}]" if ":" in self.host else self.host
        return self.advertise_url or f"http://{host}:{self.port}"

    @property
    def accept_new(self) -> bool:
        """Whether a service first seen gets traffic without an operator's word."""
        return self.env != "production"


class AgentSettings(BaseSettings):
    """``python -m control_plane.agent``."""

    model_config = SettingsConfigDict(env_prefix="MCP_", frozen=True)

    log_level: Level = "info"
    log_level_file: Place = None
    consul_url: str = "http://127.0.0.1:8500"
    consul_token_file: Place = None
    consul_ca_file: Place = None
    mtls: Mtls = "off"
    otlp_url: OtlpUrl = ""
    trace_sample: Annotated[float, Field(ge=0, le=1)] = 1.0
    gate_dir: Path
    gate_id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    gate_private_url: str
    session_ttl_s: Annotated[int, Field(ge=2, le=3600)] = 5
    # Without it, or with another's, keys that lie sealed in Consul are refused and named.
    api_key_encryption_key_file: Place = None


def load(kind: type[S]) -> S:
    """Read the settings of a process.

    Raises:
        Refused: One line per setting that is wrong or missing, with its variable's name.
    """
    try:
        return kind()
    except ValidationError as error:
        lines = [
            f"  MCP_{'_'.join(str(part) for part in problem['loc']).upper()}: {problem['msg']}"
            if problem["loc"]
            else f"  {problem['msg']}"
            for problem in error.errors(include_url=False)
        ]
        raise Refused("settings:\n" + "\n".join(lines)) from error


def read_token(path: Path) -> str:
    """The operator token from its file.

    Raises:
        Refused: The file is missing, unreadable or empty.
    """
    try:
        token = path.read_text().strip()
    except OSError as error:
        raise Refused(f"settings:\n  MCP_OPERATOR_TOKEN_FILE: {path} cannot be read: {error.strerror}") from error
    if not token:
        raise Refused(f"settings:\n  MCP_OPERATOR_TOKEN_FILE: {path} is empty")
    return token
