"""``python -m control_plane.rule_keeper``: operators' rules beside a Prometheus, receivers beside an Alertmanager.

It only reads Consul and only writes their files. Prometheus notices changed files by itself (`auto-reload-config`), so
nothing here may steer it; Alertmanager is told to read again (:mod:`control_plane.receiver_keeper`). While Consul is
away or does not fit its revision, all stay as they are; of a group that makes no sense the file of before stays, and it
is logged.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Self

from pydantic import model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from control_plane.alert_rules import FILE_SUFFIX, RuleGroup
from control_plane.consul import Consul
from control_plane.errors import Refused
from control_plane.files import write_whole
from control_plane.kept import REVISION_KEY
from control_plane.model import Revision, Table
from control_plane.ports import Store
from control_plane.receiver_keeper import AlertmanagerFile
from control_plane.settings import EXIT_CONFIG, Level, load
from control_plane.signed import table_sum
from control_plane.tokens import TokenFile
from control_plane.watch import WATCH_S, follow
from observability.telemetry.about import platform_version
from observability.telemetry.logs import configure_logging

log = logging.getLogger(__name__)

AGAIN_S = 1.0
Write = Callable[[Mapping[str, bytes]], Awaitable[None]]


class KeeperSettings(BaseSettings):
    """``python -m control_plane.rule_keeper``."""

    model_config = SettingsConfigDict(env_prefix="MCP_", frozen=True)

    log_level: Level = "info"
    log_level_file: Path | None = None
    consul_url: str = "http://127.0.0.1:8500"
    consul_token_file: Path | None = None
    consul_ca_file: Path | None = None
    # Where Prometheus reads operators' rules; none: it is not beside one.
    rules_dir: Path | None = None
    # The platform's own configuration of Alertmanager, and the file that it reads; none: it is not beside one.
    alertmanager_base: Path | None = None
    alertmanager_config: Path | None = None
    alertmanager_url: str = ""
    alert_secrets_dir: str = "secrets"

    @model_validator(mode="after")
    def _beside_somebody(self) -> Self:
        whole = (self.alertmanager_base, self.alertmanager_config, self.alertmanager_url)
        if any(whole) and not all(whole):
            raise ValueError("MCP_ALERTMANAGER_BASE, MCP_ALERTMANAGER_CONFIG and MCP_ALERTMANAGER_URL go together")
        if not self.rules_dir and not any(whole):
            raise ValueError("MCP_RULES_DIR or MCP_ALERTMANAGER_CONFIG: say beside whom this is")
        return self

    def keepers(self, store: Store) -> tuple[Keeper, ...]:
        """Who keeps what."""
        made = []
        if self.rules_dir:
            made.append(Keeper(store, Table.RULES, RuleFiles(self.rules_dir).write))
        if self.alertmanager_base and self.alertmanager_config:
            file = AlertmanagerFile(
                self.alertmanager_base, self.alertmanager_config, self.alertmanager_url, self.alert_secrets_dir
            )
            made.append(Keeper(store, Table.RECEIVERS, file.write))
        return tuple(made)


class Keeper:
    """Follows a table.

    Args:
        store: Where it lies.
        table: Which.
        write: Takes its documents, by name, wherever they belong; raises `Refused` or `OSError` where it cannot.
    """

    def __init__(self, store: Store, table: Table, write: Write) -> None:
        self._store = store
        self._table = table
        self._write = write
        self._said = ""

    async def run(self) -> None:
        """Follow for ever."""
        await follow(self._read, f"alerting: {self._table}")

    async def _read(self, after: int) -> int:
        # Looked at again before long where it could not be taken up: whom it is for may only be starting.
        wait_s = AGAIN_S if self._said else WATCH_S
        listing = await self._store.read(self._table.prefix, after=after, wait_s=wait_s)
        raws = {name: entry.value for name, entry in listing.entries.items()}
        try:
            await self._take_up(raws)
            self._said = ""
        except (Refused, OSError) as error:
            if str(error) != self._said:
                log.warning(f"{self._table}.not_taken_up", extra={"why": str(error)})
            self._said = str(error)
        return listing.index

    async def _take_up(self, raws: Mapping[str, bytes]) -> None:
        held = (await self._store.read(REVISION_KEY)).entries.get("")
        if held is None:
            raise Refused("Consul holds no revision; all stays as it is")
        revision = Revision.parse(held.value, REVISION_KEY)
        if table_sum(raws) != revision.tables.get(self._table, table_sum({})):
            raise Refused(f"{self._table.prefix} does not fit revision {revision.number}; all stays as it is")
        await self._write(raws)


class RuleFiles:
    """Groups of rules as files.

    Args:
        folder: Where they go; nothing else may lie in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def write(self, raws: Mapping[str, bytes]) -> None:
        """Bring the files up to date."""
        self._folder.mkdir(parents=True, exist_ok=True)
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
        tasks: list[asyncio.Task[object]] = [asyncio.create_task(keeper.run()) for keeper in settings.keepers(consul)]
        tasks.append(asyncio.create_task(stop.wait()))
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


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
