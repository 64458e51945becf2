"""What the first calls need around them: what they find, where they go, and a gate that serves.

Apart from `first_call`, so that commands that make no call do not wait for the SDK to be imported.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from .errors import WaitedTooLong
from .layout import Layout
from .progress import Reporter
from .trust import Gateway

PROTOCOL = "2026-07-28"
WELCOME_FILE = "welcome.md"
WORD = "lighthouse"
WELCOME = f"""# Welcome to TekUp MCP

Every tool call of this environment goes through one gate. The {WORD} in this line is what the first search finds.
"""
PAGE = "<!doctype html><title>TekUp MCP</title><h1>Welcome to TekUp MCP</h1><p>This page was opened through the gate.\n"
ANSWER_S = 10.0
AGAIN_S = 0.2


@dataclass(frozen=True)
class FirstCall:
    """How one service's first call went."""

    service: str
    tool: str
    ok: bool
    result: str
    ms: float


@dataclass(frozen=True)
class Target:
    """Where to call and what is there to be found."""

    gateway: Gateway
    key: str
    workspace: Path
    """Where filesystem and search find the welcome."""
    page_url: str

    def endpoint(self, service: str) -> str:
        """A service's own endpoint."""
        return f"{self.gateway.direct_url}/{service}/mcp"

    def extensions(self) -> dict[str, str]:
        """Of each request: the name that the certificate has to be for."""
        return {"sni_hostname": self.gateway.name} if self.gateway.name else {}


def write_welcome(layout: Layout) -> None:
    """Put down what the first calls read, unless it is there."""
    for path, text in ((layout.workspace / WELCOME_FILE, WELCOME), (layout.pages / "index.html", PAGE)):
        if not path.exists():
            path.write_text(text, encoding="utf-8")


def wait_until_served(target: Target, services: tuple[str, ...], timeout_s: float, report: Reporter) -> None:
    """Wait until the gate knows the key and has a live target for each service.

    Raises:
        WaitedTooLong: naming the service and the gate's last answer.
    """
    deadline = time.monotonic() + timeout_s
    with httpx.Client(timeout=ANSWER_S, trust_env=False, verify=target.gateway.verify()) as http:
        for service in services:
            while answer := _discover(http, target, service):
                if time.monotonic() >= deadline:
                    raise WaitedTooLong(
                        f"the gate does not serve {service}: {answer}; see `tekup logs agent`, `tekup status`"
                    )
                report.update("gate", f"waiting until it serves {service} ({answer})")
                time.sleep(AGAIN_S)
    report.over("gate")


def _discover(http: httpx.Client, target: Target, service: str) -> str:
    """Ask for `server/discover`; "" if it was answered, else why not."""
    headers = {
        "Authorization": f"Bearer {target.key}",
        "Accept": "application/json, text/event-stream",
        "MCP-Protocol-Version": PROTOCOL,
        "Mcp-Method": "server/discover",
    }
    meta = {"io.modelcontextprotocol/protocolVersion": PROTOCOL, "io.modelcontextprotocol/clientCapabilities": {}}
    body = {"jsonrpc": "2.0", "id": 1, "method": "server/discover", "params": {"_meta": meta}}
    try:
        response = http.post(target.endpoint(service), headers=headers, json=body, extensions=target.extensions())
    except httpx.TransportError as error:
        return str(error)
    return "" if response.status_code == httpx.codes.OK else f"{response.status_code} {response.text[:200]}"
