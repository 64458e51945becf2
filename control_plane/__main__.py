"""``python -m control_plane``: one replica of the control plane."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from contextlib import AsyncExitStack
from typing import cast

import httpx
from hypercorn.asyncio import serve
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework

from control_plane.api import create_app
from control_plane.api.forward import Forward, leader_client
from control_plane.consul import Consul
from control_plane.engine import Engine
from control_plane.errors import Refused
from control_plane.gateway import InternalGate, read_proof
from control_plane.leadership import Leadership
from control_plane.logs import log_as_json
from control_plane.loop import ControlPlane
from control_plane.probing import Pace
from control_plane.prometheus import Prometheus
from control_plane.sealed import RingFile, Sealing, read_ring
from control_plane.settings import EXIT_CONFIG, ControlPlaneSettings, load, read_token


async def run(settings: ControlPlaneSettings, token: str, proof: str) -> None:
    """Serve until SIGTERM or SIGINT, then give the leadership back and stop."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        consul = await stack.enter_async_context(Consul(settings.consul_url))
        http = await stack.enter_async_context(leader_client())
        gateway = await stack.enter_async_context(_gateway(settings, proof)) if proof else None
        leadership = Leadership(consul, settings.replica, url=settings.own_url, ttl_s=settings.session_ttl_s)
        pace = Pace(settings.probe_every_s, settings.probe_at_most)
        gate_http = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
        plane = ControlPlane(
            consul,
            consul,
            leadership,
            accept_new=settings.accept_new,
            gateway=gateway,
            pace=pace,
            sealing=Sealing(RingFile(settings.api_key_encryption_key_file), settings.api_key_encryption),
            gate_http=gate_http,
        )
        metrics = await stack.enter_async_context(_metrics(settings)) if settings.prometheus_url else None
        engine = Engine(plane, consul, gateway=gateway, metrics=metrics)
        app = cast("ASGIFramework", create_app(plane, engine, token, Forward(plane, http)))
        async with asyncio.TaskGroup() as tasks:
            work = [tasks.create_task(plane.run()), tasks.create_task(engine.run())]
            await serve(app, _config(settings), shutdown_trigger=stop.wait)
            for task in work:
                task.cancel()


def _gateway(settings: ControlPlaneSettings, proof: str) -> InternalGate:
    urls = [str(url) for url in settings.gate_internal_url]
    return InternalGate(urls, proof, timeout_s=settings.probe_timeout_s)


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
        if settings.api_key_encryption_key_file:
            read_ring(settings.api_key_encryption_key_file)
    except Refused as error:
        sys.stderr.write(f"control plane: {error}\n")
        sys.exit(EXIT_CONFIG)
    log_as_json(settings.log_level, service="control-plane", instance=settings.replica)
    asyncio.run(run(settings, token, proof))


if __name__ == "__main__":
    main()
