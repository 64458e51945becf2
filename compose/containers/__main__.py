"""``python -m compose.containers STEP``: what containers of an environment run that have no program of their own."""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

from compose.local.errors import LocalError
from compose.local.layout import Layout
from compose.local.progress import PlainLines
from compose.local.settings import load

from .edge import keep_certificate, keep_operators_certificate
from .first import prove
from .places import KEEP, Here
from .registry import keep_access
from .saved import give, put, take_over
from .settings import ContainerSettings
from .setup import prepare
from .takeover import hand_over, take_in

EX_CONFIG = 78


def main() -> None:
    """Do one of them; the exit code is 78 where trying again would not help (sysexits.h, EX_CONFIG)."""
    parser = argparse.ArgumentParser(prog="python -m compose.containers", description=__doc__)
    steps: dict[str, Callable[[Here], None]] = {
        "setup": prepare,
        "hand-over": lambda here: hand_over(here.layout),
        "consul-access": keep_access,
        "certificate": keep_certificate,
        "certificate-operators": keep_operators_certificate,
        "first-call": lambda here: prove(here, PlainLines()),
        "give": give,
        "put": put,
        "take-over": take_over,
    }
    parser.add_argument("step", choices=steps, help="see docs/containers.md")
    parser.add_argument("--from", dest="made", type=Path, help="of `setup`: what another machine's has made")
    given = parser.parse_args()
    step = given.step
    try:
        if given.made:
            take_in(given.made, Layout(Path("/") / KEEP))
        steps[step](Here(load(Layout(Path("/") / KEEP), os.environ, ContainerSettings)))
    except LocalError as error:
        sys.stderr.write(f"{step}: {error}\n")
        sys.exit(EX_CONFIG)


if __name__ == "__main__":
    main()
