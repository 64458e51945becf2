"""What faults happen to, whatever it is made of, and how it is seen to be well."""

from __future__ import annotations

import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

import httpx
from anyio.from_thread import BlockingPortal

from tests.chaos.calls import Caller
from tests.chaos.pen import Writer
from tests.support.gate import wait_until
from tests.support.stage import Json

BAD_KEY = "tk_nobody-1_" + 48 * "0"
ENOUGH_CALLS = 40
GATES = 2


class Ground(ABC):
    """All parts, up.

    Attributes:
        portal: Where load runs, so that faults may block.
        calls: The load of the running row.
        pen: Writes the policy in the running row.
        versions: Versions that may answer.
    """

    portal: BlockingPortal
    calls: Caller
    pen: Writer
    versions: tuple[str, ...]

    @abstractmethod
    def caller(self, name: str) -> Caller:
        """Clients whose entries begin with `name`."""

    @abstractmethod
    def steps(self, prefix: str) -> Mapping[str, list[str]]:
        """What the ledgers have of each entry that begins so: `begun`, `done`, `cancelled`."""

    @abstractmethod
    def there(self, within_s: float) -> None:
        """Wait until every part runs and serves."""

    @abstractmethod
    def answer(self, method: str, path: str, body: Json | None = None) -> httpx.Response:
        """What the operators' API answers, whatever that is."""

    @abstractmethod
    def ask(self, method: str, path: str, body: Json | None = None) -> Json:
        """What it answers, once some replica leads; fails with what it said."""

    @contextlib.contextmanager
    def row(self, name: str) -> Iterator[None]:
        """Load and changes of policy of one row, whose entries begin with `name`."""
        self.calls, self.pen = self.caller(name), Writer(self)
        with self.portal.wrap_async_context_manager(self.calls.running()), self.pen.writing():
            yield

    def well(self, within_s: float) -> None:
        """Wait until everything is as it should be: there, a change in force on each gate, calls answered."""
        self.there(within_s)
        wait_until(self._in_force, "a change to be in force on every gate", within_s)
        since_s = time.monotonic()
        wait_until(lambda: self.calls.good_since(since_s) >= ENOUGH_CALLS, "calls to be answered well", within_s)

    def serving(self, service: str, version: str) -> int:
        """How many instances of a version serve, as the control plane sees it."""
        with contextlib.suppress(httpx.HTTPError):
            shown = self.answer("GET", f"/v1/services/{service}")
            found = shown.json()["instances"] if shown.is_success else ()
            return sum(
                bool(one["version"] == version and one["passing"] and one["state"] == "serving") for one in found
            )
        return 0

    def _in_force(self) -> bool:
        done = self.pen.once()
        return bool(done and done["in_force"] and not done["waiting_for"] and self._gates_have(done["revision"]))

    def _gates_have(self, revision: int) -> bool:
        shown = self.ask("GET", "/v1/status")["gates"]
        return len(shown) == GATES and all(
            gate["live"] and gate["revision"] >= revision and not gate["problems"] for gate in shown
        )
