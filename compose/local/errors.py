"""Everything the local environment raises on purpose.

LocalError
├── BadSettings            a setting is wrong; the message lists all of them
├── BadInput               an argument names something that is not there
├── PortsTaken             a port is in use; the message names its holder
├── ProgramUnavailable     no source of an outside program worked
├── SourceFailed           one source of a program did not work (inside the resolver)
├── NotRunning             no supervisor runs in this directory
├── WaitedTooLong          a bounded wait ended without its condition
├── Overtaken              somebody else has wished for something else meanwhile
└── StepFailed             a step of `tekup up` was refused or went wrong
    └── BadCertificate     a certificate, its key or its authority cannot be used; it is not put in place
"""

from .exits import Exit


class LocalError(Exception):
    """Root of the tree; `exit_code` is what the command line ends with."""

    exit_code = Exit.FAILED


class BadSettings(LocalError):
    """One or more settings are wrong."""

    exit_code = Exit.USAGE


class BadInput(LocalError):
    """An argument names something that does not exist or is not allowed."""

    exit_code = Exit.USAGE


class PortsTaken(LocalError):
    """A port this environment needs is in use by somebody else."""

    exit_code = Exit.PORT_TAKEN


class ProgramUnavailable(LocalError):
    """No source of an outside program worked."""

    exit_code = Exit.PROGRAM_MISSING


class SourceFailed(LocalError):
    """One source of a program did not work; the resolver tries the next."""


class NotRunning(LocalError):
    """No supervisor runs in this directory."""

    exit_code = Exit.NOT_RUNNING


class WaitedTooLong(LocalError):
    """A bounded wait ended without its condition."""

    exit_code = Exit.TIMEOUT


class Overtaken(LocalError):
    """Somebody else's wish has replaced ours while we waited for it."""


class StepFailed(LocalError):
    """A step of bringing the environment up was refused or went wrong."""


class BadCertificate(StepFailed):
    """A certificate, its key or its authority cannot be used."""
