"""Everything real that chaos happens to in containers: production on one machine, with all of its on-call stack."""

from __future__ import annotations

import contextlib
import random
import shutil
import ssl
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.chaos.calls import Caller, Note
from tests.chaos.ground import BAD_KEY, Ground
from tests.chaos.pen import Writer
from tests.support.container_environment import ContainerEnvironment, container_environment, is_well
from tests.support.engine import Engine
from tests.support.engine import engine as an_engine
from tests.support.gate import wait_until
from tests.support.images import our_images
from tests.support.lines import whole_lines
from tests.support.stage import Json
from tests.support.stand_ins import base_image, stand_ins

KIND = "prod"
SERVICE = "filesystem"
TWICE = ("filesystem", "hub")
"""Services of which production on one machine has two instances."""
LEDGER = "ledger"
NOTE = Note(
    "filesystem_write_file",
    lambda entry: {"path": f"/workspace/{LEDGER}/{entry}", "content": "done\n", "append": True},
    lambda said: ("", said["path"].rpartition("/")[2]),
)
"""A file for each entry, to which a call adds a line: one that runs twice leaves two."""
ANSWER_S = 40.0


@dataclass
class Containers(Ground):
    """The whole, and how it is seen to be well.

    Args:
        made: The environment.
        engine: What its containers run on.
        portal: Where load runs, so that faults may block.
        key: Of the client that calls.
        versions: Versions that may answer.
        random: Chooses victims; seeded.
        count: How many containers of each service run when all is well.
        pen: Writes the policy in the running row.
        calls: The load of the running row.
    """

    made: ContainerEnvironment
    engine: Engine
    portal: BlockingPortal
    key: str
    versions: tuple[str, ...]
    random: random.Random
    count: Counter[str]
    pen: Writer = field(init=False)
    calls: Caller = field(init=False)

    def caller(self, name: str) -> Caller:
        """Clients whose entries begin with `name`; the ledger of the row before is thrown away."""
        shutil.rmtree(self._ledger, ignore_errors=True)
        ports = (self.made.settings[one] for one in ("MCP_GATEWAY_PORT", "MCP_GATEWAY_2_PORT"))
        gates = [f"https://localhost:{port}" for port in ports]
        trust = ssl.create_default_context(cafile=self.made.ca)
        return Caller(gates, (f"/{SERVICE}/mcp", "/mcp"), NOTE, self.key, BAD_KEY, name, trust)

    @property
    def _ledger(self) -> Path:
        return self.made.workspace / LEDGER

    def steps(self, prefix: str) -> Mapping[str, list[str]]:
        """What the ledger has of each entry that begins so; a call of this tool is over when it has written."""
        return {path.name: ["begun", "done"] * len(whole_lines(path)) for path in self._ledger.glob(f"{prefix}*")}

    def there(self, within_s: float) -> None:
        """Wait until all containers run that ran in the beginning, and two of each service serve."""
        wait_until(lambda: not self.count - running(self.made), "all containers to be well", within_s)
        wait_until(
            lambda: all(self.serving(one, self.versions[0]) >= 2 for one in TWICE), "both of each to serve", within_s
        )

    # -- the operators' API

    def answer(self, method: str, path: str, body: Json | None = None) -> httpx.Response:
        """What it answers, whatever that is."""
        return self.made.ask(method, path, body)

    def ask(self, method: str, path: str, body: Json | None = None) -> Json:
        """What it answers, once some replica leads; fails with what it said."""
        said: list[httpx.Response] = []

        def answered() -> bool:
            with contextlib.suppress(httpx.HTTPError):  # whatever stands before the API may just be starting
                said.append(self.answer(method, path, body))
                return said[-1].is_success
            return False

        wait_until(answered, lambda: f"{method} {path}: {said[-1].text if said else 'no answer'}", ANSWER_S)
        return cast("Json", said[-1].json())

    def leader(self) -> str:
        """The control plane that leads, which its container is named after."""
        return str(self.ask("GET", "/v1/status")["leader"])

    # -- containers

    def one_of(self, service: str) -> str:
        """The id of a running container of a service."""
        return str(
            self.random.choice([one["ID"] for one in self.made.containers(service) if one["State"] == "running"])
        )


def running(made: ContainerEnvironment) -> Counter[str]:
    """How many containers of each service run and are not ill."""
    return Counter(one["Service"] for one in made.containers() if is_well(one))


@contextlib.contextmanager
def containers(folder: Path, seed: int) -> Iterator[Containers]:
    """All of them, up and well.

    Args:
        folder: An empty folder.
        seed: Chooses victims.
    """
    with start_blocking_portal() as portal, an_engine() as engine:
        base = base_image(engine)
        stand_ins(engine, base)
        our_images(engine, base)
        with container_environment(engine.env, KIND, folder, f"tekup-chaos-{seed}-{random.randrange(1000)}") as made:
            given = {"id": "chaos", "allow": [f"{SERVICE}_*"], "reason": "chaos"}
            for wish in (given, {"id": "written", "reason": "chaos"}):
                assert made.ask("POST", "/v1/clients", wish).is_success
            key = made.ask("POST", "/v1/clients/chaos/keys", {"reason": "chaos"}).json()["key"]
            instances = made.ask("GET", f"/v1/services/{SERVICE}").json()["instances"]
            versions = tuple(sorted({one["version"] for one in instances}))
            yield Containers(made, engine, portal, key, versions, random.Random(seed), running(made))
