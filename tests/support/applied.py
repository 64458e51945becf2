"""A gate and what its agent does to it, without Consul: policy and instances are given by hand."""

from __future__ import annotations

import asyncio
import json
from hashlib import sha256

from control_plane.agent.apply import Applied, Applier
from control_plane.agent.disk import GateFolder
from control_plane.model import (
    ClientPolicy,
    Instance,
    InstanceState,
    Key,
    Lane,
    Policy,
    Revision,
    Rule,
    ServicePolicy,
    Table,
)
from control_plane.signed import table_sum
from control_plane.traefik import Traefik
from tests.support.gate import KEYS, Gate
from tests.support.wait import eventually


class World:
    """A gate, what its agent does to it, and two versions of alpha."""

    def __init__(self, gate: Gate, traefik: Traefik) -> None:
        self.gate = gate
        self.applier = Applier(GateFolder(gate.folder), traefik)
        self.number = 0

    def instance(self, name: str, version: str, state: InstanceState = InstanceState.SERVING) -> Instance:
        """A running backend as an instance."""
        if name not in self.gate.backends:
            self.gate.backend(name)
        return Instance("alpha", version, name, "127.0.0.1", self.gate.backends[name][0], state)

    async def apply(self, rules: tuple[Rule, ...], *instances: Instance) -> Applied:
        """Put rules in force until nothing is left to be done later."""
        self.number += 1
        while True:
            applied = await self.applier.apply(self._policy(rules), instances)
            if applied.in_force and applied.again_in_s is None:
                return applied
            await asyncio.sleep(applied.again_in_s or 0.05)

    def _policy(self, rules: tuple[Rule, ...]) -> Policy:
        lanes = (Lane(version="1.0.0", weight_pct=100),)
        alpha = ServicePolicy(name="alpha", stable="1.0.0", lanes=lanes, rules=rules)
        revision = Revision(epoch=1, number=self.number, tables=dict.fromkeys(Table, table_sum({})))
        key = Key(id="dev-1", client="dev", hash=sha256(KEYS["dev"].encode()).hexdigest(), created=1)
        return Policy(revision, {"alpha": alpha}, {"dev": ClientPolicy(id="dev")}, {"dev-1": key})

    async def copied(self) -> None:
        """Wait until the mirror gets copies."""
        before = self.gate.seen("aaaaa3")["copy"]

        async def more() -> bool:
            return self.gate.seen("aaaaa3")["copy"] > before

        await eventually(more, "copies to come", 20)

    def routers(self) -> set[str]:
        """The targets that stand in the routes."""
        return set(json.loads((self.gate.folder / "dynamic/routes.yml").read_text())["http"]["routers"])
