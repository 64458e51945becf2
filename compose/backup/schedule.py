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
FIRST_LOOK_S = 5.0
CALL_S = 10.0


def due(folder: Path, environment: str, every_s: float, now_s: float) -> bool:
    """Whether the next backup is to be taken."""
    mine = [at for path in folder.glob(f"tekup-*-{environment}.*") if (at := taken_at(path))]
    return not mine or now_s - max(mine).timestamp() >= every_s


def turn(layout: Layout) -> None:
    """Take a backup if one is due, and write down revocations.

    Raises:
        LocalError: It went wrong.
    """
    settings = load(layout).settings
    folder = folder_of(layout, settings)
    if due(folder, backup_id(layout), settings.backup_every_h * 3600, time.time()):
        with try_lock(layout.up_lock) as mine:  # up, down and rotation change what is to be backed up
            if mine:
                taken = create(layout)
                log("backup taken", file=str(taken.path), seconds=round(taken.seconds, 1), untold=taken.untold)
                return
    answer = first_to_answer(layout, Link(layout).status().processes, CALL_S)
    if answer and folder.is_dir():
        note_revocations(layout, answer[0], folder)


def main() -> None:
    """Look every minute, until a signal ends this process."""
    layout = Layout(Path(sys.argv[1]).resolve())
    time.sleep(FIRST_LOOK_S)
    while True:
        try:
            turn(layout)
        except (LocalError, OSError) as error:
            log("backup failed", problem=str(error))
        time.sleep(LOOK_EVERY_S)


if __name__ == "__main__":
    main()
