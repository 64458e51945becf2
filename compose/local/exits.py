"""Exit codes of the local commands; a script may rely on them."""

from enum import IntEnum


class Exit(IntEnum):
    """What a command's exit code means."""

    OK = 0
    FAILED = 1
    USAGE = 2
    NOT_RUNNING = 3
    TIMEOUT = 4
    PORT_TAKEN = 5
    PROGRAM_MISSING = 6
    CHANGES = 7


HELP = (
    "A change returns when it is in force on every gate, or after some seconds names those it is not in force on, "
    "and ends with 4. With --wait a rollout's verb returns at its end. What takes something away asks first on a "
    "terminal; --yes for scripts. "
    "Exit codes: 0 done, 1 failed, 2 bad input or settings, 3 environment not running, "
    "4 waited too long, 5 port taken, 6 program missing, 7 there are changes (plan, diff, drift)."
)
