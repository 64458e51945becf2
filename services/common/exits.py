"""How a process of ours ends, whatever it serves."""

import logging
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from services.common.errors import SettingsError

__all__ = ["exit_after"]


def exit_after(serve: Callable[[], None], logger: logging.Logger) -> NoReturn:
    """Serve, then end the process.

    Exit codes: 0 stopped as told, 78 the settings do not allow a start (all problems in one message), 1 it broke.

    Args:
        serve: Reads the settings, and serves until told to stop.
        logger: Told what broke.
    """
    try:
        serve()
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(os.EX_CONFIG)
    except Exception:  # the outermost place: what broke goes into the log as everything else does
        logger.exception("broken")
        sys.exit(1)
    sys.exit(0)
