"""The egress process: from its settings to the end, which SIGTERM brings."""

import asyncio
import logging
import signal
from typing import Annotated, NoReturn

from pydantic import AfterValidator
from pydantic_settings import SettingsConfigDict

from observability.telemetry.logs import configure_logging
from services.common.background import beside
from services.common.egress.gateway import Gateway
from services.common.errors import SettingsError
from services.common.exits import exit_after
from services.common.metrics import Metrics
from services.common.rekey import keep_keys
from services.common.settings import Loaded, ServiceSettings, load_settings
from services.common.signing import Keyring

__all__ = ["EgressSettings", "main"]

logger = logging.getLogger(__name__)


def _host_and_port(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{text!r} is not host:port, as 0.0.0.0:3128")
    return text


class EgressSettings(ServiceSettings):
    """`MCP_EGRESS_…`."""

    model_config = SettingsConfigDict(env_prefix="MCP_EGRESS_", validate_default=True)

    listen: Annotated[str, AfterValidator(_host_and_port)] = "127.0.0.1:3128"


async def _serve(loaded: Loaded[EgressSettings]) -> None:
    host, _, port = loaded.service.listen.rpartition(":")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    keyring = Keyring(loaded.keys)
    gateway = Gateway(keyring)
    if loaded.kit.secrets_file is None:
        raise SettingsError("egress", ("MCP_SECRETS_FILE: is not set; without the browser's keys no pass is one",))
    metrics = Metrics(service="egress", version=loaded.kit.version, instance=loaded.kit.instance)
    async with gateway.open(host.strip("[]"), int(port)), beside(keep_keys(loaded.kit.secrets_file, keyring, metrics)):
        logger.info("serving", extra={"host": host, "port": gateway.port})
        await stop.wait()
    logger.info("stopped")


def main() -> NoReturn:
    """Serve until told to stop. Exit codes as of the kit's `exit_after`."""
    exit_after(_begin, logger)


def _begin() -> None:
    loaded = load_settings("browser", EgressSettings)
    about = {"service": "egress", "version": loaded.kit.version, "instance": loaded.kit.instance}
    configure_logging(loaded.kit.log_level, about, loaded.kit.log_level_file)
    asyncio.run(_serve(loaded))
