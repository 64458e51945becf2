"""Shared by the kit's unit tests: a clock that is set, a keyring, the signed vectors."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from services.common.call import Call, restore_call, set_call
from services.common.kit import Kit
from services.common.rights import Rights
from services.common.settings import KitSettings
from services.common.signing import Keyring

VECTORS = Path(__file__).parents[3] / "vectors" / "signed.json"


@dataclass
class Clock:
    """Seconds that pass when told to."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keyring() -> Keyring:
    return Keyring((b"k" * 32,))


@pytest.fixture
def kit(keyring: Keyring, clock: Clock, tmp_path: Path) -> Kit:
    """A kit that nothing serves."""
    settings = KitSettings(instance="a1b2c3", version="1.0.0", drill_file=tmp_path / "drill.json")
    return Kit("demo", settings, keyring, clock=clock)


@pytest.fixture
def calling() -> Iterator[Call]:
    """A call of client dev is running."""
    call = Call(client="dev", key="k1", rights=Rights(("*",)))
    token = set_call(call)
    yield call
    restore_call(token)


@pytest.fixture(scope="session")
def vectors() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(VECTORS.read_text())
    return found
