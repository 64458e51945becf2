"""Settings of ``python -m control_plane.oauth``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from control_plane.errors import Refused
from control_plane.oauth.issuers import Issuer, read_issuers
from control_plane.oauth.scopes import SERVICE
from control_plane.settings import Level, Port


def _canonical(url: str) -> str:
    parts = urlsplit(url)
    if (
        parts.scheme not in ("http", "https")
        or not parts.netloc
        or "@" in parts.netloc
        or parts.query
        or parts.fragment
    ):
        raise ValueError("a URL like https://mcp.example.com is needed")
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path.rstrip('/')}"


def _pattern(pattern: str) -> str:
    if pattern.count(SERVICE) != 1:
        raise ValueError(f"{SERVICE} has to stand in it once")
    return pattern


Seconds = Annotated[float, Field(gt=0, le=86_400)]


class OAuthSettings(BaseSettings):
    """What can be set; names in ``docs/contracts.md``."""

    model_config = SettingsConfigDict(env_prefix="MCP_", frozen=True)

    log_level: Level = "info"
    log_level_file: Path | None = None
    host: str = "127.0.0.1"
    port: Port
    gate_dir: Path
    public_url: Annotated[str, AfterValidator(_canonical)]
    oauth_issuers_file: Path
    oauth_scope: Annotated[str, Field(pattern=r"^[!#-\[\]-~]{1,100}$"), AfterValidator(_pattern)] = "mcp:{service}"
    oauth_cache_s: Annotated[float, Field(ge=0, le=60)] = 5
    oauth_keys_refresh_s: Seconds = 300
    oauth_keys_again_s: Seconds = 10
    oauth_keys_stale_s: Seconds = 3600
    oauth_timeout_s: Annotated[float, Field(gt=0, le=30)] = 3

    def issuers(self) -> dict[str, Issuer]:
        """The issuers of the file, by name.

        Raises:
            Refused: It is missing or makes no sense.
        """
        try:
            text = self.oauth_issuers_file.read_bytes()
        except OSError as error:
            problem = f"{self.oauth_issuers_file} cannot be read: {error.strerror}"
            raise Refused(f"settings:\n  MCP_OAUTH_ISSUERS_FILE: {problem}") from error
        return read_issuers(text, str(self.oauth_issuers_file))
