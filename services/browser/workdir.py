"""A private folder for one instance's browser, and the removal of those that killed instances left behind.

Invariant: a folder in use is locked by its process, so whoever finds one unlocked may remove it. Blocks.
"""

import fcntl
import os
import pwd
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["WorkDir", "work_dir"]

_PREFIX = "tekup-browser-"
_LOCK = "lock"
_YOUNG_S = 60.0


@dataclass(frozen=True)
class WorkDir:
    """Folders of one instance's browser.

    Args:
        home: Belongs to the user Chromium runs under: profile, home, temporary files.
        driver: Temporary files of Playwright's own process.
        files: The pages' files, of this process's user.
    """

    home: Path
    driver: Path
    files: Path

    @property
    def downloads(self) -> Path:
        """Where Chromium writes what it downloads."""
        return self.home / "downloads"


@contextmanager
def work_dir(user: pwd.struct_passwd | None) -> Iterator[WorkDir]:
    """A private folder inside the block, removed after it.

    Args:
        user: Whom the browser's part shall belong to, None for this process's user.
    """
    _sweep()
    top = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        with (top / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            top.chmod(0o711)  # to be passed through; what is in it has its own owner
            made = WorkDir(top / "home", top / "driver", top / "files")
            for folder in (made.home, made.driver, made.files, made.downloads):
                folder.mkdir(mode=0o700)
            if user is not None:
                for folder in (made.home, made.downloads):
                    os.chown(folder, user.pw_uid, user.pw_gid)
            yield made
    finally:
        _remove(top)


def _sweep() -> None:
    for found in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with suppress(OSError):
            if found.lstat().st_uid == os.geteuid() and found.is_dir() and _abandoned(found):
                _remove(found)


def _abandoned(found: Path) -> bool:
    try:
        with (found / _LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except BlockingIOError:
        return False
    except FileNotFoundError:
        # Just made, or half removed.
        return time.time() - found.lstat().st_mtime > _YOUNG_S


def _remove(top: Path) -> None:
    # A process that is only just dying may still write: try again before giving it up to the next sweep.
    for _ in range(3):
        shutil.rmtree(top, ignore_errors=True)
        if not top.exists():
            return
