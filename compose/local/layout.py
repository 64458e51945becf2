"""Where an environment keeps its things: everything under `.tekup/` in its directory."""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

SETTINGS_FILE = "tekup.toml"
SOCKET_PATH_BYTES = 100
"""A unix socket's path has room for 107 bytes on Linux and 103 on macOS."""


@dataclass(frozen=True)
class Layout:
    """The paths of one environment."""

    directory: Path

    @property
    def settings(self) -> Path:
        """The optional settings file."""
        return self.directory / SETTINGS_FILE

    @property
    def state(self) -> Path:
        """The state folder, 0700."""
        return self.directory / ".tekup"

    @property
    def up_lock(self) -> Path:
        """Held by `up` and `down` while they change what runs."""
        return self.state / "up.lock"

    @property
    def supervisor_lock(self) -> Path:
        """Held by the supervisor all its life."""
        return self.state / "supervisor.lock"

    @property
    def socket(self) -> Path:
        """The supervisor's socket; elsewhere if the directory's path is too long for one."""
        inside = self.state / "control.sock"
        if len(os.fsencode(inside)) <= SOCKET_PATH_BYTES:
            return inside
        name = hashlib.sha256(os.fsencode(self.directory)).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"tekup-{os.getuid()}-{name}" / "control.sock"

    @property
    def identity(self) -> Path:
        """A random mark of this environment, carried by all its processes."""
        return self.state / "environment.id"

    @property
    def table(self) -> Path:
        """The process table the supervisor runs."""
        return self.state / "table.json"

    @property
    def scale(self) -> Path:
        """How many instances of which version are wanted."""
        return self.state / "scale.json"

    @property
    def processes(self) -> Path:
        """What has been started: pids and start times."""
        return self.state / "processes.json"

    @property
    def ports(self) -> Path:
        """Ports that were chosen for this environment."""
        return self.state / "ports.json"

    @property
    def operator_token(self) -> Path:
        """The operator's token, 0600."""
        return self.state / "operator.token"

    @property
    def client_key(self) -> Path:
        """The key of the development client, 0600."""
        return self.state / "dev.key"

    @property
    def secrets(self) -> Path:
        """One 0600 file per service."""
        return self.state / "secrets"

    @property
    def authority(self) -> Path:
        """The development authority: `ca.pem` for clients to trust, `ca.key` 0600."""
        return self.state / "tls"

    @property
    def sealing_keys(self) -> Path:
        """What seals the hashes of API keys in Consul, 0600."""
        return self.secrets / "sealing-keys.json"

    @property
    def region_secret(self) -> Path:
        """What this region and another prove themselves to each other with, 0600; an operator puts it there."""
        return self.secrets / "region.secret"

    @property
    def consul_secrets(self) -> Path:
        """Tokens of Consul's roles, the gossip key, and the private part of Consul's configuration; all 0600."""
        return self.secrets / "consul"

    @property
    def consul_authority(self) -> Path:
        """The authority of Consul's agents, and their certificates, where there are several."""
        return self.secrets / "consul-tls"

    @property
    def logs(self) -> Path:
        """One file per process."""
        return self.state / "logs"

    @property
    def drills(self) -> Path:
        """Overrides of behaviour, `<service>-<version>.json`."""
        return self.state / "drills"

    @property
    def levels(self) -> Path:
        """How much a process logs, a file named as the process; none unless it was changed."""
        return self.state / "levels"

    @property
    def workspace(self) -> Path:
        """The folder filesystem and search work in unless told otherwise."""
        return self.state / "workspace"

    @property
    def pages(self) -> Path:
        """The page the browser opens in the first call."""
        return self.state / "pages"

    @property
    def consul(self) -> Path:
        """Consul's data."""
        return self.state / "consul"

    @property
    def prometheus(self) -> Path:
        """Prometheus's configuration and data."""
        return self.folder_of("prometheus")

    def folder_of(self, name: str) -> Path:
        """Configuration and data of a program that runs when asked for."""
        return self.state / name

    @property
    def gate(self) -> Path:
        """The gate's folder (docs/contracts.md)."""
        return self.state / "gate"

    def log(self, name: str) -> Path:
        """A process's log file."""
        return self.logs / f"{name}.log"

    def make_folders(self) -> None:
        """Create the folders that must be there; safe to repeat."""
        for folder in (self.state, self.secrets, self.authority, self.consul_secrets, self.socket.parent):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)
        for folder in (self.logs, self.drills, self.levels, self.workspace, self.pages, self.consul):
            folder.mkdir(parents=True, exist_ok=True)
