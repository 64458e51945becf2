"""Instances of the ledger service in a running environment, and what they have written."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import mcp

from tests.support import guest
from tests.support.lines import whole_lines
from tests.support.sdk import asked
from tests.support.wait import eventually

SERVICE = "ledger"
ARRIVE_S = 60.0
DRAIN_DEADLINE_S = 5.0


class Place(Protocol):
    """An environment that is up."""

    @property
    def state(self) -> Path:
        """Its state folder."""

    @property
    def consul_url(self) -> str:
        """Its Consul."""

    @property
    def control_plane_url(self) -> str:
        """Its operators' API."""

    @property
    def operator_token(self) -> str:
        """The operator's token."""


@dataclass
class Ledgers:
    """The instances; those that a test has not ended itself are ended with `running`.

    Args:
        consul_url: Where they register.
        secrets_file: From `guest.introduce`.
        folder: Where ledgers and logs go.
        life: Ends what was started.
    """

    consul_url: str
    secrets_file: Path
    folder: Path
    life: contextlib.ExitStack
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, **variables: str) -> str:
        """Start one; returns its instance id. It is there once `all_known` says so."""
        instance = secrets.token_hex(3)
        given = {
            "MCP_INSTANCE": instance,
            "MCP_LEDGER_FILE": str(self._file(instance)),
            "MCP_DRAIN_DEADLINE_S": str(DRAIN_DEADLINE_S),
            **variables,
        }
        self._file(instance).touch()
        self.processes[instance] = self.life.enter_context(
            guest.kit_instance(
                [sys.executable, "-m", "tests.support.ledger_service"],
                secrets_file=self.secrets_file,
                consul_url=self.consul_url,
                log=self.folder / f"{instance}.log",
                **given,
            )
        )
        return instance

    def send(self, instance: str, number: signal.Signals) -> None:
        """Send a signal to an instance that runs."""
        assert self.processes[instance].poll() is None, f"{instance} has ended already"
        os.kill(self.processes[instance].pid, number)

    async def ended(self, instance: str) -> int:
        """The exit code of an instance, once it has ended."""

        async def code() -> tuple[int] | None:
            found = self.processes[instance].poll()
            return None if found is None else (found,)

        return (await eventually(code, f"{instance} to end", guest.STOP_S))[0]

    async def all_known(self, client: mcp.Client, *instances: str) -> None:
        """Wait until the tools are listed and all of these, and nobody else, answer calls."""

        async def known() -> bool:
            tools = {tool.name for tool in (await client.list_tools(cache_mode="bypass")).tools}
            if "ledger_list" not in tools:
                return False
            answers = [await asked(client, "ledger_list", {}) for _ in range(3 * len(instances))]
            return {answer.result["instance"] if answer.result else "" for answer in answers} == set(instances)

        await eventually(known, f"{', '.join(instances)} to answer", ARRIVE_S)

    def steps(self, instance: str) -> dict[str, list[str]]:
        """What an instance has written, by entry: `begun`, `done`, `cancelled`, in order."""
        steps: dict[str, list[str]] = {}
        for line in whole_lines(self._file(instance)):
            step, _, entry = line.partition(" ")
            steps.setdefault(entry, []).append(step)
        return steps

    def running_in(self, instance: str) -> list[str]:
        """Entries an instance is in the middle of."""
        return [entry for entry, steps in self.steps(instance).items() if steps == ["begun"]]

    def runs(self) -> Counter[str]:
        """How often each entry was begun, in all of them."""
        every = (self.steps(instance).items() for instance in self.processes)
        return Counter({entry: steps.count("begun") for steps_of in every for entry, steps in steps_of})

    def where(self, entry: str) -> list[str]:
        """The instances that have begun an entry."""
        return [instance for instance in self.processes if entry in self.steps(instance)]

    def _file(self, instance: str) -> Path:
        return self.folder / f"{instance}.txt"


@contextlib.contextmanager
def ledgers(place: Place, folder: Path) -> Iterator[Ledgers]:
    """No instance yet; at the end all are ended and the environment knows nothing of them.

    Args:
        place: The environment.
        folder: For ledgers and logs.
    """
    secrets_file = guest.introduce(place.state, SERVICE)
    with contextlib.ExitStack() as life:
        life.callback(guest.forget, place.control_plane_url, place.operator_token, SERVICE)
        made = Ledgers(place.consul_url, secrets_file, folder, life)
        try:
            yield made
        finally:
            for instance, process in made.processes.items():
                if process.poll() is None:
                    os.kill(process.pid, signal.SIGCONT)
                    os.kill(process.pid, signal.SIGTERM)  # the stack's own is the second, which is at once
                elif process.returncode != 0:  # it could not say goodbye
                    guest.deregister(place.consul_url, SERVICE, instance, guest.token_of(place.state, SERVICE))


@contextlib.asynccontextmanager
async def three_ledgers(
    place: Place, folder: Path, client: mcp.Client, **variables: str
) -> AsyncIterator[tuple[Ledgers, list[str]]]:
    """Three instances that all answer."""
    with ledgers(place, folder) as made:
        instances = [made.start(**variables) for _ in range(3)]
        await made.all_known(client, *instances)
        yield made, instances
