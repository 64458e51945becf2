"""What the span of a served request says, besides what the SDK says of it (docs/contracts.md, "Traces").

Who calls is said as a class and no name; of what it sent only which tool it called, which the SDK says.
"""

from collections.abc import Mapping
from typing import Final

from mcp_types.version import MODERN_PROTOCOL_VERSIONS
from opentelemetry import trace

from observability.telemetry.traces import Value, tracing
from services.common.call import CONTROL_PLANE_CLIENT, PROBE_CLIENT, STANDALONE_CLIENT, Call, current_call
from services.common.metrics import Outcome

__all__ = ["describe", "note_outcome"]

_PROBES: Final = {PROBE_CLIENT: "instance", CONTROL_PLANE_CLIENT: "control-plane"}
_NOBODY: Final = frozenset({PROBE_CLIENT, STANDALONE_CLIENT})


def class_of(call: Call) -> str:
    """What a caller proved itself by: `key`, `bearer`, `hub`, `control-plane`, or `none`."""
    if call.client in _NOBODY:
        return "none"
    if call.client.startswith("~"):
        return call.client[1:]
    return "bearer" if "~" in call.client else "key"


def describe(said: Mapping[str, object]) -> Mapping[str, Value]:
    """Attributes of a served request, from its beginning.

    Args:
        said: What the SDK says of it.
    """
    call = current_call()
    modern = said.get("mcp.protocol.version") in MODERN_PROTOCOL_VERSIONS
    about: dict[str, Value] = {"tekup.class": class_of(call), "tekup.era": "modern" if modern else "legacy"}
    if probe := _PROBES.get(call.client):
        about["tekup.probe"] = probe
    if call.copy:
        about["tekup.mirrored"] = True
    return about


def note_outcome(outcome: Outcome) -> None:
    """Say on the running request's span how its tool call ended."""
    if tracing():
        trace.get_current_span().set_attribute("tekup.outcome", outcome.value)
