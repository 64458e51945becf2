"""``python -m control_plane``: one replica of the control plane."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import cast

import httpx
from hypercorn.asyncio import serve
from hypercorn.config import Config
from hypercorn.typing import ASGIFramework

from control_plane.alertmanager import Alertmanager
from control_plane.api import create_app
from control_plane.api.events import Events
from control_plane.api.forward import Forward, leader_client
from control_plane.authority import Authority
from control_plane.config_entries import ConfigEntries
from control_plane.console import create_console
from control_plane.console.alerts import Alerts
from control_plane.console.ended import Ended
from control_plane.console.links import Links
from control_plane.console.trail import Trail
from control_plane.consul import Consul
from control_plane.deployer import Deployer
from control_plane.engine import Engine
from control_plane.errors import Refused
from control_plane.fixed import fixed_instances
from control_plane.gateway import InternalGate, ProofFile
from control_plane.intentions import Intentions
from control_plane.leadership import Leadership
from control_plane.loop import ControlPlane
from control_plane.mirror import Mirror, Place
from control_plane.model import Instance
from control_plane.mutual import mutual_tls
from control_plane.neighbour import Neighbour
from control_plane.peers import CONTROL_PLANE, GATE
from control_plane.probing import Pace
from control_plane.prometheus import Prometheus
from control_plane.receiving import Amtool
from control_plane.repository import Repository
from control_plane.rules import Promtool, Sources
from control_plane.sealed import RingFile, Sealing, read_ring
from control_plane.settings import EXIT_CONFIG, ControlPlaneSettings, load, read_token
from control_plane.tokens import TokenFile
from observability.telemetry.about import platform_version
from observability.telemetry.logs import configure_logging
from observability.telemetry.traces import Origin, traced


@dataclass(frozen=True)
class Secrets:
    """What a replica proves itself with.

    Attributes:
        operator: The token operators show us.
        consul: The one we show Consul, where it asks for one.
        proof: What proves us to gates, where we call through one.
    """

    operator: str = field(repr=False)
    consul: TokenFile | None
    proof: ProofFile | None


async def run(settings: ControlPlaneSettings, secrets: Secrets, fixed: tuple[Instance, ...]) -> None:
    """Serve until SIGTERM or SIGINT, then give the leadership back and stop."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        consul = await stack.enter_async_context(
            Consul(settings.consul_url, token=secrets.consul, ca_file=settings.consul_ca_file)
        )
        http = await stack.enter_async_context(leader_client())
        authority = await _authority(settings, secrets, stack)
        gateway = (
            await stack.enter_async_context(_gateway(settings, secrets.proof, authority)) if secrets.proof else None
        )
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
            fixed=fixed,
            alertmanager=Alertmanager(settings.alertmanager_url),
        )
        plane.regions.neighbour = Neighbour(settings.region_secret_file, settings.region_ca_file)
        plane.metrics.watch_secret("consul_token", lambda: consul.token_accepted_s)
        plane.metrics.watch_registrations(consul.refused_registrations)
        if secrets.proof:
            plane.metrics.watch_secret("keys", secrets.proof.written_s)
        metrics = await stack.enter_async_context(_metrics(settings)) if settings.prometheus_url else None
        plane.rules.asks(_rule_sources(settings, metrics))
        plane.receivers.amtool = Amtool(settings.amtool) if settings.amtool else None
        plane.receivers.url = settings.alertmanager_url
        engine = Engine(plane, consul, gateway=gateway, metrics=metrics)
        events, trail, ended = Events(plane, consul), Trail(consul), Ended(consul)
        api = create_app(plane, engine, secrets.operator, Forward(plane, http), events)
        console = create_console(
            api,
            events,
            trail,
            secret=secrets.operator,
            known=plane.operators.of,
            replica=settings.replica,
            alerts=Alerts(gate_http, settings.alertmanager_url, settings.prometheus_url),
            ended=ended,
            asked=plane.once.answered,
            links=Links.of(settings.grafana_url, settings.jaeger_url, settings.logs_url),
        )
        api.mount("/console", console)
        app = cast("ASGIFramework", api)
        async with asyncio.TaskGroup() as tasks:
            work = [tasks.create_task(plane.run()), tasks.create_task(engine.run())]
            work.append(tasks.create_task(Deployer(engine).run()))
            if settings.git_mirror:
                mirror = Mirror(consul, leadership, Place(Repository(settings.git_mirror), settings.git_remote))
                plane.metrics.watch_mirror(lambda: mirror.shown if leadership.leading else None)
                work.append(tasks.create_task(mirror.run()))
            work += [tasks.create_task(events.run()), tasks.create_task(trail.run()), tasks.create_task(ended.run())]
            if authority:
                entries = await stack.enter_async_context(_entries(settings, secrets))
                intentions = Intentions(
                    entries, leadership, plane.registry, plane.service_names, accept_new=settings.accept_new
                )
                work += [tasks.create_task(authority.run()), tasks.create_task(intentions.run())]
            await serve(app, _config(settings), shutdown_trigger=stop.wait)
            for task in work:
                task.cancel()


async def _authority(settings: ControlPlaneSettings, secrets: Secrets, stack: AsyncExitStack) -> Authority | None:
    if settings.mtls == "off":
        return None
    made = Authority(settings.consul_url, CONTROL_PLANE, token=secrets.consul, ca_file=settings.consul_ca_file)
    return await stack.enter_async_context(made)


def _entries(settings: ControlPlaneSettings, secrets: Secrets) -> ConfigEntries:
    return ConfigEntries(settings.consul_url, token=secrets.consul, ca_file=settings.consul_ca_file)


def _gateway(settings: ControlPlaneSettings, proof: ProofFile, authority: Authority | None) -> InternalGate:
    urls = [str(url) for url in settings.gate_internal_url]
    tls = mutual_tls(authority, GATE) if authority else None
    return InternalGate(urls, proof.current, timeout_s=settings.probe_timeout_s, tls=tls)


def _metrics(settings: ControlPlaneSettings) -> Prometheus:
    return Prometheus(settings.prometheus_url, scrape_s=settings.prometheus_scrape_s)


def _rule_sources(settings: ControlPlaneSettings, metrics: Prometheus | None) -> Sources:
    urls = tuple(str(url) for url in settings.rules_prometheus_urls)
    own = (settings.prometheus_url,) if settings.prometheus_url else ()
    return Sources(Promtool(settings.promtool) if settings.promtool else None, metrics, urls or own)


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
        secrets = Secrets(
            read_token(settings.operator_token_file),
            TokenFile(settings.consul_token_file) if settings.consul_token_file else None,
            ProofFile(settings.secrets_file) if settings.secrets_file else None,
        )
        fixed = fixed_instances(os.environ)
        if settings.api_key_encryption_key_file:
            read_ring(settings.api_key_encryption_key_file)
    except Refused as error:
        sys.stderr.write(f"control plane: {error}\n")
        sys.exit(EXIT_CONFIG)
    about = {"service": "control-plane", "version": platform_version(), "replica": settings.replica}
    configure_logging(settings.log_level, about, settings.log_level_file)
    with traced(Origin.of("control-plane", settings.replica), settings.otlp_url, settings.trace_sample):
        asyncio.run(run(settings, secrets, fixed))


if __name__ == "__main__":
    main()
