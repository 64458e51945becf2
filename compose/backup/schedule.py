"""Takes backups by itself: `python -m compose.backup.schedule DIRECTORY`, a process of the environment.

Every minute it writes down which keys are revoked, so that a restore loses a minute of revocations and not a day. It
looks at what lies in the folder, so that a restart neither skips a backup nor takes one too many.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from compose.local.errors import LocalError
from compose.local.files import try_lock
from compose.local.layout import Layout
from compose.local.link import Link
from compose.local.log import log
from compose.local.operators_api import first_to_answer
from compose.local.settings import load

from .create import create, folder_of, note_revocations
from .gather import backup_id
from .kept import taken_at

LOOK_EVERY_S = 60.0
SOON_S = 5.0
CALL_S = 10.0


def due(folder: Path, environment: str, every_s: float, now_s: float) -> bool:
    """Whether the next backup is to be taken."""
    mine = [at for path in folder.glob(f"tekup-*-{environment}.*") if (at := taken_at(path))]
    return not mine or now_s - max(mine).timestamp() >= every_s


def turn(layout: Layout) -> float:
    """Take a backup if one is due, and write down revocations.

    Returns:
        In how many seconds to look again.

    Raises:
        LocalError: It went wrong.
    """
    settings = load(layout).settings
    folder = folder_of(layout, settings)
    if due(folder, backup_id(layout), settings.backup_every_h * 3600, time.time()):
        with try_lock(layout.up_lock) as mine:  # up, down and rotation change what is to be backed up
            if not mine:
                return SOON_S
            taken = create(layout)
            log("backup taken", file=str(taken.path), seconds=round(taken.seconds, 1), untold=taken.untold)
            return LOOK_EVERY_S
    answer = first_to_answer(layout, Link(layout).status().processes, CALL_S)
    if answer and folder.is_dir():
        note_revocations(layout, answer[0], folder)
    return LOOK_EVERY_S


def main() -> None:
    """Look every minute, until a signal ends this process."""
    layout = Layout(Path(sys.argv[1]).resolve())
    pause_s = SOON_S
    while True:
        time.sleep(pause_s)
        try:
            pause_s = turn(layout)
        except (LocalError, OSError) as error:
            log("backup failed", problem=str(error))
            pause_s = LOOK_EVERY_S


if __name__ == "__main__":
    main()
