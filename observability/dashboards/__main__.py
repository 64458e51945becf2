"""`python -m observability.dashboards [FOLDER]` writes each dashboard as JSON, the same text each time."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from observability.dashboards.capacity import capacity
from observability.dashboards.consul import consul
from observability.dashboards.gateway import gateway
from observability.dashboards.overview import overview
from observability.dashboards.rollout import rollout
from observability.dashboards.service import service
from observability.dashboards.slo import slo
from observability.dashboards.tool import tool

FOLDER = Path(__file__).parents[1] / "grafana" / "dashboards"
BOARDS = (overview, service, tool, rollout, gateway, consul, capacity, slo)


def rendered() -> Iterator[tuple[str, str]]:
    """Each dashboard's file name and text."""
    for board in BOARDS:
        text = json.dumps(board(), cls=JSONEncoder, sort_keys=True, indent=2, ensure_ascii=False)
        yield f"{board.__name__}.json", text + "\n"


def main(folder: Path) -> None:
    """Write all, and remove what no dashboard of ours gives any more."""
    made = dict(rendered())
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in made.items():
        (folder / name).write_text(text)
    for left in folder.glob("*.json"):
        if left.name not in made:
            left.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
