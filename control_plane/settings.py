"""Settings of the control plane's processes: from environment variables, read once, every problem reported at once."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from control_plane.errors import Refused

S = TypeVar("S", bound=BaseSettings)
Port = Annotated[int, Field(ge=0, le=65535)]
Level = Literal["debug", "info", "warning", "error"]
# sysexits.h EX_CONFIG: supervisors tell "will never start like this" from a crash by it.
EXIT_CONFIG = 78


class ControlPlaneSettings(BaseSettings):
    """``python -m control_plane``."""

    model_config = SettingsConfigDict(env_prefix="MCP_", frozen=True)

    env: Literal["development", "staging", "production"] = "development"
    log_level: Level = "info"
    host: str = "127.0.0.1"
    port: Port = 3010
    consul_url: str = "http://127.0.0.1:8500"
    operator_token_file: Path
    replica: str = Field(default_factory=lambda: secrets.token_hex(3))
    session_ttl_s: Annotated[int, Field(ge=2, le=3600)] = 5
    # Empty: there is no source of metrics, and no rollout that needs a verdict.
    prometheus_url: str = ""
    prometheus_scrape_s: Annotated[float, Field(gt=0, le=300)] = 5

    @property
    def accept_new(self) -> bool:
        """Whether a service first seen gets traffic without an operator's word."""
        return self.env != "production"


class AgentSettings(BaseSettings):
    """``python -m control_plane.agent``."""

    model_config = SettingsConfigDict(env_prefix="MCP_", frozen=True)

    log_level: Level = "info"
    consul_url: str = "http://127.0.0.1:8500"
    gate_dir: Path
    gate_id: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")]
    gate_private_url: str
    session_ttl_s: Annotated[int, Field(ge=2, le=3600)] = 5


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
