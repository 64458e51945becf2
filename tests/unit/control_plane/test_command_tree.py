"""Every verb of the command line, walked: help with an example, the options all have, 80 columns, completion."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from control_plane.cli.main import app

pytestmark = pytest.mark.feature("G7")
ROOT = Path(__file__).parents[3]
WIDTH = 80
Verb = tuple[str, ...]


def verbs(command: Any, path: Verb = ()) -> Iterator[tuple[Verb, Any]]:
    """All verbs below a command of whichever click typer has within."""
    group = getattr(command, "commands", None)
    if group is None:
        yield path, command
        return
    for name, below in group.items():
        yield from verbs(below, (*path, name))


TREE = typer.main.get_command(app)
VERBS = dict(verbs(TREE))
LOOKING = {
    *[("audit", name) for name in ("list", "export", "verify")],
    *[("backup", name) for name in ("list", "verify")],
    ("replica", "show"),
    *[("region", name) for name in ("show", "front")],
    *[("clients", name) for name in ("list", "show", "can")],
    *[("rollout", name) for name in ("list", "history", "explain", "lint", "review", "status")],
    *[("rules", name) for name in ("list", "show", "test")],
    *[("receivers", name) for name in ("list", "show")],
    *[("operators", name) for name in ("list", "who")],
    *[(group, "show") for group in ("autoscale", "config", "logs", "traffic")],
    *[(group, "list") for group in ("gates", "keys", "silence")],
    *[(name,) for name in ("connect", "demo", "diff", "doctor", "drift", "export", "history", "plan", "schema")],
    *[(name,) for name in ("status", "trace", "usage", "version")],
}
"""Verbs that change nothing; every other one is held to what changes have to offer."""
OF_THIS_MACHINE = {
    *[(name,) for name in ("up", "down", "restart", "scale", "add", "remove", "import", "new-service")],
    ("backup", "create"),
    ("backup", "restore"),
    ("replica", "run"),
    ("logs", "level"),
}
"""Changes of the processes on this machine, which no record of the policy holds: they take no reason."""
NO_JSON = {("schema",), ("version",), ("audit", "export"), ("region", "front")}
"""What they print is a document already."""
DANGEROUS = {
    ("apply",),
    ("rollback",),
    ("clients", "remove"),
    ("keys", "revoke"),
    ("operators", "revoke"),
    ("rules", "remove"),
    ("receivers", "remove"),
    ("traffic", "forget"),
    ("gates", "forget"),
    *[("region", name) for name in ("follow", "take-over", "leave", "left")],
    ("state", "repair"),
    ("state", "restore"),
}
"""What is not easily undone: on a terminal it asks first. An abort does not: it is the way back to what was."""


def options(verb: Verb) -> set[str]:
    return {text for parameter in VERBS[verb].params for text in (*parameter.opts, *parameter.secondary_opts)}


def help_of(verb: Verb) -> str:
    shown = CliRunner().invoke(app, [*verb, "--help"], env={"COLUMNS": str(WIDTH), "TERMINAL_WIDTH": str(WIDTH)})
    assert shown.exit_code == 0, shown.output
    return shown.output


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_says_what_it_does_with_an_example_in_80_columns(verb: Verb) -> None:
    shown = help_of(verb)
    assert max(map(len, shown.splitlines())) <= WIDTH, shown
    example = re.search(r"Example: (.+)", VERBS[verb].help or "")
    assert example, f"tekup {' '.join(verb)} has no example"
    typed = " ".join(verb).removesuffix(" show") if verb == ("logs", "show") else " ".join(verb)
    assert f"tekup {typed}" in example[1]
    assert all(parameter.help for parameter in VERBS[verb].params if isinstance(parameter, typer.core.TyperOption))


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_can_be_read_by_a_script_and_every_change_says_why(verb: Verb) -> None:
    offered = options(verb)
    assert ("--json" in offered) is (verb not in NO_JSON)
    if verb not in LOOKING | OF_THIS_MACHINE:
        assert "--reason" in offered
        assert "-r" in offered
    if verb in LOOKING:
        assert "--reason" not in offered


@pytest.mark.parametrize("verb", sorted(DANGEROUS), ids=" ".join)
def test_what_is_not_easily_undone_asks_first_and_scripts_say_yes(verb: Verb) -> None:
    assert {"--yes", "-y"} <= options(verb)


def test_the_first_help_says_when_changes_return_and_what_exit_codes_mean() -> None:
    shown = " ".join(help_of(()).split())
    assert "A change returns when it is in force on every gate" in shown
    assert "With --wait a rollout's verb returns at its end" in shown
    assert "Exit codes: 0 done, 1 failed, 2 bad input" in shown


@pytest.mark.parametrize("verb", [("rollout", "start"), ("rollout", "retry"), ("rollout", "status")], ids=" ".join)
def test_what_goes_on_after_its_change_is_in_force_can_be_waited_for(verb: Verb) -> None:
    assert "--wait" in options(verb)


def test_lists_of_this_test_name_verbs_that_exist() -> None:
    assert VERBS.keys() >= LOOKING | OF_THIS_MACHINE | NO_JSON | DANGEROUS


def completed(words: str, home: Path, shell: str = "bash") -> list[str]:
    """What a shell is told of a line that ends where the cursor is."""
    program = Path(sys.executable).with_name("tekup")
    count = len(words.split(" ")) - 1
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": str(ROOT)}
    env |= {"COMP_WORDS": words, "COMP_CWORD": str(count), "_TEKUP_COMPLETE": f"complete_{shell}"}
    env |= {"_TYPER_COMPLETE_ARGS": words, "_TYPER_COMPLETE_FISH_ACTION": "get-args"}
    done = subprocess.run([program], env=env, capture_output=True, text=True, timeout=60, check=False)
    return done.stdout.split()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_is_offered_to_each_shell(shell: str, tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "_TEKUP_COMPLETE": f"source_{shell}"}
    env |= {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    program = Path(sys.executable).with_name("tekup")
    script = subprocess.run(
        [program, "--show-completion", shell], env=env, capture_output=True, text=True, timeout=60, check=True
    ).stdout
    assert f"complete_{shell}" in script
    assert any("revoke" in one for one in completed("tekup keys re", tmp_path, shell))


@pytest.mark.skipif(not shutil.which("bash"), reason="there is no bash here")
def test_bash_itself_completes_a_verb(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("tekup")
    asked = f"""
    PATH={program.parent}:$PATH
    eval "$(tekup --show-completion bash)"
    handler=$(complete -p tekup | sed 's/.*-F \\([^ ]*\\).*/\\1/')
    COMP_WORDS=(tekup keys re) COMP_CWORD=2
    $handler tekup re keys
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = subprocess.run(["bash", "-c", asked], env=env, capture_output=True, text=True, timeout=120, check=False)
    assert sorted(done.stdout.split()) == ["reseal", "revoke"], done.stderr
