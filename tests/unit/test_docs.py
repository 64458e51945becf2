"""The docs as a whole: what is made from code is up to date, links lead somewhere, the site needs no network."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown.extensions.toc import slugify

from compose.local.settings import Settings
from control_plane.api.openapi import document
from control_plane.api.routes import ROUTES
from observability.telemetry.about import platform_version
from tests.reference import PAGES
from tests.reference.metrics import declared, help_of
from tests.support.documented import table
from tests.support.programs import ROOT

pytestmark = pytest.mark.feature("G6")
DOCS = ROOT / "docs"
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
ELSEWHERE = re.compile(r"""<(?:script|img|iframe)[^>]+src=["'](?:https?:)?//|<link[^>]+href=["'](?:https?:)?//""")


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_the_reference_is_what_the_code_gives(name: str) -> None:
    written = (DOCS / "reference" / f"{name}.md").read_text()
    assert written == PAGES[name](), f"docs/reference/{name}.md is out of date: run `make reference` and commit it"


def test_every_metric_of_the_table_is_declared_with_a_help() -> None:
    helps = declared()
    named = [(one.name, who) for one in table() if "*" not in one.name for who in one.who]
    assert [name for name, who in named if not help_of(name, who, helps)] == []


def test_every_local_setting_says_what_it_is() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_the_openapi_document_refers_to_nothing_that_is_not_in_it() -> None:
    told = document(ROUTES)
    components = told["components"]
    assert isinstance(components, dict)
    referred = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(told)))
    assert referred - set(components["schemas"]) == set()
    assert [name for name in components["schemas"] if "__" in name] == []


def test_the_changelog_has_a_section_for_each_release_newest_first() -> None:
    headings = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    (first, _), *released = headings
    assert first == "Unreleased"
    numbers = [tuple(map(int, version.split("."))) for version, date in released if date]
    assert len(numbers) == len(released)
    assert numbers == sorted(numbers, reverse=True)
    ours = tuple(map(int, platform_version().split(".")))
    assert not numbers or ours >= numbers[0]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The docs as a site; a link or an anchor that leads nowhere breaks the build."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_in_the_site_and_none_fetches_anything_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(list(DOCS.rglob("*.md")))
    assert [str(page.relative_to(site)) for page in pages if ELSEWHERE.search(page.read_text())] == []
    styles = "\n".join(style.read_text() for style in site.rglob("*.css"))
    assert not re.search(r"@import|url\([\"']?(?:https?:)?//", styles)


@pytest.mark.parametrize("page", ["README.md", "CHANGELOG.md", "traefik/README.md"])
def test_links_of_pages_outside_the_site_lead_somewhere(page: str) -> None:
    assert list(_broken(ROOT / page)) == []


def _broken(page: Path) -> Iterator[str]:
    for link in LINK.findall(page.read_text()):
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = (page.parent / path) if path else page
        if not target.exists() or (anchor and anchor not in _anchors(target)):
            yield link


def _anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {slugify(re.sub(r"[`*]", "", one), "-") for one in headings}
