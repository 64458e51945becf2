"""``python -m control_plane.rule_keeper``: beside a Prometheus, keeps operators' alert rules in a folder that it reads.

It only reads Consul and only writes this folder. Prometheus notices changed files by itself (`auto-reload-config`), so
nothing here may steer it. While Consul is away or does not fit its revision, all stay as they are; of a group that
makes no sense the file of before stays, and it is logged.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic_settings import BaseSettings, SettingsConfigDict

from control_plane.alert_rules import FILE_SUFFIX, RuleGroup
from control_plane.consul import Consul
from control_plane.errors import Refused
from control_plane.files import write_whole
from control_plane.model import Revision, Table
from control_plane.ports import Store
from control_plane.settings import EXIT_CONFIG, Level, load
from control_plane.signed import table_sum
from control_plane.staged import REVISION_KEY
from control_plane.tokens import TokenFile
from control_plane.watch import WATCH_S, follow
from observability.telemetry.about import platform_version
from observability.telemetry.logs import configure_logging

log = logging.getLogger(__name__)


class KeeperSettings(BaseSettings):
    """``python -m control_plane.rule_keeper``."""

    model_config = SettingsConfigDict(env_prefix="MCP_", frozen=True)

    log_level: Level = "info"
    log_level_file: Path | None = None
    consul_url: str = "http://127.0.0.1:8500"
    consul_token_file: Path | None = None
    consul_ca_file: Path | None = None
    rules_dir: Path


class Keeper:
    """Follows the table of rules.

    Args:
        store: Where it lies.
        folder: Where the files go; nothing else may lie in it.
    """

    def __init__(self, store: Store, folder: Path) -> None:
        self._store = store
        self._folder = folder
        self._said = ""

    async def run(self) -> None:
        """Follow for ever."""
        self._folder.mkdir(parents=True, exist_ok=True)
        await follow(self._read, "alert rules")

    async def _read(self, after: int) -> int:
        listing = await self._store.read(Table.RULES.prefix, after=after, wait_s=WATCH_S)
        raws = {name: entry.value for name, entry in listing.entries.items()}
        try:
            await self._take_up(raws)
            self._said = ""
        except (Refused, OSError) as error:
            if str(error) != self._said:
                log.warning("rules.not_taken_up", extra={"why": str(error)})
            self._said = str(error)
        return listing.index

    async def _take_up(self, raws: Mapping[str, bytes]) -> None:
        held = (await self._store.read(REVISION_KEY)).entries.get("")
        if held is None:
            raise Refused("Consul holds no revision; the files stay as they are")
        revision = Revision.parse(held.value, REVISION_KEY)
        if table_sum(raws) != revision.tables.get(Table.RULES, table_sum({})):
            raise Refused(f"{Table.RULES.prefix} does not fit revision {revision.number}; the files stay as they are")
        self._write(raws)

    def _write(self, raws: Mapping[str, bytes]) -> None:
        for name, raw in raws.items():
            try:
                text = RuleGroup.stored(raw, Table.RULES.prefix, name).rendered().encode()
            except Refused as error:
                log.warning("rules.group_ignored", extra={"why": str(error)})
                continue
            path = self._folder / f"{name}{FILE_SUFFIX}"
            if not path.exists() or path.read_bytes() != text:
                write_whole(path, text)
                log.info("rules.written", extra={"group": name})
        for path in self._folder.glob(f"*{FILE_SUFFIX}"):
            if path.stem not in raws:
                path.unlink()
                log.info("rules.removed", extra={"group": path.stem})


async def run(settings: KeeperSettings, token: TokenFile | None) -> None:
    """Work until SIGTERM or SIGINT; Prometheus goes on with the files that are there."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Consul(settings.consul_url, token=token, ca_file=settings.consul_ca_file) as consul:
        keeping = asyncio.create_task(Keeper(consul, settings.rules_dir).run())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait((keeping, stopped), return_when=asyncio.FIRST_COMPLETED)
        for task in (keeping, stopped):
            task.cancel()
        await asyncio.gather(keeping, stopped, return_exceptions=True)


def main() -> None:
    """Read the settings and run."""
    try:
        settings = load(KeeperSettings)
        token = TokenFile(settings.consul_token_file) if settings.consul_token_file else None
    except Refused as error:
        sys.stderr.write(f"rule keeper: {error}\n")
        sys.exit(EXIT_CONFIG)
    about = {"service": "rule-keeper", "version": platform_version()}
    configure_logging(settings.log_level, about, settings.log_level_file)
    asyncio.run(run(settings, token))


if __name__ == "__main__":
    main()
