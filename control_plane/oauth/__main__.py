"""``python -m control_plane.oauth``: the judge of foreign bearers beside one gate."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from typing import cast

from hypercorn.asyncio import serve
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework

from control_plane.errors import Refused
from control_plane.oauth.answers import Told
from control_plane.oauth.app import create_app
from control_plane.oauth.guard import Guard, Trusted
from control_plane.oauth.issuers import Issuer
from control_plane.oauth.keys import KeyRing, Pace, issuers_client
from control_plane.oauth.scopes import Resources, Scopes
from control_plane.oauth.settings import OAuthSettings
from control_plane.oauth.tables import Tables
from control_plane.settings import EXIT_CONFIG, load
from observability.telemetry.about import platform_version
from observability.telemetry.logs import configure_logging

# Longer than Traefik keeps idle connections, or it uses one that was just closed here.
KEEP_ALIVE_S = 120
NEVER = 2**31


async def run(settings: OAuthSettings, issuers: dict[str, Issuer]) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    pace = Pace(
        settings.oauth_keys_refresh_s,
        settings.oauth_keys_again_s,
        settings.oauth_keys_stale_s,
        settings.oauth_timeout_s,
    )
    resources, scopes, tables = Resources(settings.public_url), Scopes(settings.oauth_scope), Tables(settings.gate_dir)
    async with issuers_client() as http:
        trusted = {
            name: Trusted(issuer, KeyRing(issuer, http, pace, time.monotonic)) for name, issuer in issuers.items()
        }
        guard = Guard(trusted, tables, resources, scopes, now=time.time, cache_s=settings.oauth_cache_s)
        app = create_app(guard, Told(resources, scopes, tuple(issuers)), tables, trusted)
        async with asyncio.TaskGroup() as tasks:
            work = [tasks.create_task(one.keys.run()) for one in trusted.values()]
            await serve(cast("ASGIFramework", app), _config(settings), shutdown_trigger=stop.wait)
            for task in work:
                task.cancel()


def _config(settings: OAuthSettings) -> Config:
    config = Config()
    config.bind = [f"{settings.host}:{settings.port}"]
    config.include_server_header = False
    config.graceful_timeout = 2
    config.keep_alive_timeout = KEEP_ALIVE_S
    config.keep_alive_max_requests = NEVER
    config.errorlog = logging.getLogger("hypercorn")
    return config


def main() -> None:
    """Read the settings and run."""
    try:
        settings = load(OAuthSettings)
        issuers = settings.issuers()
    except Refused as error:
        sys.stderr.write(f"oauth: {error}\n")
        sys.exit(EXIT_CONFIG)
    about = {"service": "oauth", "version": platform_version()}
    configure_logging(settings.log_level, about, settings.log_level_file)
    asyncio.run(run(settings, issuers))


if __name__ == "__main__":
    main()
