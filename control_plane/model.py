"""The nouns of the control plane, as frozen values, parsed and checked once at the boundary.

What stands here is what Consul holds (``docs/contracts.md``): field names and their order are part of the contract.
No I/O, no clock.
"""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    field_validator,
    model_validator,
)

from control_plane.errors import Refused

SERVICE_NAME = r"^[a-z][a-z0-9-]{0,31}$"
ServiceName = Annotated[str, StringConstraints(pattern=SERVICE_NAME)]
Version = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z.]{1,32}$")]
InstanceId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{6}$")]
NAME = r"^[a-z0-9][a-z0-9-]{0,62}$"
Name = Annotated[str, StringConstraints(pattern=NAME)]
# Of glob signs only `*` means anything, so that others cannot be thought to.
Glob = Annotated[str, StringConstraints(pattern=r"^[!-Z^-z|~]{1,256}$")]
Host = Annotated[
    str, StringConstraints(pattern=r"^([A-Za-z0-9][A-Za-z0-9.-]{0,252}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?$")
]
ONE_LINE = r"^[^\x00-\x1f\x7f]*$"
Root = Annotated[str, StringConstraints(pattern=ONE_LINE, min_length=1, max_length=1024)]
Line = Annotated[str, StringConstraints(pattern=ONE_LINE, max_length=200)]
Bearers = Annotated[
    str, StringConstraints(pattern=r"^https?://[A-Za-z0-9._~:/%\[\]-]{1,255}(#[!-~]{1,255})?$", max_length=512)
]
Time = Annotated[int, Field(ge=0, le=253_402_300_799)]
"""Whole seconds since the epoch, to the end of the year 9999."""

HUB = "hub"
"""The internal entrypoint leads to no hub, which would call back through it: nobody probes it or compares its lists."""
WEIGHT_TOLERANCE_PCT = 1e-6
SLOWEST_PER_S = 1 / 86_400


class Document(BaseModel):
    """A value that is stored as one JSON document."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def to_bytes(self) -> bytes:
        """Compact JSON, fields in the order of their declaration."""
        return self.model_dump_json().encode()

    @classmethod
    def parse(cls, raw: bytes | str, where: str) -> Self:
        """Parse a stored or received document.

        Args:
            raw: JSON text.
            where: What is being parsed, for the message (``policy of service browser``).

        Raises:
            Refused: Naming each field that is wrong and why.
        """
        try:
            return cls.model_validate_json(raw)
        except ValidationError as error:
            raise Refused(f"{where}: {problems_of(error)}") from error


def problems_of(error: ValidationError) -> str:
    """One line that names every wrong field of a validation error."""
    lines = []
    for problem in error.errors(include_url=False):
        path = ".".join(str(part) for part in problem["loc"])
        said = problem["msg"].removeprefix("Value error, ")
        lines.append(f"{path}: {said}" if path else said)
    return "; ".join(lines)


class Stored(Document):
    """A document of a table; it lies in Consul under its own name."""

    @property
    @abstractmethod
    def key(self) -> str:
        """That name."""

    @classmethod
    def stored(cls, raw: bytes, prefix: str, name: str) -> Self:
        """Parse a document of a table.

        Args:
            raw: JSON text.
            prefix: The table's prefix in Consul.
            name: What follows it.

        Raises:
            Refused: It makes no sense, or lies under another's name; says where, and what to do.
        """
        try:
            document = cls.parse(raw, f"{prefix}{name} in Consul")
        except Refused as error:
            raise Refused(f"{error}; {_BY_HAND}") from error
        if document.key != name:
            raise Refused(f"{prefix}{name} in Consul says it is {document.key!r}; {_BY_HAND}")
        return document


_BY_HAND = "put it right there or delete it (consul kv delete), then run `tekup state repair`"


class Lane(Document):
    """A share of a service's traffic that goes to one version."""

    version: Version
    weight_pct: Annotated[float, Field(ge=0, le=100)]


