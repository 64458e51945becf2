"""What the agent believes: which instances are there, and which policy is whole. Pure functions.

Consul is believed about arrivals at once. About departures only if the instance said so itself (draining), or Traefik's
own checks agree: a restarted Consul agent shows every check critical at first, and an empty one nothing. An instance
that lives keeps its handles, however unready it is; a draining one until it has deregistered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from control_plane.agent.reading import Reading, told
from control_plane.decide import keep_revocations
from control_plane.errors import Refused
from control_plane.model import (
    GATE_TABLES,
    ClientPolicy,
    Document,
    Instance,
    InstanceState,
    Key,
    Policy,
    Revision,
    ServicePolicy,
    Table,
)
from control_plane.traefik import Checks

D = TypeVar("D", bound=Document)
Tables = Mapping[Table, Mapping[str, bytes]]


def suspected(held: Iterable[Instance], seen: Iterable[Instance]) -> tuple[Instance, ...]:
    """Instances we route to and Consul no longer vouches for: Traefik has to be asked about these."""
    vouched = {_who(instance) for instance in seen if instance.passing}
    return tuple(one for one in held if _who(one) not in vouched)


def believed(held: Iterable[Instance], seen: Iterable[Instance], checks: Checks) -> tuple[Instance, ...]:
    """Instances to route to; those that are not live get only the calls on their handles.

    Args:
        held: Those we route to now.
        seen: What the catalog shows.
        checks: What Traefik finds itself.
    """
    catalog = {_who(instance): instance for instance in seen}
    taken = {instance.url for instance in catalog.values() if instance.passing}
    result = {who: one for who, one in catalog.items() if one.passing}
    for one in held:
        if _who(one) in result or one.url in taken or one.url in checks.dead:
            continue
        shown = catalog.get(_who(one))
        if shown is None and one.state is InstanceState.DRAINING:
            continue  # it said that it would leave, and has left
        passing = one.passing and one.url not in checks.unready
        result[_who(one)] = replace(one, state=shown.state if shown else one.state, passing=passing)
    return tuple(sorted(result.values()))


def _who(one: Instance) -> tuple[str, str]:
    # An id says nothing outside its service: another service's must not take this one's place.
    return one.service, one.id


@dataclass(frozen=True)
class Accepted:
    """A policy to put in force, and what was wrong with parts of it."""

    policy: Policy
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kept:
    """Why the policy in force stays.

    Attributes:
        problem: One sentence.
        passing: It may be over at the next answer: the parts of one change arrive by several reads.
    """

    problem: str
    passing: bool = False


@dataclass(frozen=True)
class Memory:
    """What outlives a restart of the agent.

    Attributes:
        policy: The last good one that was written down.
        revoked: Every revocation ever seen.
        seen: Epoch and number of the newest revision that stood in a table, which may be newer.
    """

    policy: Policy | None = None
    revoked: Mapping[str, int] = field(default_factory=dict)
    seen: tuple[int, int] = (0, 0)


def judge(
    revision_raw: bytes | None, tables: Tables, memory: Memory, reading: Reading | None = None
) -> Accepted | Kept:
    """Whether what Consul shows is a whole policy, and not an older one.

    Args:
        revision_raw: The revision document, None if there is none.
        tables: The raw documents.
        memory: What is in force now.
        reading: Reads documents, and knows those of before.
    """
    held, reading = memory.policy, reading or Reading()
    if revision_raw is None:
        if held is None:
            return Kept("Consul holds no policy yet", passing=True)
        return Kept(
            f"Consul holds no policy any more; this gate goes on with epoch {held.revision.epoch}"
            f" revision {held.revision.number} until a backup is restored"
        )
    try:
        revision = Revision.parse(revision_raw, "tekup/policy/revision")
    except Refused as error:
        return Kept(str(error))
    unfit = [table.value for table in GATE_TABLES if reading.sum(table, tables[table]) != revision.tables.get(table)]
    # Tables are read apart: what is said of an older state is said when all of it has been read, revocations as well.
    newest = max(held.revision.place, memory.seen) if held else (0, 0)
    if revision.place < newest:
        return Kept(
            f"Consul holds epoch {revision.epoch} revision {revision.number}, older than the"
            f" {newest[0]}/{newest[1]} in force; restore a newer backup, or accept this one with"
            " `tekup state repair`, which begins a new epoch",
            passing=bool(unfit),
        )
    if held and revision != held.revision and revision.place == held.revision.place:
        return Kept(
            f"Consul holds another epoch {revision.epoch} revision {revision.number} than the one in force: an older"
            " state was restored and changed; accept it with `tekup state repair`",
            passing=bool(unfit),
        )
    if unfit:
        return Kept(f"table {unfit[0]} does not fit revision {revision.number}", passing=True)
    return _parse(revision, tables, memory, reading)


def forgotten(keys: Mapping[str, bytes], revoked: Mapping[str, int]) -> dict[str, int]:
    """Revocations we remember of keys that the store shows as good."""
    found = {}
    for key_id, since in revoked.items():
        try:
            if key_id in keys and not Key.stored(keys[key_id], Table.KEYS.prefix, key_id).revoked:
                found[key_id] = since
        except Refused:
            continue  # it is nobody's key, so nobody is let in by it
    return found


def _parse(revision: Revision, tables: Tables, memory: Memory, reading: Reading) -> Accepted:
    held, problems = memory.policy, []
    parsed: dict[Table, dict[str, Document]] = {}
    for table in GATE_TABLES:
        parsed[table], refused = reading.table(table, tables[table])
        problems += told(refused)
        # A bad client or key is refused; only where traffic goes is the last good one better than none.
        for key in refused if table is Table.SERVICES and held else ():
            if held and key in held.services:
                parsed[table][key] = held.services[key]
    policy = Policy(
        revision,
        _only(ServicePolicy, parsed[Table.SERVICES]),
        _only(ClientPolicy, parsed[Table.CLIENTS]),
        keep_revocations(_only(Key, parsed[Table.KEYS]), memory.revoked),
    )
    return Accepted(policy, tuple(problems))


def _only(kind: type[D], documents: Mapping[str, Document]) -> dict[str, D]:
    return {key: document for key, document in documents.items() if isinstance(document, kind)}
