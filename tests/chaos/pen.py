"""Changes of policy under chaos, and what became of each that was accepted."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol, cast

import httpx

from tests.support.stage import Json

EVERY_S = 0.3


class Operators(Protocol):
    """The operators' API of what chaos happens to."""

    def ask(self, method: str, path: str, body: Json | None = None) -> Json:
        """What it answers; fails with what it said."""

    def answer(self, method: str, path: str, body: Json | None = None) -> httpx.Response:
        """The same, whatever it says."""


@dataclass
class Writer:
    """An operator who changes the policy all the time.

    Args:
        operators: The API.
        accepted: What was written and its revision, in order.
    """

    operators: Operators
    accepted: list[tuple[int, int]] = field(default_factory=list)
    _number: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)
    _turn: threading.RLock = field(default_factory=threading.RLock)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Write nothing for the length of the block."""
        with self._turn:
            yield

    @contextlib.contextmanager
    def writing(self) -> Iterator[Writer]:
        """Write for the length of the block."""
        thread = threading.Thread(target=self._write, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._ended.set()
            thread.join(90)

    def _write(self) -> None:
        while not self._ended.wait(EVERY_S):
            self.once()

    def once(self) -> Json | None:
        """Change the policy once; the answer if it was accepted, None if not or if nobody knows."""
        with self._turn:
            return self._once()

    def _once(self) -> Json | None:
        self._number += 1
        wish = {"tools": ["nothing_*"], "per_s": float(self._number), "burst": 1, "reason": "chaos"}
        with contextlib.suppress(httpx.HTTPError, StopIteration):
            answer = self.operators.answer("PUT", "/v1/clients/written/limits/count", wish)
            if answer.is_success:
                done = cast("Json", answer.json())
                if done["changed"]:
                    self.accepted.append((self._number, done["revision"]))
                return done
        return None

    def broken(self) -> list[str]:
        """What became of accepted changes that should not have."""
        found = self.operators.ask("GET", "/v1/clients/written")
        (limit,) = [one for one in found["client"]["limits"] if one["name"] == "count"]
        kept: set[int] = set()
        before = ""
        oldest = min((revision for _, revision in self.accepted), default=0)
        while True:
            page = self.operators.ask("GET", f"/v1/state/history?limit=200{before}")
            numbers = [record["revision"] for record in page["records"]]
            kept.update(numbers)
            if not numbers or min(numbers) <= oldest:
                break
            before = f"&before={min(numbers)}"
        said = [f"revision {revision} was accepted and is not in the history" for _, revision in self.accepted
                if revision not in kept]  # fmt: skip
        revisions = [revision for _, revision in self.accepted]
        if len(set(revisions)) != len(revisions):
            said.append("two changes were accepted under one revision")
        if self.accepted and limit["per_s"] < self.accepted[-1][0]:
            said.append(f"{self.accepted[-1][0]} was accepted last, and {limit['per_s']:g} is in the policy")
        return said
