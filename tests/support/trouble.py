"""A stage under load whose parts are taken away and given back, and what a rollout on it must look like afterwards."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from anyio.from_thread import BlockingPortal, start_blocking_portal

from tests.support.counted import Calls
from tests.support.cut import Cut, cut_proxy
from tests.support.gate import wait_until
from tests.support.stage import SERVICE, Json, Stage, stage

VERSIONS = ("1.0.0", "1.1.0")
TAKEOVER_S = 20.0
"""Another replica must go on within this after whatever happened to the leader."""
TOOLS = {"ledger_note": {"entry": "x", "hold_ms": 30}, "ledger_list": {}}
FENCED = b"409 Conflict"
LAGS = 1
"""Number of the gate whose session outlives a frozen agent, so that it lags and is not gone."""


@dataclass
class Trouble:
    """The stage, and what is broken on it now.

    Args:
        stage: Three replicas, two gates, two versions.
        portal: Where proxies and load run, so that a test may block.
        broken: How to mend what is broken, by part.
        revision: Number of the policy's revision with which the last rollout began.
    """

    stage: Stage
    portal: BlockingPortal
    broken: dict[str, Callable[[], None]] = field(default_factory=dict)
    revision: int = 0

    # -- load and rollouts

    @contextlib.contextmanager
    def load(self, gates: Sequence[int] = (0, 1)) -> Iterator[Calls]:
        """Call through gates without a pause."""
        calls = Calls([f"{self.stage.gates[at].public}/{SERVICE}/mcp" for at in gates], self.stage.key, TOOLS)
        with self.portal.wrap_async_context_manager(calls.running(3)):
            yield calls

    @property
    def canary(self) -> str:
        """The version that is not stable now."""
        return next(version for version in VERSIONS if version != self.stage.policy()["stable"])

    def begin(self, *steps: Json, **fields: object) -> None:
        """Start a rollout of the other version."""
        begun = self.stage.begin(self.canary, steps=list(steps), **{"keep_warm_s": 1, **fields})
        self.revision = begun["revision"]

    def later(self, verb: str) -> None:
        """Steer the rollout from elsewhere: who waits for the answer is not held up, and it may never come."""

        def ask() -> None:
            with contextlib.suppress(httpx.HTTPError):
                self.stage.answer("POST", f"/v1/services/{SERVICE}/rollout/{verb}", {"reason": "test"})

        threading.Thread(target=ask, daemon=True).start()

    def left(self, phase: str, since: int, within_s: float = TAKEOVER_S) -> None:
        """Wait until a phase that was entered with the event of this number is behind."""
        wait_until(lambda: len(self._events()) > since, f"the rollout to go on from {phase}", within_s)

    def _events(self) -> list[Json]:
        answer = self.stage.answer("GET", f"/v1/services/{SERVICE}/rollout")
        return list(answer.json()["events"]) if answer.is_success else []

    def phases(self) -> list[str]:
        """Every phase of the rollout so far, in order."""
        return [event["phase"] for event in self.stage.rollout()["events"]]

    def records(self) -> list[str]:
        """What the history says that the rollout has changed, in order."""
        said = self.stage.ask("GET", "/v1/state/history?limit=50")["records"]
        mine = [one for one in said if one["revision"] > self.revision and one["verb"].startswith("rollout.")]
        return [one["verb"] for one in reversed(mine)]

    # -- parts that break

    def kill(self, name: str) -> None:
        """Kill a replica."""
        process = self.stage.replicas[name]
        process.end(signal.SIGKILL)
        self._break(name, lambda: self._start(name))

    def _start(self, name: str) -> None:
        self.stage.replicas[name].start()
        wait_until(lambda: self.stage.answers(name), f"{name} up again", 30)

    def freeze(self, name: str) -> None:
        """Stop a replica's time; its connections stay open."""
        self.stage.replicas[name].send(signal.SIGSTOP)
        self._break(name, lambda: self.stage.replicas[name].send(signal.SIGCONT))

    def cut(self, name: str) -> None:
        """Let nothing through between a replica and Consul."""
        self.portal.call(self.stage.lines[name].cut)
        self._break(name, lambda: self.portal.call(self.stage.lines[name].heal))

    def cut_at_its_next_write(self, name: str) -> None:
        """The same from the next transaction on, which arrives at Consul once the line is healed."""
        line: Cut = self.stage.lines[name]
        self.portal.call(line.cut_at, b"PUT /v1/txn")
        self._break(name, lambda: self.portal.call(line.heal))
        wait_until(lambda: self.portal.call(line.dark), f"a write of {name}", 20)

    def freeze_agent(self, at: int = LAGS) -> None:
        """Stop a gate's agent: its gate serves on and takes nothing up."""
        self.stage.agents[at].send(signal.SIGSTOP)
        self.broken[f"agent {at}"] = lambda: self.stage.agents[at].send(signal.SIGCONT)

    def _break(self, name: str, mend: Callable[[], None]) -> None:
        self.stage.out.add(name)
        self.broken[name] = mend

    def mend(self, part: str) -> None:
        """Give a part back."""
        self.broken.pop(part)()
        self.stage.out.discard(part)

    def other_leads(self, old: str) -> str:
        """Wait until another replica leads; returns which."""
        wait_until(lambda: self.stage.leader() not in ("", old), f"a leader other than {old}", TAKEOVER_S)
        return self.stage.leader()

    def stands_by(self, name: str) -> None:
        """Wait until a replica answers, and says that another leads."""

        def there() -> bool:
            with contextlib.suppress(httpx.HTTPError):
                shown = self.stage.answer("GET", "/v1/status", replica=name)
                return shown.is_success and not shown.json()["leading"] and bool(shown.json()["leader"])
            return False

        wait_until(there, f"{name} to stand by", 40)

    def restore(self) -> None:
        """Mend everything, and end what is under way."""
        for part in list(self.broken):
            self.mend(part)
        for version in VERSIONS:
            self.stage.drill(version, [])
        wait_until(self._quiet, "a stage with nothing under way", 60)

    def _quiet(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            if not all(self.stage.answer("GET", "/v1/status", replica=name).is_success for name in self.stage.replicas):
                return False
            shown = self.stage.answer("GET", f"/v1/services/{SERVICE}/rollout")
            if shown.status_code == 404 or (shown.is_success and shown.json()["ended"]):
                return True
            self.stage.answer("POST", f"/v1/services/{SERVICE}/rollout/abort", {"reason": "end of a test"})
        return False


def step(weight_pct: float = 10, bake_s: int = 1, **given: object) -> Json:
    """A step that ends after a while without a verdict."""
    return {"weight_pct": weight_pct, "bake_s": bake_s, "analysis": False, **given}


def after_s(seconds: float) -> None:
    """Let a time pass that a fault has to last."""
    end_s = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() >= end_s, "the clock to go on", seconds + 20)


@contextlib.contextmanager
def trouble(folder: Path) -> Iterator[Trouble]:
    """Three replicas, each with its own line to Consul, two gates and two versions that serve.

    Args:
        folder: An empty folder.
    """
    with start_blocking_portal() as portal, contextlib.ExitStack() as stack:

        def line(url: str) -> Cut:
            return stack.enter_context(portal.wrap_async_context_manager(cut_proxy(url)))

        made = stack.enter_context(stage(folder, gates=(2, 60), replicas=3, line=line, MCP_SESSION_TTL_S="2"))
        made.add_instance(VERSIONS[1])
        made.serving(VERSIONS[1])
        yield Trouble(made, portal)
