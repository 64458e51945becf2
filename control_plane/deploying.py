"""A deployment of one service's version in containers, as one document, and where it goes next. Pure.

Instances of the version are wanted first, beside those that are there; once all serve, a rollout shifts the calls; once
that has ended, whoever lost is stopped by a drain. What goes wrong leaves things as they were: the new instances are
not wanted any more, and the document says why. Whoever can start containers reads `versions` and acts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from control_plane.autoscale import MOST_INSTANCES
from control_plane.errors import Conflict
from control_plane.model import HUB, Document, ServiceName, Version
from control_plane.rollout import Phase, Rollout

DEPLOYMENTS_PREFIX = "tekup/state/deployments/"
START_S = 300.0
"""Instances that were asked for and do not all serve after so long end a deployment."""
END_S = 180.0
"""So long is waited until those who were stopped have gone; a drain takes 40 s at most."""
Number = Annotated[int, Field(ge=0, le=MOST_INSTANCES)]


class Stage(StrEnum):
    """Where a deployment is."""

    STARTING = "starting"
    SHIFTING = "shifting"
    ENDING = "ending"
    DONE = "done"
    FAILED = "failed"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen by itself."""
        return self in (Stage.DONE, Stage.FAILED)


class Wanted(Document):
    """How many instances of a version there should be; of versions that are not named, as many as there are."""

    version: Version
    wanted: Number


class Deployment(Document):
    """The whole state.

    Attributes:
        service: The service.
        version: Which version should be there.
        instances: How many of it.
        before: How many of it served when it was asked for.
        changes: Fields of the service's delivery document that are otherwise for this rollout.
        author: Who asked.
        reason: Why.
        began: When, in seconds since the epoch.
        stage: Where it is.
        since: When it came there.
        said: Why it is there, in one sentence.
        well: Whether it is to end as done.
        shifted: When a service without rollouts got its calls shifted; 0 before.
        versions: What whoever starts containers acts on.
        dry_run: Never; for whoever reads these like documents of autoscaling.
    """

    schema_version: Literal[1] = 1
    service: ServiceName
    version: Version
    instances: Annotated[int, Field(ge=1, le=MOST_INSTANCES)]
    before: Number = 0
    changes: dict[str, object] = Field(default_factory=dict)
    author: str
    reason: str
    began: float
    stage: Stage = Stage.STARTING
    since: float
    said: str
    well: bool = True
    shifted: float = 0
    versions: tuple[Wanted, ...] = ()
    dry_run: Literal[False] = False

    def wanted(self, version: str) -> int | None:
        """How many of a version there should be; None for as many as there are."""
        return next((one.wanted for one in self.versions if one.version == version), None)


@dataclass(frozen=True)
class Wish:
    """What an operator wants.

    Attributes:
        service: Of which service.
        version: Which version should be there.
        instances: How many; None: as many as the stable one has.
        changes: See :class:`Deployment`.
        author: Who.
        reason: Why.
    """

    service: str
    version: str
    instances: int | None
    changes: Mapping[str, object]
    author: str
    reason: str


@dataclass(frozen=True)
class Seen:
    """What is the case.

    Attributes:
        stable: The service's stable version.
        live: How many instances of each version get calls, or could.
        there: How many containers or registrations of each there are, whatever they do.
        rollout: The service's last rollout.
        problem: What whoever starts containers says of the version; "" for nothing.
        keep_warm_s: How long the version before stays, in seconds.
        now_s: Seconds since the epoch.
        shares: Versions that policy gives calls to.
    """

    stable: str
    live: Mapping[str, int]
    there: Mapping[str, int]
    rollout: Rollout | None
    problem: str
    keep_warm_s: float
    now_s: float
    shares: frozenset[str] = frozenset()


class Act(StrEnum):
    """What has to be done before a document is written."""

    NOTHING = "nothing"
    ROLL_OUT = "roll out"
    SHIFT = "shift by hand"


def begun(held: Deployment | None, wish: Wish, seen: Seen) -> Deployment:
    """What a wish makes of the last deployment; the same value where it is true already or on its way.

    Raises:
        Conflict: One of another version is under way.
    """
    instances = wish.instances or max(1, seen.live.get(seen.stable, 0))
    if held and _is_so(held, wish, instances, seen):
        return held
    versions = {wish.version: instances}
    if held and not held.stage.ended and held.version != wish.version:
        if held.stage is not Stage.STARTING or wish.version != seen.stable:
            raise Conflict(_under_way(held, seen))
        versions[held.version] = 0
    elif held and held.stage in (Stage.SHIFTING, Stage.ENDING):
        raise Conflict(_under_way(held, seen))
    said = f"{wish.author}: {wish.reason}"
    return Deployment(
        service=wish.service,
        version=wish.version,
        instances=instances,
        before=seen.live.get(wish.version, 0),
        changes=dict(wish.changes),
        author=wish.author,
        reason=wish.reason,
        began=seen.now_s,
        since=seen.now_s,
        said=said,
        versions=_as_tuple(versions),
    )


