"""The gate's internal entrypoint, as the control plane uses it: calls of its own, each to one target.

A version's target is answered by stable when all its instances are sick, and an instance's by any other, so every
answer is held against who gave it: the kit says so to this caller (docs/contracts.md, "Headers of an answer").
"""

from __future__ import annotations

import asyncio
import hmac
import json
import logging
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Self

import httpx
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from control_plane.contract import Json, Offer
from control_plane.errors import Refused, Unavailable
from control_plane.model import version_target
from control_plane.peers import GATE_HOST
from control_plane.ports import Answered
from control_plane.wire import Reply, one_line, read
from observability.telemetry.traces import outgoing

log = logging.getLogger(__name__)

MODERN: Final = "2026-07-28"
CALLER: Final = "control-plane"
PROBE_META: Final = "dev.tekup/probe"
MOST_PAGES: Final = 50
MOST_ITEMS: Final = 2_000
CONNECT_S: Final = 2.0
_META: Final = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "tekup-control-plane", "version": "1"},
}
_METHOD_NOT_FOUND: Final = -32601
# Capability → lists it stands for: method, member, what names an item.
_LISTS: Final = (
    ("tools", "tools/list", "tools", "name"),
    ("prompts", "prompts/list", "prompts", "name"),
    ("resources", "resources/list", "resources", "uri"),
    ("resources", "resources/templates/list", "resourceTemplates", "uriTemplate"),
)


