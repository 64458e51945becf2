"""Changes that are asked for twice under one key (`Idempotency-Key`) and made once.

The leader writes down that it begins, and afterwards what it answered; both lie in Consul, so whoever leads next knows
them. A leader that dies in between leaves a beginning without an answer: then the history tells whether the change was
made, since its record names the call. Answers are sealed by what follows from the operator's own token: the answer
that holds a new key's text opens for nobody but who asked for it.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import time
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field

from cryptography.fernet import Fernet, InvalidToken
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from control_plane.errors import Conflict, Refused, TekupError, UnderWay
from control_plane.history import History
from control_plane.kept import ASKED_PREFIX, REVISION_KEY
from control_plane.leadership import Leadership
from control_plane.model import Document, Revision
from control_plane.ports import Store, Write

log = logging.getLogger(__name__)

KEEP_S = 86_400
MOST = 1000
MOST_EACH = 200
"""Calls that are remembered of one operator; of more the oldest is forgotten."""
MOST_ANSWER_BYTES = 16_000
LOOKED_AT = 100
"""Records of the history that are read at once to find what a dead leader made."""
MOST_LOOKED_AT = 2000

ASKED: ContextVar[str] = ContextVar("asked", default="")
"""The call that this task carries out; stands in the records of what it writes."""


class Remembered(Document):
    """A call as Consul holds it.

    Attributes:
        operator: Whose it was.
        request: sha256 of what was asked for.
        at: When, in seconds since the epoch.
        epoch: Of the revision when it began.
        revision: Its number; -1 before the first.
        status: Of the answer, 0 while there is none.
        answer: The answer, sealed; "" where it was too large to keep.
    """

    operator: str
    request: str
    at: float
    epoch: int
    revision: int
    status: int = 0
    answer: str = ""


@dataclass(frozen=True)
class Call:
    """A change somebody asks for.

    Attributes:
        operator: Who.
        token: Their bearer.
        key: What they call it.
        request: What they ask for, as bytes that differ where it does.
    """

    operator: str
    token: str = field(repr=False)
    key: str
    request: bytes = field(repr=False)

    @property
    def name(self) -> str:
        """Tells it from all others; says nothing of the key."""
        return hashlib.sha256(f"{self.operator}\0{self.key}".encode()).hexdigest()[:32]

    @property
    def digest(self) -> str:
        """Tells what is asked for from everything else."""
        return hashlib.sha256(self.request).hexdigest()

    def box(self) -> Fernet:
        """Seals its answer."""
        derived = HKDF(SHA256(), 32, salt=None, info=b"tekup answer " + self.name.encode()).derive(self.token.encode())
        return Fernet(base64.urlsafe_b64encode(derived))


@dataclass(frozen=True)
class Answer:
    """What was answered before."""

    status: int
    body: bytes


class Once:
    """The calls that are remembered.

    Args:
        store: Where they lie.
        leadership: Whether we may write them.
        now: Seconds since the epoch.
        most: How many of all operators.
        most_each: How many of one.
    """

    def __init__(
        self,
        store: Store,
        leadership: Leadership,
        now: Callable[[], float] = time.time,
        *,
        most: int = MOST,
        most_each: int = MOST_EACH,
    ) -> None:
        self._store = store
        self._leadership = leadership
        self._history = History(store)
        self._now = now
        self._most = most
        self._most_each = most_each
        self._running: set[str] = set()
        self._session = ""
        self._known: dict[str, tuple[str, float]] = {}

    async def begin(self, call: Call) -> Answer | None:
        """Begin a call that is made under a key.

        Returns:
            What was answered before; None if it is to be carried out now. Then :meth:`end` or :meth:`leave` follows.

        Raises:
            UnderWay: It is being carried out.
            Refused: The key stands for another request.
            Conflict: It was carried out, and its answer is not there any more.
            NotLeader: We do not lead.
            Unavailable: Consul does not answer; nothing was done.
        """
        fence = self._leadership.fence()
        if call.name in self._running:
            raise UnderWay(f"the call of Idempotency-Key {call.key} is under way; ask again to be told its answer")
        self._running.add(call.name)
        try:
            entry = (await self._store.read(ASKED_PREFIX + call.name)).entries.get("")
            before = Remembered.parse(entry.value, "a call that was remembered") if entry else None
            if before and before.at < self._now() - KEEP_S:
                before = None
            if before and (answered := await self._answered(call, before)):
                self._running.discard(call.name)
                return answered
            await self._know(fence.session)
            revision = await self._revision()
            mine = Remembered(
                operator=call.operator,
                request=call.digest,
                at=self._now(),
                epoch=revision.epoch if revision else 0,
                revision=revision.number if revision else -1,
            )
            writes = [Write(ASKED_PREFIX + call.name, mine.to_bytes(), entry.index if entry else 0)]
            await self._store.commit([*writes, *self._forgotten(call)], fence)
            self._known[call.name] = call.operator, mine.at
        except BaseException:
            self._running.discard(call.name)
            raise
        return None

    async def answered(self, operator: str, token: str, key: str) -> Answer | None:
        """What a call under a key was answered, whatever it asked for; nothing begins by this, and anybody may look.

        Args:
            operator: Whose it was.
            token: Their bearer.
            key: What they called it.

        Returns:
            The answer, its body empty where that was too large to keep, its status 0 while it is under way (or was,
            when a leader died); None: there is none, or none for that bearer.

        Raises:
            Unavailable: Consul does not answer.
        """
        call = Call(operator, token, key, b"")
        entry = (await self._store.read(ASKED_PREFIX + call.name)).entries.get("")
        before = Remembered.parse(entry.value, "a call that was remembered") if entry else None
        if before is None or before.at < self._now() - KEEP_S:
            return None
        try:
            return Answer(before.status, call.box().decrypt(before.answer.encode()) if before.answer else b"")
        except InvalidToken:
            return None

    async def _answered(self, call: Call, before: Remembered) -> Answer | None:
        if before.request != call.digest:
            raise Refused(
                f"Idempotency-Key {call.key} stands for another request; nothing was done. Give each request a key of"
                " its own"
            )
        if before.status and before.answer:
            try:
                return Answer(before.status, call.box().decrypt(before.answer.encode()))
            except InvalidToken:
                raise Conflict(
                    f"the call of Idempotency-Key {call.key} was carried out (status {before.status}) for another token"
                    " of yours, which alone opens the answer; nothing was done now"
                ) from None
        if before.status:
            raise Conflict(
                f"the call of Idempotency-Key {call.key} was carried out (status {before.status}); its answer was too"
                " large to keep; nothing was done now"
            )
        if number := await self._made(call.name, before):
            raise Conflict(
                f"the call of Idempotency-Key {call.key} was carried out as revision {number}; its answer was lost with"
                " the leader of then, and nothing was done now. A key or token that it made is known to nobody: revoke"
                " it, and make another under a new Idempotency-Key"
            )
        return None

    async def _made(self, name: str, before: Remembered) -> int:
        """The revision that a call has made whose leader did not come to answer; 0 for none."""
        newest = await self._revision()
        if newest is None:
            return 0
        oldest = before.revision if newest.epoch == before.epoch else -1
        below = newest.number + 1
        for _ in range(MOST_LOOKED_AT // LOOKED_AT):
            records = await self._history.page(newest, below=below, limit=min(LOOKED_AT, max(1, below - oldest - 1)))
            for record in records:
                if record.asked == name and record.number > oldest:
                    return record.number
            below = min((record.number for record in records), default=0)
            if below <= oldest + 1:
                return 0
        raise Conflict("so much has changed since that it is not known whether it was carried out; look at the history")

    async def end(self, call: Call, answer: Answer) -> None:
        """Remember what was answered; a refusal is forgotten, since nothing was done.

        Never raises: what cannot be written down is found in the history.
        """
        try:
            if 200 <= answer.status < 300:
                sealed = call.box().encrypt(answer.body).decode() if len(answer.body) <= MOST_ANSWER_BYTES else ""
                key = ASKED_PREFIX + call.name
                entry = (await self._store.read(key)).entries.get("")
                if entry:
                    began = Remembered.parse(entry.value, key)
                    held = began.model_copy(update={"status": answer.status, "answer": sealed})
                    await self._store.commit([Write(key, held.to_bytes(), entry.index)], self._leadership.fence())
            else:
                await self._forget([call.name])
        except TekupError as error:
            log.warning("asked.answer_not_kept", extra={"why": str(error)})
        finally:
            self.leave(call)

    def leave(self, call: Call) -> None:
        """Nobody knows what became of it; who asks again has it looked up."""
        self._running.discard(call.name)

    async def _forget(self, names: Iterable[str]) -> None:
        writes = [Write(ASKED_PREFIX + name, None) for name in names]
        await self._store.commit(writes, self._leadership.fence())
        for name in names:
            self._known.pop(name, None)

    async def _revision(self) -> Revision | None:
        entry = (await self._store.read(REVISION_KEY)).entries.get("")
        return Revision.parse(entry.value, REVISION_KEY) if entry else None

    async def _know(self, session: str) -> None:
        """Learn once of each leadership what is remembered."""
        if session == self._session:
            return
        known = {}
        for name, entry in (await self._store.read(ASKED_PREFIX)).entries.items():
            try:
                one = Remembered.parse(entry.value, ASKED_PREFIX + name)
                known[name] = one.operator, one.at
            except Refused:
                known[name] = "", 0.0  # of another version: the first to be forgotten
        self._known, self._session = known, session

    def _forgotten(self, call: Call) -> list[Write]:
        """What goes to make room for a call."""
        now_s = self._now()
        idle = sorted((at, name) for name, (_, at) in self._known.items() if name not in self._running)
        own = [name for _, name in idle if self._known[name][0] == call.operator]
        gone = {name for at, name in idle if at < now_s - KEEP_S}
        gone |= set(own[: max(0, len(own) + 1 - self._most_each)])
        gone |= {name for _, name in idle[: max(0, len(self._known) + 1 - self._most)]}
        lot = sorted(gone)[:50]
        for name in lot:
            self._known.pop(name)
        return [Write(ASKED_PREFIX + name, None) for name in lot]
