"""What `tekup doctor` looks at, and what it finds."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import httpx

from .consul_acl import OPERATOR, token_file
from .consul_api import token_header
from .layout import Layout
from .settings import Effective
from .status import ProcessStatus, Status

CALL_S = 5.0


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    what: str
    ok: bool
    said: str
    remedy: str = ""

    def data(self) -> dict[str, object]:
        """For `--json`."""
        return asdict(self)


@dataclass(frozen=True)
class Patient:
    """What the checks look at."""

    layout: Layout
    effective: Effective
    status: Status | None

    def process(self, name: str) -> ProcessStatus | None:
        """A process of that name that runs, if there is one."""
        processes = self.status.processes if self.status else ()
        return next((process for process in processes if process.name == name and process.pid), None)

    @cached_property
    def consul_problem(self) -> str:
        """Why Consul is of no use now, "" where it is; asked once, since a Consul that hangs takes its time."""
        process = self.process("consul")
        if process is None:
            return "it does not run"
        try:
            return "" if get(f"{process.url}/v1/status/leader") else "its servers have no leader"
        except (httpx.HTTPError, ValueError) as error:
            return f"{process.url} does not answer: {error or type(error).__name__}"

    @property
    def consul(self) -> Callable[[str], Any] | None:
        """Asks Consul, as an operator; None where it does not answer."""
        process = self.process("consul")
        if process is None or self.consul_problem:
            return None
        return lambda path: get(f"{process.url}{path}", token_header(token_file(self.layout, OPERATOR)))


def get(url: str, headers: Mapping[str, str] | None = None) -> Any:
    """An answer in JSON.

    Raises:
        httpx.HTTPError: there is none, or it is a refusal.
        ValueError: it is no JSON.
    """
    return httpx.get(url, headers=headers, timeout=CALL_S, trust_env=False).raise_for_status().json()
