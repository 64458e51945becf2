"""What .gitignore files name, as far as the folder a walk began in. Blocks."""

import os
from dataclasses import dataclass

from pathspec import GitIgnoreSpec

__all__ = ["Ignored"]

_FILE = ".gitignore"
_BYTES = 256 << 10


@dataclass(frozen=True)
class Ignored:
    """The .gitignore files of a folder and of those above it, innermost last.

    Args:
        specs: Each with the path of its folder, "" or ending in a slash.
    """

    specs: tuple[tuple[str, GitIgnoreSpec], ...] = ()

    def within(self, folder: int, path: str) -> "Ignored":
        """The same with the file of the folder at `path`, if it has one."""
        lines = _lines(folder)
        return Ignored((*self.specs, (path, GitIgnoreSpec.from_lines(lines)))) if lines else self

    def leaves_out(self, path: str, *, is_folder: bool) -> bool:
        """Whether the path is named; the innermost file that says anything of it decides."""
        for start, spec in reversed(self.specs):
            said = spec.check_file(path[len(start) :] + ("/" if is_folder else "")).include
            if said is not None:
                return said
        return False


def _lines(folder: int) -> list[str]:
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    try:
        fd = os.open(_FILE, flags, dir_fd=folder)
    except OSError:
        return []
    try:
        return os.read(fd, _BYTES).decode("utf-8", "replace").splitlines()
    except OSError:  # a folder or a device of that name
        return []
    finally:
        os.close(fd)
