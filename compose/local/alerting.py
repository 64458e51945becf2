"""Alerts in the local environment: Prometheus's rules as they are wanted here, and Alertmanager as a process."""

from pathlib import Path

from observability.rules import Scale, rendered, seconds

from .errors import StepFailed
from .files import carried, write_atomically
from .on_call import on_call_program
from .parts import Parts
from .table import Process

ALERTMANAGER_PORT = "MCP_ALERTMANAGER_PORT"
SAMPLES = 4
"""No window of a rule is shorter than so many scrapes."""
PATIENCE = {
    "WATCHDOG_REPEAT": "1m",
    "GROUP_WAIT": "30s",
    "GROUP_INTERVAL": "5m",
    "REPEAT": "12h",
    "PAGE_REPEAT": "1h",
}
"""How long Alertmanager waits for what; scaled as the rules are."""
OPERATORS = "operators"
"""Where among the rules those lie that operators add; the keeper's alone."""
BASE, LIVE, SECRETS = "alertmanager.yml", "live.yml", "secrets"
"""In Alertmanager's folder: the platform's own configuration; what it reads, with receivers in it; their secrets."""
LEAST_S = 5.0
"""However scaled: Alertmanager gives a receiver as long as its group waits."""


def rule_files(parts: Parts, scrape_s: float) -> dict[str, str]:
    """The rules as they are wanted, by file below the folder of rules.

    Args:
        parts: The environment.
        scrape_s: How often Prometheus scrapes, in seconds.

    Raises:
        StepFailed: a rule makes no sense.
    """
    settings = parts.effective.settings
    runbooks = settings.runbooks_url or carried("docs", "runbooks").as_uri()
    scale = Scale(settings.alert_time_scale, window_s=SAMPLES * scrape_s, interval_s=scrape_s)
    try:
        return rendered(scale, runbooks)
    except (OSError, ValueError) as error:
        raise StepFailed(f"the rules of observability/prometheus/rules cannot be written: {error}") from error


def lay_out_rules(parts: Parts, scrape_s: float) -> None:
    """Write the rules beside Prometheus's configuration, and take away what is none any more.

    Args:
        parts: The environment.
        scrape_s: How often Prometheus scrapes, in seconds.

    Raises:
        StepFailed: a rule makes no sense.
    """
    files, folder = rule_files(parts, scrape_s), rules_folder(parts)
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text)
    for stranger in folder.rglob("*.yml"):
        if str(stranger.relative_to(folder)) not in files and stranger.parent != folder / OPERATORS:
            stranger.unlink()


def rules_folder(parts: Parts) -> Path:
    """Where Prometheus finds its rules."""
    return parts.layout.prometheus / "rules"


def alertmanager_values(parts: Parts) -> dict[str, str]:
    """Values for the template of Alertmanager's configuration."""
    settings = parts.effective.settings
    scale = Scale(settings.alert_time_scale)
    patience = {name: scale.duration(text, min(LEAST_S, seconds(text))) for name, text in PATIENCE.items()}
    return {
        "ALERT_RECEIVER": _webhook(settings.alert_webhook_url, resolved=True),
        "WATCHDOG_RECEIVER": _webhook(settings.watchdog_webhook_url, resolved=False),
        **patience,
    }


def _webhook(url: str, *, resolved: bool) -> str:
    return f'{{url: "{url}", send_resolved: {str(resolved).lower()}}}' if url else ""


def begin_receivers(folder: Path) -> None:
    """Have Alertmanager begin with the platform's own configuration, and a place for secrets of operators' receivers.

    Args:
        folder: Alertmanager's.
    """
    (folder / SECRETS).mkdir(mode=0o700, exist_ok=True)
    if not (folder / LIVE).exists():
        write_atomically(folder / LIVE, (folder / BASE).read_text(encoding="utf-8"))


def keeper_of_receivers(parts: Parts) -> dict[str, str]:
    """What the keeper beside Alertmanager is told."""
    folder = parts.layout.folder_of("alertmanager")
    return {
        "MCP_ALERTMANAGER_BASE": str(folder / BASE),
        "MCP_ALERTMANAGER_CONFIG": str(folder / LIVE),
        "MCP_ALERTMANAGER_URL": parts.url(ALERTMANAGER_PORT),
        "MCP_ALERT_SECRETS_DIR": str(folder / SECRETS),
    }


def alertmanager(parts: Parts) -> Process:
    """Alertmanager, alone: nobody to gossip with."""
    folder = parts.layout.folder_of("alertmanager")
    flags = {
        "config.file": folder / LIVE,
        "storage.path": folder / "data",
        "web.listen-address": parts.address(ALERTMANAGER_PORT),
        "cluster.listen-address": "",
        "log.format": "json",
        # whether a test message arrived is asked for each receiver
        "enable-feature": "receiver-name-in-metrics",
    }
    return on_call_program(
        parts,
        "alertmanager",
        *(f"--{name}={value}" for name, value in flags.items()),
        port=ALERTMANAGER_PORT,
        ready=f"{parts.url(ALERTMANAGER_PORT)}/-/ready",
    )
