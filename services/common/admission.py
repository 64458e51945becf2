"""The outermost door of a service port with mutual TLS: whom the intentions do not let in gets no further.

`/ready` and `/health` are behind it as well. The instance's own name is let in, since it warms itself up by real
calls; `common.trust` still believes nobody but the gate and the instance itself.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.common.front import read_away
from services.common.identity import Identity
from services.common.jsonrpc import Refusal, refuse
from services.common.metrics import Metrics
from services.common.tls import Peer, current_peer

__all__ = ["Admission"]


class Admission:
    """ASGI application in front of all of a service port's.

    Args:
        app: What is behind it.
        identity: Says who may call, at each request anew.
        metrics: Told of every refusal.
    """

    def __init__(self, app: ASGIApp, identity: Identity, metrics: Metrics) -> None:
        self._app = app
        self._identity = identity
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        peer = current_peer()
        send = _closing(send) if peer is not None and peer.overdue else send
        if peer is not None and (peer.name == self._identity.name or self._identity.admits(peer.name)):
            await self._app(scope, receive, send)
            return
        self._metrics.refused.labels("403").inc()
        await read_away(receive)
        await refuse(self._refusal(peer), send)

    def _refusal(self, peer: Peer | None) -> Refusal:
        who = peer.name if peer else "a caller without a certificate"
        message = f"{who} may not call {self._identity.name}: no intention in Consul allows it; call the gate instead"
        return Refusal(403, 403, message)


def _closing(send: Send) -> Send:
    """Ends the connection with this answer: none lives longer than the certificate it began with."""

    async def closing(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
        await send(message)

    return closing
