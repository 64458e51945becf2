"""A gate with tables written by hand.

The tests import nothing from the control plane: they hold the gate to docs/contracts.md, not to its other reader.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.gate import SECRETS, Gate, Load, Maker, close, is_open, lay_out


@pytest.fixture
def bare_gate(tmp_path: Path) -> Iterator[Gate]:
    """A gate that is laid out, with no tables and not started."""
    gate = lay_out(tmp_path / "gate")
    yield gate
    close(gate)


def furnish(gate: Gate) -> None:
    """The usual world: alpha in two versions (three instances), beta and hub in one; four clients."""
    gate.services(
        {"alpha": {"alpha_1-0-0": 90, "alpha_1-1-0": 10}, "beta": {"beta_1-0-0": 100}, "hub": {"hub_1-0-0": 100}},
        {
            "alpha": {"aaaaa1": "alpha_1-0-0_aaaaa1", "aaaaa2": "alpha_1-0-0_aaaaa2", "aaaaa3": "alpha_1-1-0_aaaaa3"},
            "beta": {"bbbbb1": "beta_1-0-0_bbbbb1"},
        },
    )
    gate.clients(
        {"dev": ["*"], "narrow": ["alpha_read*", "alpha://*"], "gone": ["*"], "late": ["*"]},
        gone={"revoked": 1},
        late={"expires": 2},
    )
    gate.in_force()


BACKENDS = ("aaaaa1", "aaaaa2", "aaaaa3", "bbbbb1", "ccccc1")
ROUTES = {
    "alpha": {"alpha_1-0-0": ["aaaaa1", "aaaaa2"], "alpha_1-1-0": ["aaaaa3"]},
    "beta": {"beta_1-0-0": ["bbbbb1"]},
    "hub": {"hub_1-0-0": ["ccccc1"]},
}


@pytest.fixture(scope="module")
def running_gate(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gate]:
    """One gate for a module, with its backends."""
    gate = lay_out(tmp_path_factory.mktemp("gate") / "gate")
    try:
        gate.write("tables/secrets.json", json.dumps(SECRETS))
        for name in BACKENDS:
            gate.backend(name)
        gate.start()
        gate.routes(ROUTES)
        yield gate
    finally:
        close(gate)


@pytest.fixture
def gate(running_gate: Gate) -> Gate:
    """The module's gate, with all its backends up and the usual world in force."""
    for name in BACKENDS:
        if not is_open(running_gate.backends[name][0]):
            running_gate.backend(name)
    running_gate.write("tables/secrets.json", json.dumps(SECRETS))
    running_gate.routes(ROUTES)
    furnish(running_gate)
    return running_gate


@pytest.fixture
def load(gate: Gate) -> Callable[[str, dict[str, str]], Load]:
    """Makes a load on the gate."""
    return lambda path, headers: Load(gate, path, headers)


@pytest.fixture
def make() -> Maker:
    """Makes what callers send."""
    return Maker()
