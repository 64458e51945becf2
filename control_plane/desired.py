"""From a wanted set of resources to the documents to write: the checks against the present state. Pure functions.

A set is checked as a whole, and every problem is said at once; nothing is written before all of it holds.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from control_plane import decide
from control_plane.errors import Refused
from control_plane.model import ClientPolicy, Instance, Lane, ServicePolicy, Stored, Table, versions_of
from control_plane.resources import KINDS, MOST_PROBLEMS, Place, Resource

Documents = dict[Place, Stored | None]
Present = Mapping[Place, Stored]


def wanted_documents(present: Present, wanted: Sequence[Resource], *, prune: bool) -> Documents:
    """What has to be written so that the present is as wanted.

    Args:
        present: All documents of today.
        wanted: The set. It speaks for the kinds it holds, and leaves the others alone.
        prune: Remove what the set leaves out of these kinds; without, such services are refused and others are kept.

    Raises:
        Refused: The set is empty, or leaves services out without saying so.
    """
    if not wanted:
        raise Refused("the set holds no resource; nothing was written. Name the directory that `tekup export` filled")
    documents: Documents = {resource.place: resource.document for resource in wanted}
    dropped = left_out(present, wanted)
    if prune:
        documents |= dict.fromkeys(dropped)
    elif whole := [key for table, key in dropped if KINDS[_kind(table)].whole]:
        names = ", ".join(whole)
        raise Refused(
            f"the set leaves out {'service' if len(whole) == 1 else 'services'} {names};"
            " add them (`tekup export` prints them), or drop them with --prune"
        )
    return documents


def left_out(present: Present, wanted: Iterable[Resource]) -> tuple[Place, ...]:
    """Documents of today that a set leaves out of the kinds it holds."""
    places = {resource.place for resource in wanted}
    spoken_for = {table for table, _ in places}
    return tuple(place for place in sorted(present) if place[0] in spoken_for and place not in places)


def _kind(table: Table) -> str:
    return next(name for name, kind in KINDS.items() if kind.table is table)


def check(present: Present, documents: Documents, instances: Iterable[Instance], *, back: bool = False) -> None:
    """Check what is to change against the present state.

    Args:
        present: All documents of today.
        documents: What is to be written.
        instances: All registered instances.
        back: The documents are an earlier state: a stable version may come back with the share it had then.

    Raises:
        Refused: Every problem, a line each.
    """
    registered, problems = tuple(instances), []
    for place, document in sorted(documents.items()):
        if document == present.get(place):
            continue
        try:
            _check_one(place, present.get(place), document, registered, back=back)
        except Refused as error:
            problems.append(str(error))
    if problems:
        raise Refused("\n".join(problems[:MOST_PROBLEMS]))


def _check_one(
    place: Place, current: Stored | None, document: Stored | None, instances: Sequence[Instance], *, back: bool
) -> None:
    table, key = place
    if isinstance(document, ServicePolicy):
        policy = current if isinstance(current, ServicePolicy) else None
        check_service(policy, document, versions_of(instances, key), back=back)
    elif isinstance(document, ClientPolicy):
        decide.add_client(None, document)  # are its rights more than a grant can carry?
    elif table is Table.SERVICES:
        refuse_served(key, instances)


def refuse_served(service: str, instances: Iterable[Instance]) -> None:
    """Refuse to drop a service that is there: it would be first seen again at once, at one version.

    Raises:
        Refused: Naming its instances.
    """
    there = [one.id for one in instances if one.service == service]
    if there:
        raise Refused(f"service {service} has instances ({', '.join(there)}); stop them first")


def check_service(current: ServicePolicy | None, wanted: ServicePolicy, known: set[str], *, back: bool = False) -> None:
    """Check where a service's calls are to go.

    Args:
        current: The policy in force, None if there is none.
        wanted: The next.
        known: Versions with a registered instance.
        back: It is an earlier policy.

    Raises:
        Refused: A new share for a version that nobody serves, a closed version with a share, or a stable version that
            moves without getting everything.
    """
    fresh = _new_versions(current, wanted) - known
    if fresh:
        listed = ", ".join(sorted(known)) or "none"
        raise Refused(
            f"{wanted.name} has no instance of version {', '.join(sorted(fresh))}; versions with instances: {listed}."
            f" Start one first (`tekup scale {wanted.name}=1 --version {min(fresh)}`)"
        )
    decide.refuse_twin_targets(wanted.name, {wanted.stable, *(lane.version for lane in _lanes(wanted))})
    served = {lane.version for lane in _lanes(wanted) if lane.weight_pct} | {wanted.stable}
    if closed := served & set(wanted.closed):
        raise Refused(f"{wanted.name}: {', '.join(sorted(closed))} is closed and has a share; take it out of one")
    _check_stable(None if back else current, wanted)


def _check_stable(current: ServicePolicy | None, wanted: ServicePolicy) -> None:
    shares = {lane.version: lane.weight_pct for lane in wanted.lanes if lane.weight_pct}
    if wanted.stable not in shares:
        # Lists and discovery come from stable: it has to be a version that serves.
        raise Refused(f"{wanted.name}: the stable version {wanted.stable} has no lane; give it a share, or move stable")
    if current and current.stable != wanted.stable and len(shares) > 1:
        raise Refused(
            f"{wanted.name}: stable moves from {current.stable} to {wanted.stable}, which has {shares[wanted.stable]:g}"
            f" % only; give {wanted.stable} 100, or keep stable: {current.stable}"
        )


def _new_versions(current: ServicePolicy | None, wanted: ServicePolicy) -> set[str]:
    """Versions that get what they do not have today."""
    held = set(_lanes(current)) if current else set()
    mirrors = {rule.mirror for rule in current.rules} if current else set()
    fresh = {lane.version for lane in _lanes(wanted) if lane not in held}
    fresh |= {rule.mirror for rule in wanted.rules if rule.mirror} - mirrors
    return fresh | ({wanted.stable} if current is None or wanted.stable != current.stable else set())


def _lanes(policy: ServicePolicy) -> tuple[Lane, ...]:
    return (*policy.lanes, *(lane for rule in policy.rules for lane in rule.lanes))
