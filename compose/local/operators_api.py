"""The few calls `tekup up` and `tekup doctor` make to the control plane's API."""

import time
import uuid
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar
from urllib.parse import urlencode

import httpx
from pydantic import BaseModel, ValidationError

from .errors import LocalError, StepFailed
from .files import PRIVATE, write_atomically
from .layout import Layout
from .progress import Reporter, Silent
from .settings import CONTROL_PLANE
from .status import ProcessStatus

CLIENT = "dev"
REASON = "local environment, made by tekup up"
CALL_S = 30.0
AGAIN_S = 0.5


class GateShown(BaseModel):
    """What a gate has reported."""

    id: str
    live: bool
    """Its agent is there."""
    epoch: int
    revision: int
    problems: tuple[str, ...]


class ReplicaShown(BaseModel):
    """A living replica of the control plane."""

    id: str
    url: str
    leading: bool


class PlaneStatus(BaseModel):
    """Answer of `GET /v1/status`."""

    leading: bool
    leader: str = ""
    """Who leads; empty during an election."""
    replicas: tuple[ReplicaShown, ...] = ()
    initialised: bool
    epoch: int
    revision: int
    gates: tuple[GateShown, ...]
    message: str
    mirror: str = ""
    """What is wrong with the git mirror."""
    waiting: tuple[str, ...] = ()
    """Rollouts that wait for a person, a sentence each."""


class Decided(BaseModel):
    """Of a service's policy, what is looked at here."""

    stable: str


class InstanceShown(BaseModel):
    """An instance as the registry has it."""

    version: str
    state: str
    passing: bool
    id: str = ""
    probe: str = "unknown"
    """What a tool call through the gate came to."""


class ServiceShown(BaseModel):
    """One of `GET /v1/services`."""

    name: str
    policy: Decided | None
    instances: tuple[InstanceShown, ...]


class DeploymentShown(BaseModel):
    """Answer of `/v1/services/{service}/deployment`."""

    service: str
    version: str
    instances: int
    stage: str
    said: str
    ended: bool


class Services(BaseModel):
    """Answer of `GET /v1/services`."""

    services: tuple[ServiceShown, ...]


M = TypeVar("M", bound=BaseModel)


