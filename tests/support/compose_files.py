"""Compose files as they are written: YAML with Compose's own tags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """Knows `!override` and `!reset`: what is tagged is taken as it stands."""


def _as_it_stands(loader: _Loader, node: yaml.Node) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    if isinstance(node, yaml.MappingNode):
        return loader.construct_mapping(node, deep=True)
    return loader.construct_scalar(node) if isinstance(node, yaml.ScalarNode) else None


for _tag in ("!override", "!reset"):
    _Loader.add_constructor(_tag, _as_it_stands)


def compose_file(path: Path) -> dict[str, Any]:
    """What a Compose file says."""
    said: dict[str, Any] = yaml.load(path.read_text(encoding="utf-8"), _Loader) or {}
    return said