class _Secrets(BaseModel):
    model_config = ConfigDict(extra="ignore")

    service: str
    keys: Annotated[tuple[Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$")], ...], Field(min_length=1)]


def read_proof(path: Path) -> str:
    """What proves the control plane to the gate's internal entrypoint, from its own file of secrets.

    Raises:
        Refused: The file is missing, unreadable by us or readable by others, or another's.
    """
    where = f"settings:\n  MCP_SECRETS_FILE: {path}"
    try:
        if path.stat().st_mode & 0o077:
            raise Refused(f"{where} may be read by others; chmod 600 it")
        found = _Secrets.model_validate_json(path.read_bytes())
    except OSError as error:
        raise Refused(f"{where} cannot be read: {error.strerror}") from error
    except ValidationError as error:
        raise Refused(f'{where} must be {{"service": "{CALLER}", "keys": ["<64 hex digits>", …]}}') from error
    if found.service != CALLER:
        raise Refused(f"{where} holds the keys of {found.service!r}, not of {CALLER!r}")
    return hmac.digest(bytes.fromhex(found.keys[0]), b"caller", "sha256").hex()


class ProofFile:
    """The proof of the keys in the control plane's file of secrets, made again when they are renewed.

    Args:
        path: The file.

    Raises:
        Refused: As of :func:`read_proof`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._proof = read_proof(path)
        self._identity = self._look()

    def current(self) -> str:
        """The proof now; the one before while the file is missing or makes no sense."""
        try:
            identity = self._look()
            if identity != self._identity:
                self._proof, self._identity = read_proof(self._path), identity
                log.info("gateway.keys_renewed", extra={"path": str(self._path)})
        except (OSError, Refused) as error:
            log.warning("gateway.keys_kept", extra={"why": str(error)})
        return self._proof

    def written_s(self) -> float:
        """When the file that is in use was written, seconds since the epoch."""
        self.current()
        return self._identity[0] / 1e9

    def _look(self) -> tuple[int, int, int]:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_size, found.st_ino


class InternalGate:
    """Gates, by their internal entrypoints; an async context manager.

    Args:
        urls: Their addresses. The first that answers carries a call; each of them should lead to the same instances.
        proof: From :func:`read_proof`, or what gives it, asked for each call.
        timeout_s: Longest a call may take.
        tls: With mutual TLS, whom we are; then no other proof is sent.
    """

    def __init__(
        self,
        urls: Sequence[str],
        proof: str | Callable[[], str],
        *,
        timeout_s: float = 10.0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._proof = proof if callable(proof) else lambda: proof
        self._proven_by_tls = tls is not None
        self._urls = tuple(url.rstrip("/") for url in urls)
        self._timeout_s = timeout_s
        self._used = ""
        self._extensions = {"sni_hostname": GATE_HOST} if tls else {}
        # No proxy from the environment: the proof must not travel elsewhere.
        self._http = httpx.AsyncClient(
            timeout=httpx.Timeout(timeout_s, connect=CONNECT_S),
            trust_env=False,
            follow_redirects=False,
            headers={"Host": GATE_HOST} if tls else {"X-Tekup-Caller": CALLER},
            verify=tls if tls is not None else True,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def call(self, service: str, target: str, tool: str, arguments: Mapping[str, object]) -> Answered:
        """See :class:`control_plane.ports.Gateway`."""
        began_s = time.monotonic()
        reply = await self._ask(service, target, "tools/call", {"name": tool, "arguments": dict(arguments)}, tool)
        problem = reply.problem or _stranger(service, target, reply) or _failure(reply.result or {})
        return Answered(reply.instance, reply.version, problem, time.monotonic() - began_s)

    async def told(self, service: str, target: str, method: str) -> Mapping[str, Any]:
        """See :class:`control_plane.ports.Gateway`."""
        return (await self._result(service, target, method, {})).result

    async def offer(self, service: str, target: str) -> Offer:
        """See :class:`control_plane.ports.Gateway`."""
        discovered = await self._result(service, target, "server/discover", {})
        capabilities = discovered.result.get("capabilities")
        able = capabilities if isinstance(capabilities, dict) else {}
        lists = {
            method: await self._list(service, target, method, member, key) if capability in able else {}
            for capability, method, member, key in _LISTS
        }
        spoken = discovered.result.get("supportedVersions")
        tools = lists["tools/list"]
        return Offer(
            version=discovered.version,
            protocols=frozenset(each for each in (spoken if isinstance(spoken, list) else ()) if isinstance(each, str)),
            tools={name: _without_probe(tool) for name, tool in tools.items()},
            prompts=lists["prompts/list"],
            resources=frozenset(lists["resources/list"]) | frozenset(lists["resources/templates/list"]),
            probes={name: found for name, tool in tools.items() if (found := _probe(tool)) is not None},
        )

    async def _list(self, service: str, target: str, method: str, member: str, key: str) -> dict[str, Json]:
        found: dict[str, Json] = {}
        params: dict[str, object] = {}
        for _ in range(MOST_PAGES):
            result = (await self._result(service, target, method, params, absent={member: []})).result
            items = result.get(member)
            for item in items if isinstance(items, list) else ():
                if isinstance(item, dict) and isinstance(item.get(key), str):
                    found[item[key]] = item
            if len(found) > MOST_ITEMS:
                raise Unavailable(f"{target} lists more than {MOST_ITEMS} items in {method}")
            cursor = result.get("nextCursor")
            if not isinstance(cursor, str):
                return found
            params = {"cursor": cursor}
        raise Unavailable(f"{method} of {target} has more than {MOST_PAGES} pages")

    async def _result(
        self,
        service: str,
        target: str,
        method: str,
        params: Mapping[str, object],
        absent: Mapping[str, object] | None = None,
    ) -> _Result:
        """The result of a request that has one, from the target itself.

        Args:
            service: The service.
            target: Who is asked.
            method: The method.
            params: Its parameters.
            absent: What it comes to if there is no such method.

        Raises:
            Unavailable: There is none, or another answered.
        """
        reply = await self._ask(service, target, method, params)
        problem = reply.problem if reply.code != _METHOD_NOT_FOUND or absent is None else ""
        problem = problem or _stranger(service, target, reply)
        if problem:
            raise Unavailable(f"{method} of {target}: {problem}")
        return _Result(reply.version, reply.result if reply.result is not None else absent or {})

    async def _ask(self, service: str, target: str, method: str, params: Mapping[str, object], name: str = "") -> Reply:
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": _META}}
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, text/event-stream",
            "MCP-Protocol-Version": MODERN,
            "Mcp-Method": method,
            "X-Tekup-Target": target,
            **({} if self._proven_by_tls else {"X-Tekup-Proof": self._proof()}),
            **({"Mcp-Name": name} if name else {}),
            **outgoing(),
        }
        away: list[str] = []
        for url in self._urls:
            try:
                async with (
                    asyncio.timeout(self._timeout_s),  # the client's own is for each part of an answer
                    self._http.stream(
                        "POST",
                        f"{url}/{service}/mcp",
                        headers=headers,
                        content=json.dumps(body),
                        extensions=self._extensions,
                    ) as answer,
                ):
                    self._note(url)
                    return await read(answer)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                away.append(f"{url} ({type(error).__name__})")
            except (TimeoutError, httpx.TimeoutException):
                return Reply("", "", None, f"no answer within {self._timeout_s:g} s")
            except httpx.HTTPError as error:
                return Reply("", "", None, f"the answer was lost ({type(error).__name__})")
        raise Unavailable(f"no gate answers at {', '.join(away)}; MCP_GATE_INTERNAL_URL says where they are")

    def _note(self, url: str) -> None:
        if url != self._used:
            log.info("gateway.used", extra={"url": url, "before": self._used})
            self._used = url


@dataclass(frozen=True)
class _Result:
    version: str
    result: Mapping[str, Any]


def _stranger(service: str, target: str, reply: Reply) -> str:
    """Whether another than the target answered, "" if it was the target."""
    if not reply.instance or not reply.version:
        return "the answer does not say who gave it; the service runs on a kit that cannot be probed"
    version = version_target(service, reply.version)
    if target in (version, f"{version}_{reply.instance}"):
        return ""
    return f"answered by {reply.version} ({reply.instance}) in its place"


def _failure(result: Mapping[str, Any]) -> str:
    """What is wrong with the result of a tool call, "" if nothing is."""
    if result.get("resultType", "complete") != "complete":
        return "it asks for input, so it cannot be probed"
    if not result.get("isError"):
        return ""
    content = result.get("content")
    parts = content if isinstance(content, list) else []
    texts = [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]
    return one_line(" ".join(texts)) or "it failed"


def _probe(tool: Json) -> Json | None:
    meta = tool.get("_meta")
    declared = meta.get(PROBE_META) if isinstance(meta, dict) else None
    arguments = declared.get("arguments") if isinstance(declared, dict) else None
    return arguments if isinstance(arguments, dict) else None


def _without_probe(tool: Json) -> Json:
    """The tool as clients are shown it."""
    meta = tool.get("_meta")
    if not isinstance(meta, dict) or PROBE_META not in meta:
        return tool
    kept = {key: value for key, value in meta.items() if key != PROBE_META}
    return {**{key: value for key, value in tool.items() if key != "_meta"}, **({"_meta": kept} if kept else {})}