def whole_lanes(lanes: tuple[Lane, ...]) -> tuple[Lane, ...]:
    """Check that lanes share out everything, once per version.

    Raises:
        ValueError: Saying what is wrong; pydantic makes it part of its own message.
    """
    total = sum(lane.weight_pct for lane in lanes)
    if abs(total - 100) > WEIGHT_TOLERANCE_PCT:
        raise ValueError(f"weights sum to {total:g}, not 100")
    versions = [lane.version for lane in lanes]
    if len(set(versions)) != len(versions):
        raise ValueError("a version has more than one lane")
    return lanes


Lanes = Annotated[tuple[Lane, ...], AfterValidator(whole_lanes)]
Cohort = Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{0,63}$")]
Split = Literal["request", "client"]


class Rule(Document):
    """Calls of a service that go elsewhere than its others.

    Attributes:
        name: Unique within the service; the gate counts its share by it.
        tools: Globs on tool, prompt and resource names; none = every call.
        cohort: Clients of this cohort only; "" = every client.
        lanes: Where these calls go.
        mirror: Version that gets a copy of each of these calls and whose answers are dropped; "" = none.
    """

    name: Name
    tools: tuple[Glob, ...] = ()
    cohort: Cohort = ""
    lanes: Lanes
    mirror: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z.]{0,32}$")] = ""


class ServicePolicy(Stored):
    """Where the calls of a service go.

    Attributes:
        name: The service.
        stable: Lists and discovery come from it.
        lanes: Where calls go that no rule matches.
        split: Whether a lane is drawn for each request or for each client.
        closed: Versions that get nothing, not even calls on their handles.
        rules: The first that matches a call decides.
        salt: Makes `split: client` draw other clients first in each rollout.
    """

    name: ServiceName
    stable: Version
    lanes: Lanes
    split: Split = "request"
    closed: tuple[Version, ...] = ()
    rules: tuple[Rule, ...] = ()
    salt: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9.-]{0,64}$")] = ""

    @model_validator(mode="after")
    def _rules_have_different_names(self) -> Self:
        names = [rule.name for rule in self.rules]
        if len(set(names)) != len(names):
            raise ValueError("two rules have one name")
        return self

    @property
    def key(self) -> str:
        return self.name


class Limit(Document):
    """How often, and how often at once, a client may make some calls.

    Attributes:
        name: Unique within the client; refusals and metrics name it.
        tools: Globs on tool, prompt and resource names; none = everything the client sends to the public entrypoint.
        per_s: Calls per second on average; 0 = as many as it likes.
        burst: How many may come at one moment; 0 = what `per_s` gives in a second, one at least.
        concurrent: How many may be under way; 0 = as many as it likes.
    """

    name: Name
    tools: tuple[Glob, ...] = ()
    per_s: Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)] = 0
    burst: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    concurrent: Annotated[int, Field(ge=0, le=1_000_000)] = 0

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if not self.per_s and not self.concurrent:
            raise ValueError(f"limit {self.name} limits nothing; give per_s or concurrent")
        if self.per_s and self.per_s < SLOWEST_PER_S:
            raise ValueError(f"limit {self.name}: per_s is {self.per_s:g}, less than one call a day")
        if self.burst and not self.per_s:
            raise ValueError(f"limit {self.name}: burst says nothing without per_s")
        return self


class Access(StrEnum):
    """Which tools a client may call, by what they say of themselves (tool annotations)."""

    ALL = "all"
    NON_DESTRUCTIVE = "non-destructive"
    READ_ONLY = "read-only"


class ClientPolicy(Stored):
    """What one client may do.

    Attributes:
        allow: Globs on the tool, prompt and resource names it may use.
        access: Of the tools among these, those annotated as reading only, or as not destructive, or all.
        cohort: Whose rules it falls under.
        roots: Folders that narrow those of filesystem and search; none = all of them.
        hosts: Private hosts whose pages it may open.
        limits: How much it may use; a call that several cover needs room in each.
        oauth: Whose bearers count as this client: `<issuer>` for all of an authorization server's, or
            `<issuer>#<client id>` for those of one of its clients, which goes first.
    """

    id: Name
    allow: tuple[Glob, ...] = ("*",)
    access: Access = Access.ALL
    cohort: Cohort = ""
    roots: tuple[Root, ...] = ()
    hosts: tuple[Host, ...] = ()
    limits: Annotated[tuple[Limit, ...], Field(max_length=16)] = ()
    oauth: Annotated[tuple[Bearers, ...], Field(max_length=16)] = ()

    @model_validator(mode="after")
    def _limits_have_different_names(self) -> Self:
        names = [limit.name for limit in self.limits]
        if len(set(names)) != len(names):
            raise ValueError("two limits have one name")
        return self

    @property
    def key(self) -> str:
        return self.id


