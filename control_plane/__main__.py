"""``python -m control_plane``: one replica of the control plane."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from contextlib import AsyncExitStack
from typing import cast

from hypercorn.asyncio import serve
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework

from control_plane.api import create_app
from control_plane.api.forward import Forward, leader_client
from control_plane.authority import Authority
from control_plane.config_entries import ConfigEntries
from control_plane.consul import Consul
from control_plane.engine import Engine
from control_plane.errors import Refused
from control_plane.gateway import InternalGate, read_proof
from control_plane.intentions import Intentions
from control_plane.leadership import Leadership
from control_plane.logs import log_as_json
from control_plane.loop import ControlPlane
from control_plane.mutual import mutual_tls
from control_plane.peers import CONTROL_PLANE, GATE
from control_plane.probing import Pace
from control_plane.prometheus import Prometheus
from control_plane.settings import EXIT_CONFIG, ControlPlaneSettings, load, read_token


async def run(settings: ControlPlaneSettings, token: str, proof: str) -> None:
    """Serve until SIGTERM or SIGINT, then give the leadership back and stop."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        consul = await stack.enter_async_context(Consul(settings.consul_url))
        http = await stack.enter_async_context(leader_client())
        authority = await _authority(settings, stack)
        gateway = await stack.enter_async_context(_gateway(settings, proof, authority)) if proof else None
        leadership = Leadership(consul, settings.replica, url=settings.own_url, ttl_s=settings.session_ttl_s)
        pace = Pace(settings.probe_every_s, settings.probe_at_most)
        plane = ControlPlane(consul, consul, leadership, accept_new=settings.accept_new, gateway=gateway, pace=pace)
        metrics = await stack.enter_async_context(_metrics(settings)) if settings.prometheus_url else None
        engine = Engine(plane, consul, gateway=gateway, metrics=metrics)
        app = cast("ASGIFramework", create_app(plane, engine, token, Forward(plane, http)))
        async with asyncio.TaskGroup() as tasks:
            work = [tasks.create_task(plane.run()), tasks.create_task(engine.run())]
            if authority:
                entries = await stack.enter_async_context(_entries(settings))
                intentions = Intentions(
                    entries, leadership, plane.registry, plane.service_names, accept_new=settings.accept_new
                )
                work += [tasks.create_task(authority.run()), tasks.create_task(intentions.run())]
            await serve(app, _config(settings), shutdown_trigger=stop.wait)
            for task in work:
                task.cancel()


async def _authority(settings: ControlPlaneSettings, stack: AsyncExitStack) -> Authority | None:
    if settings.mtls == "off":
        return None
    return await stack.enter_async_context(Authority(settings.consul_url, CONTROL_PLANE, settings.consul_token_file))


def _entries(settings: ControlPlaneSettings) -> ConfigEntries:
    return ConfigEntries(settings.consul_url, settings.consul_token_file)


def _gateway(settings: ControlPlaneSettings, proof: str, authority: Authority | None) -> InternalGate:
    urls = [str(url) for url in settings.gate_internal_url]
    tls = mutual_tls(authority, GATE) if authority else None
    return InternalGate(urls, proof, timeout_s=settings.probe_timeout_s, tls=tls)


def _metrics(settings: ControlPlaneSettings) -> Prometheus:
    return Prometheus(settings.prometheus_url, scrape_s=settings.prometheus_scrape_s)


def _config(settings: ControlPlaneSettings) -> Config:
    config = Config()
    config.bind = [f"{settings.host}:{settings.port}"]
    config.include_server_header = False
    config.graceful_timeout = 2
    config.errorlog = logging.getLogger("hypercorn")
    return config


def main() -> None:
    """Read the settings and run."""
    try:
        settings = load(ControlPlaneSettings)
        token = read_token(settings.operator_token_file)
        proof = read_proof(settings.secrets_file) if settings.secrets_file else ""
    except Refused as error:
        sys.stderr.write(f"control plane: {error}\n")
        sys.exit(EXIT_CONFIG)
    log_as_json(settings.log_level, service="control-plane", instance=settings.replica)
    asyncio.run(run(settings, token, proof))


if __name__ == "__main__":
    main()
