"""Every error of the control plane.

::

    TekupError
    ├── Refused             the request is wrong; nothing was written
    │   ├── Conflict        somebody else changed it first
    │   │   ├── Stale       the tag that the caller has read is an older one's
    │   │   ├── UnderWay    the very call is being carried out; to ask again tells its answer
    │   │   └── Overtaken   between our own reading and writing; to ask again may work
    │   ├── Elsewhere       another region writes policy now
    │   ├── Forbidden       the operator's token is not for this
    │   ├── NotFound        no such service, client, key or gate
    │   └── BadToken        a bearer of an authorization server that is not believed
    ├── NotInitialised      Consul holds no TekUp state
    ├── NotLeader           this replica may not write now
    └── Unavailable         a part we need did not answer (Consul, Traefik)
        ├── Fenced          our leadership was gone when the write arrived; nothing was written
        └── Unanswered      the leader was asked and did not answer; the change may or may not have been made

Adapters translate the errors of their libraries into these; nothing above an adapter sees others.
"""


class TekupError(Exception):
    """Base of all errors of the control plane; its text is meant for people."""


class Refused(TekupError):
    """A request that was wrong in itself. Nothing was written."""


class Conflict(Refused):
    """The object changed since the caller read it. Nothing was written."""


class Overtaken(Conflict):
    """Another write came between the reading and the writing of one request. Nothing was written."""


class Elsewhere(Refused):
    """Another region writes policy, and this one follows it. Nothing was written."""


class NotFound(Refused):
    """The named object does not exist."""


class Forbidden(Refused):
    """The operator who asks may not do this. Nothing was written."""


class BadToken(Refused):
    """A bearer of an authorization server that is not believed. Its text is ours alone: nothing of the token is in it.

    Args:
        reason: One of few words, for metrics.
        message: For people.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Stale(Conflict):
    """The caller named, by its tag, a state of the object that is not the present one. Nothing was written."""


class UnderWay(Conflict):
    """The same call, by its Idempotency-Key, is being carried out. This one did nothing."""


class NotInitialised(TekupError):
    """Consul holds no TekUp state: a first start, or lost data."""


class NotLeader(TekupError):
    """This replica does not hold the leader's session, so it may not write."""


class Unavailable(TekupError):
    """A part this one depends on did not answer in time, or with nonsense."""


class Fenced(Unavailable):
    """The session that fenced the write was gone. Nothing was written."""


class Unanswered(Unavailable):
    """The leader was asked for a change and did not answer. It may or may not have been carried out."""
