"""What people are told to type: `tekup …` in the form that works where they are."""

import os
import re
import shlex
import shutil
import sys
from pathlib import Path

NAME = "tekup"
PACKAGE = "tekup-mcp"
"""The same program under the package's name, for `uvx tekup-mcp`."""
_COMMAND = re.compile(rf"(?<![\w./-]){NAME}(?= [a-z])")


def own_name(called: str, cwd: Path) -> str:
    """How to call this program again.

    Args:
        called: how it was called, `sys.argv[0]`.
        cwd: where.

    Returns:
        `tekup` if that works or if it was not called as a program; `uvx tekup-mcp` if it came that way; else its path,
        from here if it is below.
    """
    path = Path(os.path.normpath(cwd / called))
    if path.name not in (NAME, PACKAGE) or not path.is_file():
        return NAME
    if path.name == PACKAGE and os.environ.get("UV"):  # uv tells whom it runs where it lies itself
        return f"uvx {PACKAGE}"
    on_path = shutil.which(path.name)
    if on_path and Path(on_path).samefile(path):
        return path.name
    # a bare name would be looked for on the PATH
    below = f"{path.relative_to(cwd)}" if path.is_relative_to(cwd) else called
    return shlex.quote(below if os.sep in below else f"./{below}")


def typed(text: str) -> str:
    """A text for people, with each `tekup …` in it as they would have to type it here."""
    name = own_name(sys.argv[0], Path.cwd())
    return _COMMAND.sub(lambda _match: name, text)
