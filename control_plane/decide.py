"""What each verb of an operator makes of the policy: pure functions from the present and a wish to the next.

Each returns the document to store, or raises :class:`~control_plane.errors.Refused` with what was wrong and what to do.
A wish that is already true returns the present document unchanged, so verbs are idempotent.
"""

from __future__ import annotations

from collections.abc import Mapping

from control_plane.errors import Conflict, Refused
from control_plane.model import ClientPolicy, Key, Lane, ServicePolicy, version_target
from control_plane.signed import KEY_ID_DIGITS, grant


def first_seen(service: str, version: str) -> ServicePolicy:
    """Policy of a service nobody has decided on yet: its first version gets everything."""
    return ServicePolicy(name=service, stable=version, lanes=(Lane(version=version, weight_pct=100),))


def admitted(service: str, weights_pct: Mapping[str, float], known: set[str]) -> ServicePolicy | None:
    """Policy of a service that has registered and waits for an operator's word, who names the version that gets all.

    Args:
        service: Its name.
        weights_pct: What the operator asks for, percent per version.
        known: Versions with a registered instance.

    Returns:
        The policy; None if nothing of that name has registered.

    Raises:
        Refused: Another share than one version's 100.
    """
    if not known:
        return None
    asked = [version for version, weight in weights_pct.items() if weight != 0]
    if len(asked) != 1 or weights_pct[asked[0]] != 100:
        raise Refused(f"{service}: it is new here and has no stable version yet; give one version all, VERSION=100")
    if asked[0] not in known:
        listed = ", ".join(sorted(known))
        raise Refused(f"{service} has no instance of version {asked[0]}; versions with instances: {listed}")
    return first_seen(service, asked[0])


def set_traffic(current: ServicePolicy, weights_pct: Mapping[str, float], known: set[str]) -> ServicePolicy:
    """Shift the traffic of a service.

    Args:
        current: The policy in force.
        weights_pct: Percent per version. What is missing to 100 goes to the stable version if it is not named.
        known: Versions with a registered instance.

    Raises:
        Refused: Empty, an unknown version, weights that do not sum to 100, or lanes that leave the stable version out.
    """
    wanted = {version: weight for version, weight in weights_pct.items() if weight != 0}
    if not weights_pct:
        raise Refused(f"{current.name}: no weights given; name at least one VERSION=PCT")
    _refuse_unknown(current, set(weights_pct), known)
    for version, weight in weights_pct.items():
        if not 0 <= weight <= 100:
            raise Refused(f"{current.name}: weight of {version} is {weight:g}; it must lie between 0 and 100")
    total = sum(wanted.values())
    if current.stable not in weights_pct and total < 100:
        wanted[current.stable] = 100 - total
    elif abs(total - 100) > 1e-6:
        raise Refused(
            f"{current.name}: weights sum to {total:g}, not 100; the rest goes by itself"
            f" to the stable version {current.stable} only where that is not named"
        )
    stable = _stable_after(current, wanted)
    lanes = tuple(Lane(version=version, weight_pct=weight) for version, weight in sorted(wanted.items()))
    # Who gives a closed version a share by hand wants it served.
    closed = tuple(version for version in current.closed if version not in wanted)
    return current.model_copy(update={"stable": stable, "lanes": lanes, "closed": closed})


def _refuse_unknown(current: ServicePolicy, named: set[str], known: set[str]) -> None:
    for version in sorted(named - known - {current.stable}):
        listed = ", ".join(sorted(known)) or "none"
        raise Refused(f"{current.name} has no instance of version {version}; versions with instances: {listed}")
    refuse_twin_targets(current.name, named | {current.stable})


def refuse_twin_targets(service: str, versions: set[str]) -> None:
    """Refuse versions whose names differ only in what a target's name does not show.

    Raises:
        Refused: Naming two of them.
    """
    by_target: dict[str, str] = {}
    for version in sorted(versions):
        twin = by_target.setdefault(version_target(service, version), version)
        if twin != version:
            raise Refused(f"{service}: versions {twin} and {version} would share a target; rename one of them")


def _stable_after(current: ServicePolicy, wanted: Mapping[str, float]) -> str:
    if len(wanted) == 1:
        return next(iter(wanted))
    if current.stable not in wanted:
        # Lists and discovery come from stable: it has to be a version that serves.
        raise Refused(
            f"{current.name}: the stable version {current.stable} would have no traffic while several others do;"
            " keep it a share, or give one version 100"
        )
    return current.stable


def add_client(current: ClientPolicy | None, wanted: ClientPolicy) -> ClientPolicy:
    """Add a client.

    Raises:
        Conflict: A client of that id exists with other rights.
        Refused: Its rights are more than a grant can carry.
    """
    checked_client(wanted)
    if current is not None and current != wanted:
        raise Conflict(
            f"client {wanted.id} exists with other rights; choose another id, or change it: tekup clients set"
            f" {wanted.id}"
        )
    return wanted


def checked_client(wanted: ClientPolicy) -> ClientPolicy:
    """A client as it may be stored.

    Raises:
        Refused: Its rights are more than a grant can carry.
    """
    grant(wanted, "0" * KEY_ID_DIGITS, b"")
    return wanted


def revoke(key: Key, now_s: float) -> Key:
    """Revoke a key; one that is revoked already stays as it was."""
    return key if key.revoked else key.model_copy(update={"revoked": int(now_s)})


def keep_revocations(keys: Mapping[str, Key], revoked: Mapping[str, int]) -> dict[str, Key]:
    """Keys as an agent may apply them: what it has once seen revoked stays revoked, whatever the store says now.

    Args:
        keys: Keys as the store has them.
        revoked: Time of revocation by key id, as remembered.
    """
    return {
        key_id: key.model_copy(update={"revoked": revoked[key_id]}) if key_id in revoked and not key.revoked else key
        for key_id, key in keys.items()
    }