class Key(Stored):
    """One API key of a client; only the hash of its secret is kept, bare or sealed. A time of 0 means never."""

    id: Name
    client: Name
    hash: Annotated[str, StringConstraints(pattern=r"^([0-9a-f]{64}|sealed\.[0-9a-f]{8}\.[A-Za-z0-9_-]{80})$")]
    created: Time
    expires: Time = 0
    revoked: Time = 0
    label: Line = ""

    @property
    def key(self) -> str:
        return self.id


class Table(StrEnum):
    """The tables a policy consists of, and the Consul prefix each lies under."""

    SERVICES = "services"
    CLIENTS = "clients"
    KEYS = "keys"
    DELIVERY = "delivery"
    OPERATORS = "operators"
    RULES = "rules"
    AUTOSCALE = "autoscale"
    RECEIVERS = "receivers"

    @property
    def prefix(self) -> str:
        """Where the table's documents lie in Consul, with a trailing slash."""
        # What gates may read lies under tekup/policy/ and tekup/keys/.
        apart = self in (Table.KEYS, Table.OPERATORS, Table.RULES, Table.RECEIVERS)
        return f"tekup/{self.value}/" if apart else f"tekup/policy/{self.value}/"


SECRET_TABLES = (Table.KEYS, Table.OPERATORS)
"""What records name without its content, and no rollback brings back."""
GATE_TABLES = (Table.SERVICES, Table.CLIENTS, Table.KEYS)
"""What gates read. The rest of a revision is for the control plane alone."""


LATER_TABLES = (Table.RECEIVERS,)
"""Tables that versions beside this one need not know: a revision names them once there is anything in them."""


class TableSum(Document):
    """What a whole table looks like: its digest and how many documents it holds."""

    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    count: Annotated[int, Field(ge=0)]


MOST_NAMED = 64
MOST_STEPS_NAMED = 32


class Revision(Document):
    """The name of one state of the policy. Grows within an epoch; a restore or takeover makes a new epoch.

    Attributes:
        tables: What the tables look like; one that is not named is empty.
        changed: Keys in Consul that this revision has changed, then those of the one before, and so on; as far as they
            are few. Only a hint what to read anew: the digests decide.
    """

    epoch: Annotated[int, Field(ge=1)]
    number: Annotated[int, Field(ge=0)]
    tables: dict[Table, TableSum]
    changed: tuple[tuple[str, ...], ...] = ()

    @field_validator("tables")
    @classmethod
    def _named(cls, tables: dict[Table, TableSum]) -> dict[Table, TableSum]:
        return {table: found for table, found in tables.items() if found.count or table not in LATER_TABLES}

    def following(self, changed: Iterable[str], tables: Mapping[Table, TableSum] | None = None) -> Revision:
        """The next revision of the same epoch.

        Args:
            changed: Keys in Consul of what it changes.
            tables: What the tables look like after it; as before if left out.
        """
        named: list[tuple[str, ...]] = []
        for step in (tuple(changed), *self.changed):
            if len(named) == MOST_STEPS_NAMED or sum(map(len, named)) + len(step) > MOST_NAMED:
                break
            named.append(step)
        sums = dict(self.tables if tables is None else tables)
        return Revision(epoch=self.epoch, number=self.number + 1, tables=sums, changed=tuple(named))

    def changed_since(self, place: tuple[int, int]) -> frozenset[str]:
        """Keys in Consul that were changed since a revision, as far as it is known."""
        steps = self.number - place[1]
        if place[0] != self.epoch or not 0 <= steps <= len(self.changed):
            return frozenset()
        return frozenset(key for step in self.changed[:steps] for key in step)

    @property
    def place(self) -> tuple[int, int]:
        """Where it stands among all revisions; the greater is the newer."""
        return self.epoch, self.number


