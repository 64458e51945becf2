"""The settings that a running environment was started with, as far as they can be told from outside."""

from __future__ import annotations

import os
from collections.abc import Mapping

from .layout import Layout
from .settings import Effective, Origin, load
from .status import Status


def running_settings(layout: Layout, status: Status, given: Mapping[str, str] | None = None) -> Effective:
    """Settings that know that the environment was started with `--tls`, if nothing else is said of it.

    Args:
        layout: the environment.
        status: what runs there.
        given: settings that go before those of environment and file, by variable.
    """
    environ = {**os.environ, **(given or {})}
    effective = load(layout, environ)
    encrypted = any(process.name == "traefik" and process.url.startswith("https:") for process in status.processes)
    unsaid = effective.origins["MCP_TLS"] is Origin.DEFAULT
    return load(layout, {**environ, "MCP_TLS": "local"}) if encrypted and unsaid else effective
