"""Completion in bash, asked of bash itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.typed_pages import command_of

pytestmark = pytest.mark.feature("G7")
ASK = """
eval "$(tekup --show-completion)"
complete -p tekup >&2
COMP_WORDS=({words}) COMP_CWORD={at}
"$(complete -p tekup | sed 's/.*-F \\([^ ]*\\).*/\\1/')" tekup
echo "${{COMPREPLY[@]}}"
"""


@pytest.mark.parametrize(
    ("words", "offered"),
    [("tekup tra", "traffic"), ("tekup traffic s", "set show"), ("tekup scale --ver", "--version")],
)
def test_bash_offers_the_commands_and_options_that_fit(words: str, offered: str, tmp_path: Path) -> None:
    script = ASK.format(words=words, at=len(words.split()) - 1)
    path = f"{command_of(tmp_path)}:/usr/bin:/bin"
    repository = Path(__file__).parents[3]
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        cwd=tmp_path, env={"PATH": path, "PYTHONPATH": str(repository), "HOME": str(tmp_path)}, capture_output=True,
        text=True, timeout=60, check=False,
    )  # fmt: skip
    assert set(offered.split()) <= set(done.stdout.split()), done.stderr
