"""``python -m control_plane.agent``: the agent beside one Traefik."""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from control_plane.agent.agent import Agent
from control_plane.agent.disk import GateFolder
from control_plane.agent.papers import Standing
from control_plane.agent.shown import show
from control_plane.authority import Authority
from control_plane.consul import Consul
from control_plane.errors import Refused
from control_plane.fixed import fixed_instances
from control_plane.model import Instance
from control_plane.peers import GATE
from control_plane.sealed import RingFile
from control_plane.settings import EXIT_CONFIG, AgentSettings, load
from control_plane.tokens import TokenFile
from control_plane.traefik import Traefik
from observability.telemetry.about import platform_version
from observability.telemetry.logs import configure_logging
from observability.telemetry.traces import Origin, traced


async def run(
    settings: AgentSettings, folder: GateFolder, token: TokenFile | None, fixed: tuple[Instance, ...]
) -> None:
    """Work until SIGTERM or SIGINT; the gate goes on serving without us."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with (
        Consul(settings.consul_url, token=token, ca_file=settings.consul_ca_file) as consul,
        Traefik(settings.gate_private_url) as traefik,
        Authority(settings.consul_url, GATE, token=token, ca_file=settings.consul_ca_file) as authority,
    ):
        agent = Agent(
            consul,
            traefik,
            folder,
            gate=settings.gate_id,
            ttl_s=settings.session_ttl_s,
            sealing_keys=RingFile(settings.api_key_encryption_key_file),
            standing=Standing(authority, settings.gate_dir) if settings.mtls == "on" else None,
            fixed=fixed,
        )
        async with asyncio.TaskGroup() as tasks:
            work = [
                tasks.create_task(agent.run()),
                tasks.create_task(show(consul, settings.gate_id, settings.gate_private_url)),
            ]
            await stop.wait()
            for task in work:
                task.cancel()


def main() -> None:
    """Read the settings, claim the folder and run."""
    try:
        settings = load(AgentSettings)
        folder = GateFolder(settings.gate_dir)
        folder.claim()
        folder.mac_key()
        token = TokenFile(settings.consul_token_file) if settings.consul_token_file else None
        fixed = fixed_instances(os.environ)
    except Refused as error:
        sys.stderr.write(f"agent: {error}\n")
        sys.exit(EXIT_CONFIG)
    about = {"service": "agent", "version": platform_version(), "gate": settings.gate_id}
    configure_logging(settings.log_level, about, settings.log_level_file)
    with traced(Origin.of("agent", settings.gate_id), settings.otlp_url, settings.trace_sample):
        asyncio.run(run(settings, folder, token, fixed))


if __name__ == "__main__":
    main()
