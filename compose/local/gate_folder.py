"""Lays out the gate's folder (docs/contracts.md): static configuration, plugin source, parent routers.

What the agent owns, `dynamic/routes.yml` and the tables, is left alone; folders are never replaced, since
Traefik watches them.
"""

import string
from collections.abc import Mapping
from pathlib import Path

from .errors import StepFailed
from .files import carried, write_atomically

PLUGIN = Path("plugins-local/src/tekup.dev/policy")
RENDERED = {"traefik.yml.tmpl": "traefik.yml", "gate.yml.tmpl": "dynamic/gate.yml"}
WHERE_ASKED = {
    "oauth.yml.tmpl": ("dynamic/oauth.yml", "OAUTH_ADDRESS"),
    "operators.yml.tmpl": ("dynamic/operators.yml", "OPERATORS_SERVERS"),
}
"""Rendered where there is a value for the placeholder, and taken away elsewhere."""
OPERATORS_ALONE = {"operators-gate.yml.tmpl": "traefik.yml", "operators.yml.tmpl": "dynamic/operators.yml"}


def lay_out_gate(gate: Path, values: Mapping[str, str]) -> None:
    """Write everything of the gate's folder that the environment owns.

    Args:
        gate: the folder.
        values: for the placeholders of the templates.

    Raises:
        StepFailed: a template wants a value we do not have.
    """
    source = carried("traefik")
    for folder in (gate, gate / "dynamic", gate / "tables", gate / PLUGIN):
        folder.mkdir(parents=True, exist_ok=True)
    _render(gate, RENDERED, values)
    for template, (target, placeholder) in WHERE_ASKED.items():
        if values.get(placeholder):
            _render(gate, {template: target}, values)
        else:
            (gate / target).unlink(missing_ok=True)
    _copy_plugin(source / "plugin", gate / PLUGIN)


def lay_out_operators_gate(gate: Path, values: Mapping[str, str]) -> None:
    """Write the folder of a gate for operators alone, but for its certificate.

    Args:
        gate: the folder.
        values: for the placeholders of the templates.

    Raises:
        StepFailed: a template wants a value we do not have.
    """
    (gate / "dynamic").mkdir(parents=True, exist_ok=True)
    _render(gate, OPERATORS_ALONE, values)


def _render(gate: Path, targets: Mapping[str, str], values: Mapping[str, str]) -> None:
    for template, target in targets.items():
        write_atomically(gate / target, rendered(carried("traefik") / template, values))


def rendered(template: Path, values: Mapping[str, str]) -> str:
    """A template with its placeholders filled.

    Args:
        template: for Python's string.Template.
        values: for its placeholders; there may be more.

    Raises:
        StepFailed: it wants a value we do not have.
    """
    try:
        return string.Template(template.read_text(encoding="utf-8")).substitute(values)
    except (KeyError, ValueError) as error:
        raise StepFailed(f"{template} has a placeholder without a value: {error}") from error


def _copy_plugin(source: Path, target: Path) -> None:
    wanted = {path.name: path for path in source.iterdir() if _belongs_to_plugin(path)}
    for stranger in [path for path in target.iterdir() if path.name not in wanted]:
        stranger.unlink()  # a source file that no longer exists must not be compiled in
    for name, path in wanted.items():
        write_atomically(target / name, path.read_text(encoding="utf-8"))


def _belongs_to_plugin(path: Path) -> bool:
    is_source = path.suffix == ".go" and not path.stem.endswith("_test")
    return is_source or path.name in ("go.mod", ".traefik.yml")
