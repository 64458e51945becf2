"""Settings of the browser service."""

import os
import shutil
from pathlib import Path
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field
from pydantic_settings import SettingsConfigDict

from services.common import Folders, ServiceSettings, Words
from services.common.addresses import HostRule
from services.common.paths import Roots

__all__ = ["GROUPS", "BrowserSettings"]

GROUPS: Final = ("vision", "pdf", "network", "storage")
_NAMES = ("chromium", "chromium-browser", "google-chrome")


def _found_chromium() -> Path:
    return next((Path(found) for name in _NAMES if (found := shutil.which(name))), Path("chromium"))


def _runnable(program: Path) -> Path:
    if not os.access(program, os.X_OK):
        raise ValueError(f"{program} cannot be run; install Chromium (apt-get install chromium) or name the binary")
    return program


def _readable(hosts: Words) -> Words:
    for host in hosts:
        HostRule.of(host)
    return hosts


def _there(folders: Folders) -> Folders:
    Roots.of(folders)
    return folders


def _known(groups: Words) -> Words:
    unknown = sorted(set(groups) - {*GROUPS, "all"})
    if unknown:
        raise ValueError(f"there is no group {unknown[0]!r}; groups are {', '.join(GROUPS)}, or all")
    return GROUPS if "all" in groups else groups


def _proxy(url: str) -> str:
    parts = urlsplit(url)
    if url and (parts.scheme != "http" or not parts.hostname or not parts.port or parts.path not in ("", "/")):
        raise ValueError(f"{url!r} is not http://host:port")
    return url


class BrowserSettings(ServiceSettings):
    """`MCP_BROWSER_…`, `MCP_ENABLE_SANDBOX` and `MCP_EGRESS_URL`."""

    model_config = SettingsConfigDict(env_prefix="MCP_BROWSER_", validate_default=True, populate_by_name=True)

    executable: Annotated[Path, AfterValidator(_runnable)] = Field(default_factory=_found_chromium)
    allow_hosts: Annotated[Words, AfterValidator(_readable)] = ()
    groups: Annotated[Words, AfterValidator(_known)] = ()
    allow_code: bool = False
    robots: bool = True
    roots: Annotated[Folders, AfterValidator(_there)] = ()
    user: str = "nobody"
    enable_sandbox: bool = Field(default=True, validation_alias="MCP_ENABLE_SANDBOX")
    egress_url: Annotated[str, AfterValidator(_proxy)] = Field(default="", validation_alias="MCP_EGRESS_URL")
    pages: int = Field(default=50, ge=1)
    pages_per_client: int = Field(default=10, ge=1)
    idle_s: float = Field(default=600.0, gt=0)
    total_s: float = Field(default=4 * 3600.0, gt=0)
    call_s: float = Field(default=30.0, gt=0)
    navigation_s: float = Field(default=15.0, gt=0)
    answer_chars: int = Field(default=64 << 10, ge=1024)
    response_bytes: int = Field(default=128 << 20, ge=1 << 20)

    @property
    def egress(self) -> tuple[str, int] | None:
        """Host and port of the egress process, None without one."""
        parts = urlsplit(self.egress_url)
        return (parts.hostname, parts.port) if parts.hostname and parts.port else None
