"""What a supervisor tells about its environment; the one model both ends of its socket share."""

from pydantic import BaseModel, ConfigDict


class ProcessStatus(BaseModel):
    """One process, asked now."""

    model_config = ConfigDict(frozen=True)

    name: str
    group: str
    state: str
    ready: bool
    problem: str
    pid: int | None
    since: float
    restarts: int
    refused: bool = False
    """It ended by saying that its settings do not allow a start; trying again changes nothing."""
    version: str
    instance: str
    url: str


class Status(BaseModel):
    """The whole environment."""

    model_config = ConfigDict(frozen=True)

    directory: str
    pid: int
    table: str
    """Digest of the process table it runs."""
    stopping: bool
    scale: dict[str, dict[str, int]]
    processes: tuple[ProcessStatus, ...]

    def not_ready(self) -> list[ProcessStatus]:
        """The processes that are not ready."""
        return [process for process in self.processes if not process.ready]

    def scaled_to_0(self) -> tuple[str, ...]:
        """The services that are to have no instance of any version."""
        return tuple(service for service, counts in self.scale.items() if not any(counts.values()))


class Name(BaseModel):
    """Body of `POST /restart`; names are in bodies, where they may hold anything."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str


class Wish(BaseModel):
    """How many instances there should be: body of `PUT /scale`, and its answer."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    service: str
    version: str = ""
    """Empty: the version of the first instance."""
    count: int