class OperatorsApi:
    """The control plane, with the operator's token."""

    def __init__(
        self,
        url: str,
        token: str,
        report: Reporter,
        patience_s: float,
        call_s: float = CALL_S,
        inside: httpx.BaseTransport | None = None,
    ) -> None:
        """Args:
        url: where it is.
        token: the operator's.
        report: told while waiting.
        patience_s: how long a control plane that does not answer, or does not lead yet, is asked again.
        call_s: the most one call may take.
        inside: another way there than the network; it knows the token.
        """
        headers = {"Authorization": f"Bearer {token}"}
        # It makes a few calls: no connection is kept, so that there is none that somebody has to close.
        limits = httpx.Limits(max_keepalive_connections=0)
        self._http = httpx.Client(
            base_url=url, headers=headers, timeout=call_s, trust_env=False, transport=inside, limits=limits
        )
        self._report = report
        self._deadline = time.monotonic() + patience_s

    def initialise(self) -> None:
        """Begin with an empty policy, unless there is one."""
        self._call("POST", "/v1/init", {"reason": REASON})

    def home(self) -> str:
        """The region that this one follows, which alone makes clients and keys; "" where there is none."""
        shown = self._call("GET", "/v1/region")
        return str(shown["peer"]) if shown["part"] not in ("alone", "home") else ""

    def has_client(self) -> bool:
        """Whether the development client is there."""
        return any(client.get("id") == CLIENT for client in self._call("GET", "/v1/clients")["clients"])

    def add_client(self) -> None:
        """Add the development client, which may do everything."""
        self._call("POST", "/v1/clients", {"id": CLIENT, "allow": ["*"], "reason": REASON})

    def knows_key(self, key: str) -> bool:
        """Whether a key of the client is still good."""
        keys = self._call("GET", f"/v1/clients/{CLIENT}/keys")["keys"]
        good = {item["id"] for item in keys if not item["revoked"]}
        return key.split("_")[1:2] != [] and key.split("_")[1] in good

    def create_key(self) -> str:
        """Make a key for the client."""
        return str(self._call("POST", f"/v1/clients/{CLIENT}/keys", {"reason": REASON})["key"])

    def revoked_keys(self) -> dict[str, int]:
        """Keys that are revoked, and since when, in seconds since the epoch."""
        keys = self._call("GET", "/v1/keys")["keys"]
        return {str(key["id"]): int(key["revoked"]) for key in keys if key["revoked"]}

    def revoke_keys(self, only: list[str] | None, reason: str) -> int:
        """Revoke keys, all of them for None; how many were good."""
        body = {"only": only, "reason": reason}
        return len(self._call("POST", "/v1/revocations", body)["changes"])

    def forget_gate(self, gate: str, reason: str) -> None:
        """Have nobody wait for a gate that is gone."""
        self._call("DELETE", f"/v1/gates/{gate}?{urlencode({'reason': reason})}")

    def backed_up(self, name: str, taken_s: float, size_bytes: int) -> None:
        """Tell that a backup was taken."""
        self._call("PUT", "/v1/backup", {"name": name, "taken": taken_s, "size_bytes": size_bytes})

    def kept_standby(self, target: str, at_s: float, took_s: float, every_s: float) -> None:
        """Tell of a round of the standby replica."""
        self._call("PUT", "/v1/standby", {"target": target, "at": at_s, "seconds": took_s, "every_s": every_s})

    def standby(self) -> dict[str, Any]:
        """The last round of the standby replica."""
        found: dict[str, Any] = self._call("GET", "/v1/standby")
        return found

    def forget_service(self, service: str, reason: str) -> None:
        """Take a service that is gone for good out of the policy."""
        self._call("DELETE", f"/v1/services/{service}?{urlencode({'reason': reason})}")

    def note(self, what: str, reason: str) -> None:
        """Have something that changes no policy written down in the history."""
        self._call("POST", "/v1/state/notes", {"what": what, "reason": reason})

    def deploy(self, service: str, body: Mapping[str, object]) -> DeploymentShown:
        """Have a version of a service deployed."""
        return DeploymentShown.model_validate(self._call("POST", f"/v1/services/{service}/deployment", body))

    def deployment(self, service: str) -> DeploymentShown:
        """A service's last deployment."""
        return self._read(f"/v1/services/{service}/deployment", DeploymentShown)

    def status(self) -> PlaneStatus:
        """What it and the gates say of themselves."""
        return self._read("/v1/status", PlaneStatus)

    def services(self) -> tuple[ServiceShown, ...]:
        """Every service: what was decided, and what is registered."""
        return self._read("/v1/services", Services).services

    def _read(self, path: str, kind: type[M]) -> M:
        try:
            return kind.model_validate(self._call("GET", path))
        except ValidationError as error:
            raise StepFailed(f"what answers GET {path} is no control plane of this version: {error}") from error

    def _call(self, method: str, path: str, body: object = None) -> Any:
        # A change whose answer is lost is asked for again, and made once: a key would be made twice.
        once = {} if method == "GET" else {"Idempotency-Key": f'"{uuid.uuid4()}"'}
        while True:
            try:
                response = self._http.request(method, path, json=body, headers=once)
                problem = f"{method} {path}: {response.status_code} {_detail(response)}"
            except httpx.RequestError as error:
                response, problem = None, f"{method} {path}: {str(error) or type(error).__name__}"
            if response is not None and response.is_success:
                self._report.over("control plane")
                return response.json()
            # 503: it does not lead yet, or Consul is not there yet; 409 with this header: the call itself is under way
            passing = (
                response is None
                or response.status_code == httpx.codes.SERVICE_UNAVAILABLE
                or (response.status_code == httpx.codes.CONFLICT and "Retry-After" in response.headers)
            )
            if not passing or time.monotonic() >= self._deadline:
                raise StepFailed(f"the control plane refused or failed: {problem}; see `tekup logs control-plane`")
            self._report.update("control plane", f"waiting until it answers ({problem})")
            time.sleep(AGAIN_S)


def first_to_answer(
    layout: Layout, processes: Iterable[ProcessStatus], call_s: float
) -> tuple[OperatorsApi, PlaneStatus] | None:
    """Ask the replicas of a running environment's control plane in turn.

    Args:
        layout: the environment.
        processes: what runs in it.
        call_s: the most to wait for each.

    Returns:
        The first that answers, and what it says of itself; None if none runs.

    Raises:
        LocalError: none answers, with the reason of the last.
        OSError: there is no operator token.
    """
    urls = [process.url for process in processes if process.group == CONTROL_PLANE and process.pid]
    token = layout.operator_token.read_text(encoding="ascii").strip() if urls else ""
    for url in urls:
        api = OperatorsApi(url, token, Silent(), patience_s=0, call_s=call_s)
        try:
            return api, api.status()
        except LocalError:
            if url == urls[-1]:
                raise
    return None


def _detail(response: httpx.Response) -> str:
    try:
        return str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        return response.text[:200]


def development_key(layout: Layout, api: OperatorsApi, report: Reporter) -> str:
    """The development client's key: the one kept, or a new one if it is not good any more.

    Returns:
        The key.
    """
    if home := api.home():
        report.note(f"this region follows {home}: clients and keys are made there, and those made there work here")
        return layout.client_key.read_text(encoding="ascii").strip() if layout.client_key.exists() else ""
    api.initialise()
    if not api.has_client():
        api.add_client()
    kept = layout.client_key.read_text(encoding="ascii").strip() if layout.client_key.exists() else ""
    if kept and api.knows_key(kept):
        return kept
    if kept:
        report.note(
            "the kept key is not known any more (was Consul's data lost, or the key revoked?): making a new one"
        )
    key = api.create_key()
    write_atomically(layout.client_key, key + "\n", PRIVATE)
    return key
