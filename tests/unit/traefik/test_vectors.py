"""The shared examples are what their generators make, and the plugin passes its own tests on them."""

from __future__ import annotations

import re
import string
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import program

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(("module", "file"), [("generate", "signed.json"), ("decisions", "decisions.json")])
def test_the_examples_are_what_their_generator_makes(module: str, file: str) -> None:
    command = [sys.executable, "-m", f"tests.vectors.{module}"]
    made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert made == (ROOT / "tests/vectors" / file).read_text(), (
        f"run: python -m tests.vectors.{module} > tests/vectors/{file}"
    )


@pytest.mark.local
@pytest.mark.feature("A5")
def test_the_plugin_passes_its_go_tests() -> None:
    done = subprocess.run(
        [program("go"), "test", "-count=1", "./..."],
        cwd=ROOT / "traefik/plugin",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "template", ["traefik.yml.tmpl", "gate.yml.tmpl", "oauth.yml.tmpl", "operators.yml.tmpl", "tls.yml.tmpl"]
)
def test_a_template_names_its_placeholders_at_its_top(template: str) -> None:
    text = (ROOT / "traefik" / template).read_text()
    # of oauth.yml.tmpl those it shares with gate.yml.tmpl are said there
    told = [text, (ROOT / "traefik/gate.yml.tmpl").read_text()] if template == "oauth.yml.tmpl" else [text]
    head = "\n".join(line for each in told for line in each.splitlines() if line.startswith("#"))
    wanted = set(string.Template(text).get_identifiers())
    assert wanted
    assert {name for name in wanted if not re.search(rf"\b{name}\b", head)} == set()


def test_the_plugin_imports_the_standard_library_only() -> None:
    for source in (ROOT / "traefik/plugin").glob("*.go"):
        for imported in re.findall(r'^\t"([^"]+)"$', source.read_text(), re.MULTILINE):
            assert "." not in imported, f"{source.name} imports {imported}, which Traefik's interpreter does not have"
