"""Operators and their tokens: who a bearer is, and the verbs that make and end tokens.

Operators lie in a table of the policy (`tekup/operators/`), so each change of them is a revision with a record; what
the record says of them has no content, and no rollback brings a token back. They are read afresh for every call: a
token that is revoked is refused by every replica from then on.
"""

from __future__ import annotations

import hmac
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from control_plane.desired import Documents
from control_plane.errors import Conflict, Refused, TekupError
from control_plane.model import Document, Name, Table, Time, compact_json
from control_plane.outcome import Outcome, Wish
from control_plane.page import Page, found
from control_plane.ports import Store, Write
from control_plane.roles import (
    BUILT_IN,
    NewToken,
    Operator,
    OperatorDocument,
    OperatorToken,
    Role,
    TokenState,
    digest,
    new_token,
)
from control_plane.state import CarryOut

log = logging.getLogger(__name__)

USED_PREFIX = "tekup/state/operators-used/"
KEEP_USE_S = 60
"""The last use of a token is written down again when it is so much newer."""
TOKEN = re.compile(r"to_([0-9a-f]{10})_[0-9a-f]{48}")


class Used(Document):
    """When a token was last shown."""

    operator: Name
    at: Time


@dataclass(frozen=True)
class Change:
    """What is to change of an operator; None stays as it is."""

    role: Role | None = None
    services: tuple[str, ...] | None = None


class Operators:
    """All operators.

    Args:
        store: Where they lie.
        carry_out: Makes a change and waits until it is in force.
        now: Seconds since the epoch.
    """

    def __init__(self, store: Store, carry_out: CarryOut, now: Callable[[], float]) -> None:
        self._store = store
        self._carry_out = carry_out
        self.now = now
        self._built_in = ""
        self._used: dict[str, int] = {}

    def trust(self, token: str) -> None:
        """Take whoever shows this token for the built-in admin; it needs no store, so it works when Consul is away."""
        self._built_in = token

    async def of(self, token: str) -> Operator | None:
        """Who a bearer is.

        Args:
            token: Its text.

        Returns:
            None where it is nobody's, or not good any more.

        Raises:
            Unavailable: Consul, who knows it, does not answer.
        """
        if self._built_in and hmac.compare_digest(token.encode(), self._built_in.encode()):
            return Operator(BUILT_IN, Role.ADMIN)
        shape = TOKEN.fullmatch(token)
        if shape is None:
            return None
        for document in (await self.all()).values():
            for one in document.tokens:
                if one.id == shape[1] and self._lets_in(one, token):
                    await self._note_use(document.name, one.id)
                    return Operator(document.name, document.role, document.services)
        return None

    def _lets_in(self, one: OperatorToken, token: str) -> bool:
        return hmac.compare_digest(one.hash, digest(token)) and one.state(self.now()) is TokenState.GOOD

    async def all(self) -> Mapping[str, OperatorDocument]:
        """Every operator, by name, read afresh. One that makes no sense lets nobody in, and is logged."""
        found_ones = {}
        prefix = Table.OPERATORS.prefix
        for name, entry in sorted((await self._store.read(prefix)).entries.items()):
            try:
                found_ones[name] = OperatorDocument.stored(entry.value, prefix, name)
            except Refused as error:
                log.warning("operators.ignored", extra={"why": str(error)})
        return found_ones

    async def uses(self) -> Mapping[str, int]:
        """When each token was last shown, to a minute, by its id; in seconds since the epoch."""
        seen = dict(self._used)
        for token, entry in (await self._store.read(USED_PREFIX)).entries.items():
            at = Used.parse(entry.value, USED_PREFIX + token).at
            seen[token] = max(at, seen.get(token, 0))
        return seen

    async def _note_use(self, name: str, token: str) -> None:
        now = int(self.now())
        if now - self._used.get(token, 0) < KEEP_USE_S:
            return
        self._used[token] = now
        try:
            # Any replica is shown tokens, so this is the one thing here that is written without leading.
            await self._store.commit([Write(USED_PREFIX + token, Used(operator=name, at=now).to_bytes())])
        except TekupError as error:
            log.warning("operators.use_not_kept", extra={"why": str(error)})

    async def add(
        self, name: str, role: Role, services: tuple[str, ...], expires_s: int, wish: Wish
    ) -> tuple[NewToken, Outcome]:
        """Add an operator with a token, whose text is returned once and kept nowhere.

        Raises:
            Conflict: There is one of that name with a token that is good.
        """
        made = new_token(self.now(), self._end(expires_s))
        fields = {"name": name, "role": role, "services": services}
        parsed = OperatorDocument.parse(compact_json(fields), f"operator {name}")

        def change(page: Page) -> Documents:
            there = page.find(Table.OPERATORS, name, OperatorDocument)
            if there and there.good(self.now()):
                raise Conflict(
                    f"operator {name} exists; change it (tekup operators set {name}), or give it a new token (tekup"
                    f" operators rotate {name})"
                )
            return {(Table.OPERATORS, name): parsed.with_token(made.document, 0, self.now())}

        return made, await self._carry_out("operator.add", wish, change, rights=False)

    async def change(self, name: str, wanted: Change, wish: Wish) -> Outcome:
        """Give an operator another role or other services; their tokens stay."""

        def change(page: Page) -> Documents:
            there = found(page.find(Table.OPERATORS, name, OperatorDocument), f"operator {name}")
            role = there.role if wanted.role is None else wanted.role
            services = there.services if wanted.services is None else wanted.services
            return {(Table.OPERATORS, name): there.model_copy(update={"role": role, "services": services})}

        return await self._carry_out("operator.set", wish, change, rights=False)

    async def rotate(self, name: str, overlap_s: int, expires_s: int, wish: Wish) -> tuple[NewToken, Outcome]:
        """Give an operator a new token; those they have end after the overlap, with none at once."""
        made = new_token(self.now(), self._end(expires_s))

        def change(page: Page) -> Documents:
            there = found(page.find(Table.OPERATORS, name, OperatorDocument), f"operator {name}")
            until_s = int(self.now()) + overlap_s
            return {(Table.OPERATORS, name): there.with_token(made.document, until_s, self.now())}

        return made, await self._carry_out("operator.rotate", wish, change, rights=False)

    async def revoke(self, name: str, wish: Wish) -> Outcome:
        """Revoke every token of an operator, for good."""

        def change(page: Page) -> Documents:
            there = found(page.find(Table.OPERATORS, name, OperatorDocument), f"operator {name}")
            return {(Table.OPERATORS, name): there.revoked(self.now())}

        return await self._carry_out("operator.revoke", wish, change, rights=False)

    def _end(self, expires_s: int) -> int:
        if expires_s and expires_s <= self.now():
            raise Refused(f"expires: {expires_s} lies in the past")
        return expires_s
