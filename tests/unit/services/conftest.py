"""A tree to search, and the real ripgrep."""

from pathlib import Path

import pytest

from services.common.ripgrep import Ripgrep
from tests.support.programs import program


@pytest.fixture
def rg() -> Ripgrep:
    return Ripgrep(str(program("rg")))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files = {
        "src/reader.py": "def readFileContent(path):\n    return path.read_text()\n",
        "src/writer.py": "def write_file(path, text):\n    # TODO: fsync\n    path.write_text(text)\n",
        "docs/guide.md": "# Guide\n\nHow files are read and written.\nTODO: more\n",
        "ignored.log": "TODO in a log\n",
        ".hidden": "TODO hidden\n",
        ".ignore": "*.log\n",
    }
    root = tmp_path / "tree"
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root
