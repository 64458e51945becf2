"""What callers are told: challenges (RFC 6750, RFC 9728), JSON-RPC errors, and the description of a resource. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from control_plane.oauth.scopes import Resources, Scopes

INVALID = "invalid_token"
INVALID_REQUEST = "invalid_request"


@dataclass(frozen=True)
class Refusal:
    """A bearer that is turned away.

    Attributes:
        status: HTTP status, and the code of the JSON-RPC error.
        reason: One of few words, for metrics.
        message: What was wrong and what to do; without a word of the token.
        error: What the challenge says, "" for an answer without one.
        retry_after_s: When to try again, 0 = never as it is.
    """

    status: int
    reason: str
    message: str
    error: str = ""
    retry_after_s: int = 0

    @property
    def body(self) -> Mapping[str, object]:
        """The JSON-RPC error. Its id is null: whoever answers here is not shown the request's body."""
        return {"jsonrpc": "2.0", "id": None, "error": {"code": self.status, "message": self.message}}


@dataclass(frozen=True)
class Told:
    """What is said of the protected resources.

    Attributes:
        resources: Their addresses.
        scopes: The form of their scopes.
        issuers: Who may hand out tokens for them.
    """

    resources: Resources
    scopes: Scopes
    issuers: Sequence[str]

    def headers(self, refusal: Refusal, service: str) -> dict[str, str]:
        """The headers of a refusal.

        Args:
            refusal: Why.
            service: Whose path was called, "" for the hub's.
        """
        headers = {"Cache-Control": "no-store"}
        if refusal.retry_after_s:
            headers["Retry-After"] = str(refusal.retry_after_s)
        if refusal.error:
            said = {
                "error": refusal.error,
                "error_description": refusal.message,
                "resource_metadata": self.resources.metadata(service),
                **({"scope": self.scopes.of(service)} if service else {}),
            }
            headers["WWW-Authenticate"] = "Bearer " + ", ".join(f'{name}="{_plain(said[name])}"' for name in said)
        return headers

    def described(self, service: str, services: Sequence[str]) -> dict[str, object]:
        """A resource as RFC 9728 has it.

        Args:
            service: Whose resource, "" for the hub's.
            services: All there are.
        """
        return {
            "resource": self.resources.of(service),
            "authorization_servers": list(self.issuers),
            "scopes_supported": [self.scopes.of(name) for name in ([service] if service else services)],
            "bearer_methods_supported": ["header"],
            "resource_name": f"TekUp MCP: {service or 'all services'}",
        }


def _plain(text: str) -> str:
    """Fit for a quoted string of RFC 6750, which knows neither quotes nor backslashes."""
    return "".join(char if " " <= char <= "~" and char not in '"\\' else "'" for char in text)
