"""``python -m compose.containers setup | first-call``: the one-shot containers of an environment."""

import argparse
import os
import sys
from pathlib import Path

from compose.local.errors import LocalError
from compose.local.layout import Layout
from compose.local.progress import PlainLines
from compose.local.settings import load

from .first import prove
from .places import KEEP, Here
from .settings import ContainerSettings
from .setup import prepare

EX_CONFIG = 78


def main() -> None:
    """Do one of them; the exit code is 78 where trying again would not help (sysexits.h, EX_CONFIG)."""
    parser = argparse.ArgumentParser(prog="python -m compose.containers", description=__doc__)
    parser.add_argument(
        "step", choices=("setup", "first-call"), help="write secrets and configuration; call every tool"
    )
    step = parser.parse_args().step
    try:
        here = Here(load(Layout(Path("/") / KEEP), os.environ, ContainerSettings))
        if step == "setup":
            prepare(here)
        else:
            prove(here, PlainLines())
    except LocalError as error:
        sys.stderr.write(f"{step}: {error}\n")
        sys.exit(EX_CONFIG)


if __name__ == "__main__":
    main()
