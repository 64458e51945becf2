"""From a `ServiceSpec` to a running process."""

import asyncio
import logging
import signal
from typing import NoReturn, TypeVar

from observability.telemetry.logs import configure_logging
from observability.telemetry.traces import Origin, traced
from services.common.exits import exit_after
from services.common.instance import Stop, serve_instance
from services.common.kit import ServiceSpec
from services.common.reload import serve_reloading
from services.common.settings import Loaded, ServiceSettings, load_settings
from services.common.spans import describe

__all__ = ["run"]

logger = logging.getLogger(__name__)
S = TypeVar("S", bound=ServiceSettings)


def run(spec: ServiceSpec[S]) -> NoReturn:
    """Serve one instance of `spec` until SIGTERM or SIGINT; `python -m services.<name>` is this.

    Exit codes as of `exit_after`.

    Args:
        spec: The service.
    """
    exit_after(lambda: _begin(spec), logger)


def _begin(spec: ServiceSpec[S]) -> None:
    loaded = load_settings(spec.name, spec.settings)
    kit = loaded.kit
    about = {"service": spec.name, "version": kit.version, "instance": kit.instance}
    configure_logging(kit.log_level, about, kit.log_level_file)
    if kit.reload:
        serve_reloading(kit.host, {"MCP_PORT": kit.port, "MCP_ADMIN_PORT": kit.admin_port})
    origin = Origin(f"tekup-{spec.name}", kit.version, kit.instance)
    # Around everything, clean-up included; what its end may take comes after the instance has left.
    with traced(origin, kit.otlp_url, kit.trace_sample, describe):
        asyncio.run(_serve(spec, loaded))


async def _serve(spec: ServiceSpec[S], loaded: Loaded[S]) -> None:
    stop = Stop()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.ask)
    await serve_instance(spec, loaded, stop)
