"""A root with a secret beside it, opened in both ways a kernel may offer."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from services.common.paths import Opener, Place, Roots, open_by_components, open_by_openat2


@dataclass(frozen=True)
class World:
    """A root, and a folder outside of it that must stay unseen."""

    root: Path
    outside: Path
    roots: Roots

    def place(self, name: str) -> Place:
        return self.roots.locate(name)


@pytest.fixture(params=[open_by_openat2, open_by_components], ids=["openat2", "by components"])
def opener(request: pytest.FixtureRequest) -> Opener:
    chosen: Opener = request.param
    return chosen


@pytest.fixture
def world(tmp_path: Path, opener: Opener) -> World:
    root, outside = tmp_path / "root", tmp_path / "root-outside"
    root.mkdir()
    outside.mkdir()
    (outside / "secret.txt").write_text("the secret\n")
    return World(root, outside, Roots.of([root], opener))
