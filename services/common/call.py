"""Who is calling: what the gate said about the running call.

Invariant: a `Call` is only ever made by `common.trust` (from the gate's headers) and by `common.probes` (the
instance's own probes). Tools read it, they never make one.
"""

from contextvars import ContextVar, Token
from dataclasses import dataclass

from services.common.rights import Rights

__all__ = [
    "CONTROL_PLANE_CLIENT",
    "PROBERS",
    "PROBE_CLIENT",
    "STANDALONE_CLIENT",
    "Call",
    "current_call",
    "restore_call",
    "set_call",
]

PROBE_CLIENT = "~probe"
CONTROL_PLANE_CLIENT = "~control-plane"
PROBERS = frozenset({PROBE_CLIENT, CONTROL_PLANE_CLIENT})
"""Callers whose calls are no use of a tool: no metric counts them, or a canary would be judged by its probes."""
STANDALONE_CLIENT = "~standalone"


NO_RIGHTS = Rights()


@dataclass(frozen=True, slots=True)
class Call:
    """The running call, as its grant describes the caller (docs/contracts.md, "Signed values").

    Args:
        client: The client's id, with `~<subject>` the user's of a client; `~…` for the platform's own callers.
        key: Id of the key it used, "" for an internal caller.
        rights: The tools, prompts and resources it may use.
        cohort: The client's cohort, "" for none.
        roots: Folders it is narrowed to, empty for the service's own.
        hosts: Private hosts it may reach besides those of the service.
        tool: The running tool, "" outside of one.
        internal: A caller of the platform itself without a client's grant: it may see everything.
        shadow: Id of a call that the gate copies to another version, on both sides; "" for all others.
        copy: This is the copy: nobody waits for its answer, and it may change nothing.
    """

    client: str
    key: str = ""
    rights: Rights = NO_RIGHTS
    cohort: str = ""
    roots: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    tool: str = ""
    internal: bool = False
    shadow: str = ""
    copy: bool = False

    def may_use(self, name: str) -> bool:
        """Whether its caller has a right to a tool, prompt or resource of this name."""
        return self.internal or self.rights.cover(name)


_current: ContextVar[Call] = ContextVar("tekup_call")


def current_call() -> Call:
    """The call that is running.

    Returns:
        The call this task works for.

    Raises:
        RuntimeError: Outside of a call: at start, in a background task, in a clean-up.
    """
    try:
        return _current.get()
    except LookupError:
        raise RuntimeError("no call is running here; current_call() is for tools, resources and prompts") from None


def set_call(call: Call) -> Token[Call]:
    """Make `call` the running one in this task and those it starts."""
    return _current.set(call)


def restore_call(token: Token[Call]) -> None:
    """Undo `set_call`."""
    _current.reset(token)
