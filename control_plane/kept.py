"""Where the parts of the control plane's state lie in Consul, for those who have to know more than their own."""

from __future__ import annotations

REVISION_KEY = "tekup/policy/revision"
STATE_PREFIX = "tekup/state/"
HISTORY_PREFIX = f"{STATE_PREFIX}history/"
PARTS_PREFIX = f"{STATE_PREFIX}history-parts/"
SNAPSHOT_PREFIX = f"{STATE_PREFIX}snapshots/"
SNAPSHOT_PARTS_PREFIX = f"{STATE_PREFIX}snapshot-parts/"
ROLLOUTS_PREFIX = f"{STATE_PREFIX}rollouts/"
ENDED_PREFIX = f"{STATE_PREFIX}rollouts-ended/"
AUDIT_PREFIX = f"{STATE_PREFIX}audit/"
AUDIT_HEAD_KEY = f"{STATE_PREFIX}audit-head"
ASKED_PREFIX = f"{STATE_PREFIX}asked/"
SCHEMA_KEY = f"{STATE_PREFIX}schema"


def place_name(epoch: int, number: int) -> str:
    """How a revision is called in keys; sorted by epoch, then number."""
    return f"{epoch:06d}-{number:010d}"


def history_key(epoch: int, number: int) -> str:
    """Where the record of a change lies."""
    return HISTORY_PREFIX + place_name(epoch, number)
