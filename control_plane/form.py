"""Which form the state in Consul has, and how it comes to a newer one.

A form is raised by an operator's word, once every replica is of the new version: until then both versions read and
write what lies there, and the way back is open. Afterwards a replica that does not know the form does not lead.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

import httpx
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from control_plane.errors import Refused
from control_plane.kept import SCHEMA_KEY
from control_plane.ports import Fence, Store, Write

SCHEMA = 1
"""The form that this version writes once it was raised, and the newest it understands."""
ASK_S = 3.0


class Form(BaseModel):
    """What lies in Consul; of a later version it may hold more.

    Attributes:
        version: The form's number.
        platform: Which version of the platform raised it.
        at: When, in seconds since the epoch.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    version: int = Field(default=1, ge=1)
    platform: str = ""
    at: float = 0.0


@dataclass(frozen=True)
class Migration:
    """One step, from the form before it.

    Attributes:
        what: What it changes, for people.
        step: Given everything below `tekup/`, what to write; again it has to give the same.
    """

    what: str
    step: Callable[[Mapping[str, bytes]], Sequence[Write]]


MIGRATIONS: Mapping[int, Migration] = {}
"""By the form that each leads to; add one with each raised SCHEMA."""


async def form_of(store: Store) -> tuple[Form, int]:
    """The form of what lies in Consul, and the index that guards its next write.

    Raises:
        Refused: It makes no sense.
    """
    entry = (await store.read(SCHEMA_KEY)).entries.get("")
    if entry is None:
        return Form(), 0
    return form_from(entry.value), entry.index


def form_from(raw: bytes) -> Form:
    """The form as it is stored.

    Raises:
        Refused: It makes no sense.
    """
    try:
        return Form.model_validate_json(raw)
    except ValidationError as error:
        raise Refused(
            f"{SCHEMA_KEY} in Consul makes no sense ({error.error_count()} errors); restore a backup"
        ) from error


def too_new(form: Form, known: int = SCHEMA) -> str:
    """Why a replica must not write where the state has this form; "" if it may."""
    if form.version <= known:
        return ""
    return (
        f"the state in Consul has form {form.version}, of TekUp MCP {form.platform or 'of a later version'}, and this"
        f" version knows form {known}: it does not lead. Run that version or a later one, or restore the backup from"
        " before the upgrade"
    )


@dataclass(frozen=True)
class Raised:
    """What became of raising.

    Attributes:
        before: The form there was.
        after: The form there is, or of a dry run would be.
        steps: What was changed, a sentence each.
    """

    before: int
    after: int
    steps: tuple[str, ...]


class Raising:
    """Raises the form, as the leader.

    Args:
        store: Where the state lies.
        fence: Proves that we lead.
        platform: Our version.
        known: The form to raise to.
        migrations: The steps.
    """

    def __init__(
        self,
        store: Store,
        fence: Callable[[], Fence],
        platform: str,
        known: int = SCHEMA,
        migrations: Mapping[int, Migration] = MIGRATIONS,
    ) -> None:
        self._store = store
        self._fence = fence
        self._platform = platform
        self._known = known
        self._migrations = migrations

    async def carry_out(self, older: Callable[[], Awaitable[Sequence[str]]], *, dry_run: bool = False) -> Raised:
        """Raise the form, one step and one transaction after the other; what was interrupted goes on where it was.

        Args:
            older: Names replicas that do not know the form yet.
            dry_run: Only say what would be done.

        Raises:
            Refused: A replica does not know the form yet, or the state has a newer one.
        """
        form, index = await form_of(self._store)
        if problem := too_new(form, self._known):
            raise Refused(problem)
        wanted = range(form.version + 1, self._known + 1)
        steps = tuple(self._migrations[number].what for number in wanted)
        if not wanted or dry_run:
            return Raised(form.version, self._known, steps)
        if behind := await older():
            raise Refused(
                f"{', '.join(behind)} run a version that does not know form {self._known}; upgrade or stop them first:"
                " after this they could not lead any more"
            )
        for number in wanted:
            there = {f"tekup/{name}": one.value for name, one in (await self._store.read("tekup/")).entries.items()}
            now = Form(version=number, platform=self._platform, at=time.time())
            writes = [*self._migrations[number].step(there), Write(SCHEMA_KEY, now.model_dump_json().encode(), index)]
            await self._store.commit(writes, self._fence())
            index = (await form_of(self._store))[1]
        return Raised(form.version, self._known, steps)


async def behind(http: httpx.AsyncClient, urls: Mapping[str, str], known: int = SCHEMA) -> list[str]:
    """Which replicas do not know a form, or do not say.

    Args:
        http: Asks them.
        urls: Each replica's, by name.
        known: The form.
    """
    found = []
    for name, url in urls.items():
        try:
            said = (await http.get(f"{url}/ready", timeout=ASK_S)).json()
            knows = int(said.get("form", 1))
        except (httpx.HTTPError, ValueError, TypeError, AttributeError):
            knows = 0
        if knows < known:
            found.append(name)
    return found
