"""Keeps the hashes of keys in the store as the settings say, without anybody's asking."""

from __future__ import annotations

import asyncio
import logging

from control_plane.errors import NotInitialised, NotLeader, Refused, Unavailable
from control_plane.leadership import Leadership
from control_plane.outcome import Wish
from control_plane.rights import Rights
from control_plane.sealed import Ring

log = logging.getLogger(__name__)

LOOK_EVERY_S = 5.0
LOOK_AGAIN_S = 3600.0
WISH = Wish("control-plane", "hashes of keys are sealed by the current key")


async def keep_sealed(rights: Rights, leadership: Leadership) -> None:
    """As the leader, seal what lies bare or is sealed by another key than the current, for ever.

    At first, when the file of sealing keys changes, and every hour.
    """
    done: Ring | None = None
    waited_s, said = 0.0, ""
    while True:
        await leadership.held()
        ring = rights.sealing.file.ring()
        if rights.sealing.on and (done is not ring or waited_s >= LOOK_AGAIN_S):
            try:
                done, waited_s, said = (ring if await _resealed(rights) else None), 0.0, ""
            except (NotInitialised, NotLeader, Refused, Unavailable) as error:
                if str(error) != said:
                    log.warning("keys.not_resealed", extra={"why": str(error)})
                said = str(error)
        await asyncio.sleep(LOOK_EVERY_S)
        waited_s += LOOK_EVERY_S


async def _resealed(rights: Rights) -> bool:
    """Whether all of it is done: one change takes so many and no more."""
    outcome, left = await rights.reseal_keys(WISH)
    for sentence in left:
        log.error("keys.unopened", extra={"problem": sentence})
    if outcome.changed:
        log.info("keys.resealed", extra={"revision": outcome.revision.number, "keys": len(outcome.changes)})
    return not outcome.changed