def _is_so(held: Deployment, wish: Wish, instances: int, seen: Seen) -> bool:
    """Whether what is wished for is on its way, or there."""
    same = (held.version, held.instances) == (wish.version, instances)
    if not held.stage.ended:
        return same and held.changes == wish.changes
    there = wish.version == seen.stable and seen.live.get(wish.version, 0) == instances
    return same and there and held.stage is Stage.DONE


def _under_way(held: Deployment, seen: Seen) -> str:
    return (
        f"{held.service} {held.version} is being deployed ({held.stage}: {held.said}); wait until it has ended, or end"
        f" it: tekup rollout abort {held.service}, or deploy {seen.stable} again"
    )


def turn(held: Deployment, seen: Seen) -> tuple[Deployment, Act]:
    """The deployment after one turn, and what has to be done for it; the same value if nothing has changed."""
    match held.stage:
        case Stage.STARTING:
            return _start(held, seen)
        case Stage.SHIFTING:
            return _shift(held, seen), Act.NOTHING
        case Stage.ENDING:
            return _end(held, seen), Act.NOTHING
        case _:
            return held, Act.NOTHING


def failed(held: Deployment, seen: Seen, why: str) -> Deployment:
    """A deployment that goes back to how things were."""
    versions = {one.version: one.wanted for one in held.versions} | {held.version: 0}
    if held.version == seen.stable:
        versions[held.version] = max(1, held.before)
    after = held.model_copy(update={"versions": _as_tuple(versions), "well": False})
    return _moved(after, Stage.ENDING, seen, why)


def _start(held: Deployment, seen: Seen) -> tuple[Deployment, Act]:
    live = seen.live.get(held.version, 0)
    settled = live == held.instances if held.version == seen.stable else live >= held.instances
    if settled and held.version == seen.stable:
        return _moved(held, Stage.ENDING, seen, f"{held.instances} instances of {held.version} serve"), Act.NOTHING
    if settled:
        said = f"{live} instances of {held.version} are ready; calls are shifted"
        act = Act.SHIFT if held.service == HUB else Act.ROLL_OUT
        shifted = seen.now_s if act is Act.SHIFT else 0
        return _moved(held.model_copy(update={"shifted": shifted}), Stage.SHIFTING, seen, said), act
    if seen.now_s - held.since >= START_S:
        why = seen.problem or "`docker compose logs` of its containers may say why"
        said = f"{live} of {held.instances} instances of {held.version} were ready after {START_S:.0f} s: {why}"
        return failed(held, seen, said), Act.NOTHING
    said = f"{live} of {held.instances} instances of {held.version} are ready"
    said += f": {seen.problem}" if seen.problem else ""
    return (held if said == held.said else held.model_copy(update={"said": said})), Act.NOTHING


def _shift(held: Deployment, seen: Seen) -> Deployment:
    if held.shifted:
        return _shifted_by_hand(held, seen)
    rollout = seen.rollout
    if rollout is None or rollout.canary != held.version:
        return failed(held, seen, "its rollout is not there any more; another took its place")
    if not rollout.phase.ended:
        said = f"rollout {rollout.phase}: {rollout.said}"
        return held if said == held.said else held.model_copy(update={"said": said})
    if rollout.phase is not Phase.SUCCEEDED:
        return failed(held, seen, f"its rollout ended ({rollout.phase}): {rollout.said}")
    return _won(held, seen, rollout.stable)


def _shifted_by_hand(held: Deployment, seen: Seen) -> Deployment:
    if seen.stable != held.version:
        return failed(held, seen, f"{seen.stable} was given its calls back")
    if seen.now_s - held.shifted < seen.keep_warm_s:
        return held
    return _won(held, seen)


def _won(held: Deployment, seen: Seen, *before: str) -> Deployment:
    losers = ({*before, *seen.there} if held.shifted else {*before}) - {held.version} - (seen.shares - {*before})
    versions = {one.version: one.wanted for one in held.versions} | dict.fromkeys(losers, 0)
    after = held.model_copy(update={"versions": _as_tuple(versions)})
    gone = f"; {', '.join(sorted(losers))} drains and goes" if losers else ""
    return _moved(after, Stage.ENDING, seen, f"{held.version} has all calls{gone}")


def _end(held: Deployment, seen: Seen) -> Deployment:
    left = {one.version: count for one in held.versions if not one.wanted and (count := seen.there.get(one.version, 0))}
    if left and seen.now_s - held.since < END_S:
        return held
    still = f"; still there: {', '.join(sorted(left))}" if left else ""
    stage = Stage.DONE if held.well else Stage.FAILED
    # Nobody holds the numbers from here on: what is there stays, whatever is started or stopped by hand.
    return _moved(held.model_copy(update={"versions": ()}), stage, seen, f"{held.said}{still}")


def _moved(held: Deployment, stage: Stage, seen: Seen, said: str) -> Deployment:
    return held.model_copy(update={"stage": stage, "since": seen.now_s, "said": said})


def _as_tuple(versions: Mapping[str, int]) -> tuple[Wanted, ...]:
    return tuple(Wanted(version=version, wanted=count) for version, count in sorted(versions.items()))
