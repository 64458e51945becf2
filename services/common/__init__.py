"""The service kit: everything a service on this platform has in common.

A service is one module of tools and a settings class; `run(SPEC)` makes a process of it that registers itself,
believes only the gate, signs handles, counts, logs, checks itself and stops without losing a call.
"""

from mcp.server.mcpserver.exceptions import ResourceError, ResourceNotFoundError

from services.common.call import Call, current_call
from services.common.errors import ToolError
from services.common.handles import HandleInfo, HandleParam, Handles
from services.common.kit import Kit, ServiceSpec
from services.common.run import run
from services.common.settings import Folders, KitSettings, ServiceSettings, Words

__all__ = [
    "Call",
    "Folders",
    "HandleInfo",
    "HandleParam",
    "Handles",
    "Kit",
    "KitSettings",
    "ResourceError",
    "ResourceNotFoundError",
    "ServiceSettings",
    "ServiceSpec",
    "ToolError",
    "Words",
    "current_call",
    "run",
]
