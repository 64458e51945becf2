"""What each verb of an operator makes of a rollout: pure functions from the present document and a wish to the next.

A wish that is already true returns the present document unchanged, so verbs are idempotent.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from control_plane.contract import Waiver
from control_plane.course import moved, onward, promoted, rolled_back
from control_plane.delivery import Delivery
from control_plane.errors import Conflict, Refused
from control_plane.model import HUB, ServicePolicy, version_target
from control_plane.rollout import Phase, Rollout, Serves, share_said


@dataclass(frozen=True)
class By:
    """Who steers, and what is the case.

    Attributes:
        author: Who.
        reason: Why.
        now_s: Seconds since the epoch.
        stable_serves: Whether the version before the rollout has an instance that serves.
        stable: The service's stable version now.
    """

    author: str
    reason: str
    now_s: float
    stable_serves: bool
    stable: str

    @property
    def said(self) -> str:
        """For sentences."""
        return f"{self.author}: {self.reason}"


@dataclass(frozen=True)
class Start:
    """A wish for a rollout.

    Attributes:
        canary: The version that should become stable.
        delivery: How.
        author: Who wants it.
        reason: Why.
        waivers: Breaches of the contract that do not count.
        replace: End a rollout of another version that is under way.
    """

    canary: str
    delivery: Delivery
    author: str
    reason: str
    waivers: tuple[Waiver, ...] = ()
    replace: bool = False


def start(
    last: Rollout | None, current: ServicePolicy, wish: Start, versions: Sequence[str], now_s: float
) -> tuple[Rollout, Rollout | None]:
    """Begin a rollout.

    Args:
        last: The service's last rollout, ended or not.
        current: Its policy.
        wish: What is wanted.
        versions: Versions with a registered instance.
        now_s: Seconds since the epoch.

    Returns:
        The rollout, and the one before it as it goes into the history; None for that where nothing began.

    Raises:
        Refused: The version is stable already, unknown, or traffic is split by hand.
        Conflict: A rollout of another version is under way, or of this one in another way.
    """
    if last and not last.phase.ended:
        if last.canary == wish.canary and last.serves is not Serves.CANARY and _same_way(last, wish):
            return last, None
        if not wish.replace:
            otherwise = " in another way than you ask for now" if last.canary == wish.canary else ""
            raise Conflict(
                f"rollout {last.title} is under way{otherwise} ({last.phase}); end it first"
                f" (`tekup rollout abort {last.service}`) or take its place with --replace"
            )
        if last.serves is Serves.CANARY:
            raise Conflict(f"rollout {last.title} has given {last.canary} everything; wait until it ends, or undo it")
    _refuse_unfit(current, wish.canary, versions, by_rollout=bool(last and not last.phase.ended))
    before = last
    if last and not last.phase.ended:
        before = moved(last, Phase.SUPERSEDED, now_s, f"a rollout of {wish.canary} took its place: {wish.reason}")
    return _fresh(last, current, wish, now_s), before


def _same_way(last: Rollout, wish: Start) -> bool:
    waived = {waiver.what for waiver in last.waivers} == {waiver.what for waiver in wish.waivers}
    return waived and last.delivery == wish.delivery


def _fresh(last: Rollout | None, current: ServicePolicy, wish: Start, now_s: float) -> Rollout:
    new = Rollout(
        service=current.name,
        number=last.number + 1 if last else 1,
        stable=current.stable,
        canary=wish.canary,
        delivery=wish.delivery,
        author=wish.author,
        reason=wish.reason,
        began=now_s,
        since=now_s,
        said="",
        waivers=wish.waivers,
    )
    return moved(new, Phase.PREPARING, now_s, f"{wish.author} starts {new.title}: {wish.reason}")


def _refuse_unfit(current: ServicePolicy, canary: str, versions: Sequence[str], *, by_rollout: bool) -> None:
    name = current.name
    if name == HUB:
        raise Refused(
            f"{name}: a hub is not rolled out step by step, since neither its contract nor its probes can be asked;"
            f" shift its traffic by hand: tekup traffic set {name} {canary}=10"
        )
    if canary == current.stable:
        raise Refused(f"{name}: {canary} is the stable version already; nothing to roll out")
    if version_target(name, canary) == version_target(name, current.stable):
        raise Refused(f"{name}: versions {current.stable} and {canary} would share a target; rename one of them")
    if canary not in versions:
        known = ", ".join(sorted(set(versions) - {current.stable})) or "none beside the stable one"
        raise Refused(
            f"{name} has no instance of version {canary}; start one first (`tekup scale {name}=1 --version {canary}`)."
            f" Versions with instances: {known}"
        )
    split = [f"{lane.version}={lane.weight_pct:g}" for lane in current.lanes if lane.weight_pct]
    if len(split) > 1 and not by_rollout:
        raise Refused(
            f"{name}: traffic is split by hand ({' '.join(split)}); give the stable version everything first:"
            f" tekup traffic set {name} {current.stable}=100"
        )


def pause(held: Rollout, by: By) -> Rollout:
    """Hold a rollout where it is; it is still watched, and rolled back if it fails."""
    _running(held)
    if held.phase is Phase.PAUSED:
        return held
    if held.phase in (Phase.ROLLING_BACK, Phase.PROMOTING, Phase.WARM):
        raise Refused(f"rollout {held.title} is {held.phase}: that is not held; abort or undo it")
    said = f"paused by {by.said} ({share_said(held)})"
    return moved(held, Phase.PAUSED, by.now_s, said, resumes=held.phase, asked=held.asked)


def resume(held: Rollout, by: By) -> Rollout:
    """Go on after a pause."""
    _running(held)
    if held.phase is not Phase.PAUSED:
        return held
    phase = held.resumes or Phase.BAKING
    # What it waited for may have passed meanwhile: the step is counted anew.
    counted = {"step_since": by.now_s} if phase is Phase.BAKING else {}
    return moved(held, phase, by.now_s, f"resumed by {by.said}", asked=held.asked, **counted)


def promote(held: Rollout, by: By, *, full: bool) -> Rollout:
    """Agree to what a rollout asks, or end its present step; with `full` give the canary everything now.

    Raises:
        Refused: It is before its first traffic, or on its way back.
    """
    _running(held)
    if held.phase is Phase.ROLLING_BACK:
        raise Refused(f"rollout {held.title} is on its way back; start it again when it has ended")
    if Phase.PREPARING in (held.phase, held.resumes):
        raise Refused(f"rollout {held.title} is still being prepared ({held.said}); nothing can be promoted yet")
    if held.serves is Serves.CANARY:
        return _agreed_late(held, by)
    why = f"{by.author} agrees: {by.reason}"
    if full:
        return promoted(held, by.now_s, why)
    if held.phase in (Phase.SHIFTING, Phase.ASKING) and held.serves is Serves.STEP and not held.step_since:
        return moved(held, Phase.BAKING, by.now_s, why, step_since=by.now_s)
    # Agreeing is what an approval asks for, whatever phase it finds.
    return onward(held.model_copy(update={"phase": Phase.ASKING}), by.now_s, why)


def _agreed_late(held: Rollout, by: By) -> Rollout:
    if held.phase is not Phase.ASKING:
        return held
    said = f"{by.author} agrees to go on without the gate that lags: {by.reason}"
    return moved(held, Phase.WARM, by.now_s, said, step_since=by.now_s)


def abort(held: Rollout, by: By, *, drain: bool) -> Rollout:
    """Give stable everything at once, whatever the rollout is doing.

    Args:
        held: The rollout.
        by: Who and why.
        drain: Let the canary keep its handles; otherwise it is closed, and they answer "withdrawn". A canary that
            serves alone is never closed.
    """
    if held.phase in (Phase.ROLLED_BACK, Phase.ROLLING_BACK, Phase.FAILED):
        return held
    if held.phase.ended:
        raise Refused(f"rollout {held.title} has ended ({held.phase}); `tekup rollout undo {held.service}` goes back")
    return rolled_back(held, by.now_s, f"aborted by {by.said}", drain=drain or not by.stable_serves)


def undo(held: Rollout, by: By, *, drain: bool) -> Rollout:
    """Flip back to the version before the last rollout.

    Raises:
        Refused: That version has no instance any more, or traffic was changed since.
    """
    if held.phase is not Phase.SUCCEEDED:
        return abort(held, by, drain=drain)
    if by.stable != held.canary:
        raise Refused(f"{held.service}: the stable version is {by.stable} by now, not {held.canary}")
    if not by.stable_serves:
        raise Refused(f"{held.service}: no instance of {held.stable} serves; start one, then undo")
    return rolled_back(held, by.now_s, f"undone by {by.said}", drain=drain)


def _running(held: Rollout) -> None:
    if held.phase.ended:
        again = f". `tekup rollout retry {held.service}` begins it again" if held.phase in _FAILED else ""
        raise Refused(f"rollout {held.title} has ended ({held.phase}): {held.said}{again}")


_FAILED = (Phase.ROLLED_BACK, Phase.FAILED)
