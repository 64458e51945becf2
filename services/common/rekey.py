"""Takes up new keys of the service while the instance serves: the environment writes them into its secrets file.

Whoever rotates keys shows the new one first as one more to accept, then as the current one, and waits for the instance
in between; `tekup_secret_file_seconds` says what it has taken up.
"""

import asyncio
import json
import logging
from pathlib import Path

from services.common.metrics import Metrics
from services.common.settings import SecretsFile
from services.common.signing import Keyring

__all__ = ["keep_keys"]

logger = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
Identity = tuple[int, int, int]


async def keep_keys(path: Path, keyring: Keyring, metrics: Metrics) -> None:
    """Put the keys of a secrets file on the ring, again whenever it changes; until cancelled.

    Args:
        path: The file.
        keyring: The service's.
        metrics: Shows which file is in force.
    """
    seen: Identity | None = None
    while True:
        seen = _look(path, seen, keyring, metrics)
        await asyncio.sleep(LOOK_EVERY_S)


def _look(path: Path, seen: Identity | None, keyring: Keyring, metrics: Metrics) -> Identity | None:
    try:
        found = path.stat()
        identity = (found.st_mtime_ns, found.st_size, found.st_ino)
        if identity == seen:
            return seen
        content = SecretsFile.model_validate(json.loads(path.read_text()))
    except (OSError, ValueError) as error:
        # Only the kind of a validation error: its text would repeat a key.
        reason = "is not a secrets file" if isinstance(error, ValueError) else (error.strerror or "cannot be read")
        logger.warning("keys.kept", extra={"path": str(path), "reason": reason})
        return seen
    keyring.renew(content.secrets)
    metrics.secret_file.labels("keys").set(found.st_mtime_ns / 1e9)
    if seen is not None:
        logger.info("keys.renewed", extra={"path": str(path), "count": len(content.keys)})
    return identity