class Change(Document):
    """One document before and after a change; None where it did not exist."""

    key: str
    before: str | None
    after: str | None


class HistoryRecord(Document):
    """One accepted change: who, what, why, and the documents it touched.

    Attributes:
        at: Seconds since the epoch.
        changes: None here where they are too many for one value: then they lie in `parts` values of their own.
        touched: How many documents it touched.
        tables: What the tables look like after it, to check by; records of before this was kept have none.
        trace: The trace of the call that made it, 32 hex digits; "" where nothing is traced.
        asked: The call that made it, where it came with an `Idempotency-Key` (:mod:`control_plane.once`).
    """

    number: int
    epoch: int
    at: float
    author: str
    verb: str
    reason: str
    changes: tuple[Change, ...]
    parts: Annotated[int, Field(ge=0)] = 0
    touched: Annotated[int, Field(ge=0)] = 0
    tables: dict[Table, TableSum] = Field(default_factory=dict)
    trace: str = ""
    asked: str = ""


class GateReport(Document):
    """What a gate says it has in force.

    Attributes:
        revoked: Keys it refuses that the store does not show as revoked, and since when.
    """

    id: str
    epoch: int
    number: int
    at: float
    problems: tuple[str, ...] = ()
    revoked: dict[str, int] = Field(default_factory=dict)

    @property
    def place(self) -> tuple[int, int]:
        """Where the revision it has in force stands among all."""
        return self.epoch, self.number


class Replica(Document):
    """A replica of the control plane, as the others see it.

    Attributes:
        replica: Its name.
        url: Where its API is reached; the others send changes there while it leads.
    """

    replica: Name
    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$", max_length=256)]


@dataclass(frozen=True)
class Gate:
    """A gate as the leader sees it: its last report, and whether its agent's session lives."""

    report: GateReport
    live: bool


class InstanceState(StrEnum):
    """What an instance says of itself in its registration."""

    SERVING = "serving"
    DRAINING = "draining"


@dataclass(frozen=True, order=True)
class Instance:
    """One registered process of a service, as the catalog shows it."""

    service: str
    version: str
    id: str
    address: str
    port: int
    state: InstanceState = InstanceState.SERVING
    passing: bool = True
    # These two say nothing of where calls go, so an instance stays the same to whoever routes to it.
    started: str = field(default="", compare=False)
    """When its process began, "" = it did not say; another value is another process."""
    dead: bool = field(default=False, compare=False)
    """Whether Consul could not even connect to it."""

    @property
    def url(self) -> str:
        """Where the gate reaches it."""
        return f"http://{self.address}:{self.port}"

    @property
    def target(self) -> str:
        """The instance's own target."""
        return f"{version_target(self.service, self.version)}_{self.id}"

    @property
    def live(self) -> bool:
        """Whether it should get calls that nobody bound to it."""
        return self.passing and self.state is InstanceState.SERVING


@dataclass(frozen=True)
class Policy:
    """All policy of one revision, parsed."""

    revision: Revision
    services: dict[str, ServicePolicy]
    clients: dict[str, ClientPolicy]
    keys: dict[str, Key]


def version_target(service: str, version: str) -> str:
    """The target that stands for all instances of one version."""
    return f"{service}_{version.replace('.', '-')}"


def mirror_target(service: str, version: str, mirror: str) -> str:
    """The target of a version whose calls are copied to another."""
    return f"{version_target(service, version)}~{version_target(service, mirror)}"


def check_name(value: str, pattern: str, what: str) -> str:
    """Return the value if it fits the pattern.

    Raises:
        Refused: Naming the value and the pattern.
    """
    if not re.fullmatch(pattern, value):
        raise Refused(f"{what} {value!r} does not fit {pattern}")
    return value


def versions_of(instances: Iterable[Instance], service: str) -> set[str]:
    """Every version of the service that has a registered instance."""
    return {instance.version for instance in instances if instance.service == service}


def compact_json(value: object) -> str:
    """JSON without blanks, keys in the order given: the form that is signed and digested."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)
