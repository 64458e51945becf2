"""Live state as Server-Sent Events: what changed, in a ring of bounded length that a listener can resume from.

Every replica watches for itself, so any of them can be listened to. An event says what changed and never carries all
of it: whoever listens reads the API again. Ids are `<run>-<number>`; a run is one process, so that an id of another
replica, or one that has left the ring, is answered with `reset` instead of with a gap that nobody sees.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
from collections import deque
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from control_plane.errors import Refused, Unavailable
from control_plane.kept import REVISION_KEY, ROLLOUTS_PREFIX
from control_plane.leadership import LEADER_KEY
from control_plane.loop import ControlPlane
from control_plane.model import Revision
from control_plane.ports import Entry, Store
from control_plane.rollout import Rollout
from control_plane.watch import WATCH_S, follow

KEPT = 1000
MOST_LISTENERS = 200
HEARTBEAT_S = 15.0
LONGEST_S = 900.0
"""A stream ends after so long and the listener comes again: then its token is looked at again."""
AGAIN_MS = 2000
LOOK_S = 0.5
"""How often what lies in memory is compared: instances, gates."""
KINDS: Mapping[str, str] = {
    "revision": "the policy was changed",
    "rollout": "a rollout moved",
    "look": "a rollout's calls were looked at, or its sentence changed",
    "instance": "an instance came, went or changed",
    "gate": "a gate reported otherwise, or its agent came or went",
    "leader": "another replica leads, or none",
    "store": "Consul answers this replica no more, or again",
    "reset": "events were missed: read everything again",
}
"""What an event can be about, and when there is one."""
Fields = Mapping[str, object]
Parts = dict[tuple[str, str], Fields]


@dataclass(frozen=True)
class Event:
    """One change.

    Attributes:
        number: Counts the events of this process.
        kind: One of `KINDS`, but `reset`, which is told to one listener alone.
        fields: What it is about and how it is now.
    """

    number: int
    kind: str
    fields: Fields


class TooMany(Exception):
    """As many listen as may."""


class Events:
    """What changes, for whoever listens.

    Args:
        plane: Knows instances, gates and who leads.
        store: Where policy and rollouts lie.
        kept: How many events can be resumed from.
        most: How many may listen at a time.
    """

    def __init__(self, plane: ControlPlane, store: Store, *, kept: int = KEPT, most: int = MOST_LISTENERS) -> None:
        self._plane = plane
        self._store = store
        self._run = secrets.token_hex(4)
        self._ring: deque[Event] = deque(maxlen=kept)
        self._count = 0
        self._news = asyncio.Event()
        self._most = most
        self.listening = 0
        self._known: dict[str, Parts] = {}
        self._answers = True

    async def run(self) -> None:
        """Watch for ever."""
        async with asyncio.TaskGroup() as tasks:
            for key, parsed in ((REVISION_KEY, _revision), (ROLLOUTS_PREFIX, _rollout), (LEADER_KEY, _leader)):
                tasks.create_task(self._follow(key, parsed))
            tasks.create_task(self._look())

    async def _follow(self, prefix: str, parsed: Callable[[str, Entry], Mapping[str, Fields]]) -> None:
        async def read(after: int) -> int:
            try:
                listing = await self._store.read(prefix, after=after, wait_s=WATCH_S)
            except Unavailable:
                self._answered(answers=False)
                raise
            self._answered(answers=True)
            parts: Parts = {}
            for name, entry in listing.entries.items():
                with contextlib.suppress(Refused):  # what makes no sense is told by those who need it
                    parts |= {(kind, name): fields for kind, fields in parsed(name, entry).items()}
            self._compare(prefix, parts)
            return listing.index

        await follow(read, f"events of {prefix}")

    def _answered(self, *, answers: bool) -> None:
        if answers != self._answers:
            self._answers = answers
            self.tell("store", {"answers": answers})

    async def _look(self) -> None:
        while True:
            self._compare("memory", self._in_memory())
            await asyncio.sleep(LOOK_S)

    def _in_memory(self) -> Parts:
        parts: Parts = {
            ("instance", f"{one.service}/{one.version}/{one.id}"): {
                "service": one.service,
                "version": one.version,
                "id": one.id,
                "state": one.state.value,
                "passing": one.passing,
            }
            for one in self._plane.instances()
        }
        for name, gate in self._plane.gates.all.items():
            report = gate.report
            fields = {"id": name, "live": gate.live, "epoch": report.epoch, "revision": report.number}
            parts["gate", name] = {**fields, "problems": len(report.problems)}
        return parts

    def _compare(self, source: str, parts: Parts) -> None:
        """Tell what is otherwise than before; nothing at the first look, since nobody knew anything."""
        before = self._known.get(source)
        self._known[source] = parts
        if before is None:
            return
        for (kind, name), fields in parts.items():
            if before.get((kind, name)) != fields:
                self.tell(kind, fields)
        for kind, name in before.keys() - parts.keys():
            self.tell(kind, {**before[kind, name], "gone": True})

    def tell(self, kind: str, fields: Fields) -> None:
        """Something has changed."""
        self._count += 1
        self._ring.append(Event(self._count, kind, fields))
        self._news.set()
        self._news = asyncio.Event()

    async def listen(self, last_id: str = "", longest_s: float = LONGEST_S) -> AsyncGenerator[str, None]:
        """What changes from now on, or since an event, as lines of an event stream.

        Args:
            last_id: Of the last event that was heard; "" for none.
            longest_s: After so long the stream ends.

        Raises:
            TooMany: As many listen as may.
        """
        if self.listening >= self._most:
            raise TooMany(f"{self._most} listen already, which is as many as may; ask again in some seconds")
        self.listening += 1
        try:
            async with contextlib.aclosing(self._told(last_id, longest_s)) as told:
                async for text in told:
                    yield text
        finally:
            self.listening -= 1

    async def _told(self, last_id: str, longest_s: float) -> AsyncGenerator[str, None]:
        clock = asyncio.get_running_loop().time
        until_s, heard = clock() + longest_s, self._place(last_id)
        yield f"retry: {AGAIN_MS}\n\n"
        while clock() < until_s:
            news = self._news
            if heard is None or (self._ring and heard < self._ring[0].number - 1):
                heard = self._count
                yield _line(f"{self._run}-{heard}", "reset", {"why": "events were missed; read everything again"})
            for event in [one for one in self._ring if one.number > heard]:
                heard = event.number
                yield _line(f"{self._run}-{event.number}", event.kind, event.fields)
            try:
                async with asyncio.timeout(min(HEARTBEAT_S, max(0.0, until_s - clock()))):
                    await news.wait()
            except TimeoutError:
                yield ": still here\n\n"

    def _place(self, last_id: str) -> int | None:
        """The number of the event that was heard last; None if that cannot be resumed from."""
        if not last_id:
            return self._count
        run, _, number = last_id.partition("-")
        known = run == self._run and number.isascii() and number.isdecimal() and len(number) <= 15
        return int(number) if known and int(number) <= self._count else None


def _line(event_id: str, kind: str, fields: Fields) -> str:
    return f"id: {event_id}\nevent: {kind}\ndata: {json.dumps(fields, separators=(',', ':'))}\n\n"


def _revision(name: str, entry: Entry) -> Mapping[str, Fields]:
    if name:
        raise Refused(f"{REVISION_KEY}{name} is no revision")
    revision = Revision.parse(entry.value, REVISION_KEY)
    return {"revision": {"epoch": revision.epoch, "revision": revision.number}}


def _rollout(name: str, entry: Entry) -> Mapping[str, Fields]:
    """Where it is, and apart from that what was seen at a look, which comes each few seconds and concerns few."""
    one = Rollout.parse(entry.value, f"rollout {name}")
    place = one.model_dump(mode="json", include={"service", "number", "canary", "phase", "step"})
    look = one.model_dump(mode="json", include={"service", "number", "said", "looked"})
    return {"rollout": {**place, "health": one.phase.health}, "look": look}


def _leader(_: str, entry: Entry) -> Mapping[str, Fields]:
    try:
        shown = json.loads(entry.value)
    except ValueError as error:
        raise Refused(f"{LEADER_KEY}: {error}") from error
    return {"leader": {"leader": shown.get("replica", "") if entry.session and isinstance(shown, dict) else ""}}


async def stream(events: Events, request: Request) -> Response:
    """A stream of events as an answer; the listener says in `Last-Event-ID` what it heard last.

    Raises:
        TooMany: As many listen as may.
    """
    told = events.listen(request.headers.get("last-event-id", ""))
    first = await anext(told)  # before the answer begins, so that a refusal still can be one

    async def body() -> AsyncGenerator[str, None]:
        async with contextlib.aclosing(told):
            yield first
            async for text in told:
                yield text

    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(body(), media_type="text/event-stream", headers=headers)
