"""What fails is run once more, alone, and fails the run if it fails again; of real runs of pytest."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import again

UNSTEADY = """
from pathlib import Path

def test_first_time_bad():
    seen = Path("seen")
    again = seen.exists()
    seen.touch()
    assert again

def test_good():
    with Path("good").open("a") as told:
        told.write("x")
"""

UNSTEADY_FIXTURE = """
import pytest
from pathlib import Path

@pytest.fixture
def thing():
    seen = Path("seen")
    again = seen.exists()
    seen.touch()
    assert again

def test_it(thing):
    pass
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the runs are, with no setting of this one's."""
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    monkeypatch.chdir(tmp_path)
    for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def ran(folder: Path, text: str, *arguments: str) -> int:
    (folder / "test_it.py").write_text(text)
    return again.main(["-q", *arguments, "test_it.py"])


def test_what_passes_the_second_time_is_named_and_nothing_else_is_run_again(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert ran(folder, UNSTEADY, "-n", "2", "--dist", "loadfile") == 0
    assert "passed only the second time, mend: test_it.py::test_first_time_bad" in capfd.readouterr().out
    assert (folder / "good").read_text() == "x"


def test_what_fails_twice_fails_the_run(folder: Path) -> None:
    assert ran(folder, "def test_bad():\n    assert False\n") == pytest.ExitCode.TESTS_FAILED


def test_more_than_a_few_failures_are_no_chance(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    bad = "import pytest\n@pytest.mark.parametrize('n', range(4))\ndef test_bad(n):\n    assert False\n"
    assert ran(folder, bad) == pytest.ExitCode.TESTS_FAILED
    assert "4 tests failed: too many to be chance" in capfd.readouterr().out


def test_a_file_that_cannot_be_read_is_not_asked_again(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert ran(folder, "import nothing_of_that_name\n") == pytest.ExitCode.INTERRUPTED
    assert "once more" not in capfd.readouterr().out


def test_a_fixture_that_fails_once_is_asked_again(folder: Path) -> None:
    assert ran(folder, UNSTEADY_FIXTURE) == 0
