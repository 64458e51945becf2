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


class Wish(BaseModel):
    """Body of `PUT /services/{name}/scale`."""

    model_config = ConfigDict(extra="forbid")

    version: str = ""
    count: int
