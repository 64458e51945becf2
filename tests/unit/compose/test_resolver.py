"""The resolver: order of sources, verification, the cache, and what it says when nothing works."""

import asyncio
import json
import re
import stat
import subprocess
from pathlib import Path

import pytest

from compose.local.cache import Entry, cache_folder, cached_or_built
from compose.local.errors import ProgramUnavailable, SourceFailed
from compose.local.files import repository, try_lock
from compose.local.programs import PROGRAMS, Program, Resolver
from compose.local.progress import PlainLines, Silent
from compose.local.sources import CargoBuild, GoBuild, OnPath

BUILT = Program("tool", "1", "1", (), (GoBuild("consul", "example.test/x"),), "install it")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return cache_folder()


def program_that_says(folder: Path, name: str, text: str, code: int = 0) -> None:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\necho '{text}'\nexit {code}\n")
    path.chmod(0o755)


def a_program(*names: str, minimum: str = "2.0") -> Program:
    return Program("tool", "2.1", minimum, ("version",), tuple(OnPath((name,)) for name in names), "install tool 2")


async def find(program: Program) -> str:
    found = await Resolver(Silent(), table={program.name: program}).find(program.name)
    return f"{found.path.name} {found.version}"


async def test_the_first_source_that_is_new_enough_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program_that_says(tmp_path / "bin", "old-tool", "tool v1.9.9")
    program_that_says(tmp_path / "bin", "new-tool", "tool v2.3.4")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    assert await find(a_program("old-tool", "new-tool")) == "new-tool 2.3.4"


async def test_when_nothing_works_every_reason_and_the_remedy_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program_that_says(tmp_path / "bin", "old-tool", "tool v1.9.9")
    program_that_says(tmp_path / "bin", "bad-tool", "cannot load libfoo", 127)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    with pytest.raises(ProgramUnavailable) as caught:
        await find(a_program("old-tool", "bad-tool", "no-tool"))
    said = str(caught.value)
    assert "is version 1.9.9, older than 2.0" in said
    assert "cannot load libfoo" in said
    assert "not on PATH as no-tool" in said
    assert "What to do: install tool 2" in said


async def test_all_missing_programs_are_told_together() -> None:
    table = {name: Program(name, "1", "1", (), (OnPath((name,)),), f"install {name}") for name in ("no-a", "no-b")}
    with pytest.raises(ProgramUnavailable, match=r"(?s)install no-a.*install no-b"):
        await Resolver(Silent(), table=table).find_all(table)


async def test_a_build_is_done_once_and_then_taken_from_the_cache() -> None:
    builds = 0

    async def build(folder: Path) -> None:
        nonlocal builds
        builds += 1
        await asyncio.to_thread((folder / "tool").write_text, "program")

    entry = Entry("tool", "1.0", "d" * 64, "tool")
    assert entry.verified() is None
    both = await asyncio.gather(*(cached_or_built(entry, build, Silent()) for _ in range(2)))
    assert both == [entry.program, entry.program]
    assert await cached_or_built(entry, build, Silent()) == entry.program
    assert builds == 1


async def test_a_cached_program_that_was_changed_is_built_again() -> None:
    async def build(folder: Path) -> None:
        await asyncio.to_thread((folder / "tool").write_text, "program")

    entry = Entry("tool", "1.0", "d" * 64, "tool")
    await cached_or_built(entry, build, Silent())
    entry.program.write_text("another")
    assert entry.verified() is None
    await cached_or_built(entry, build, Silent())
    assert entry.program.read_text() == "program"


async def test_a_build_that_fails_leaves_nothing_in_the_cache() -> None:
    async def build(folder: Path) -> None:
        await asyncio.to_thread((folder / "half").write_text, "x")
        raise SourceFailed("no network")

    with pytest.raises(SourceFailed):
        await cached_or_built(Entry("tool", "1.0", "d" * 64, "tool"), build, Silent())
    assert [path.suffix for path in cache_folder().iterdir()] == [".lock"]


async def test_a_resolver_waits_for_another_that_builds_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    entry = Entry("tool", "1.0", "d" * 64, "tool")
    said = asyncio.Event()

    class Listening(Silent):
        def update(self, task: str, doing: str, done: int = 0, total: int = 0) -> None:
            if "waiting for process" in doing:
                said.set()

    async def build(folder: Path) -> None:
        await asyncio.to_thread((folder / "tool").write_text, "program")

    with try_lock(cache_folder() / f"{entry.folder.name}.lock") as mine:
        assert mine
        waiting = asyncio.create_task(cached_or_built(entry, build, Listening()))
        await asyncio.wait_for(said.wait(), 5)
        assert not waiting.done()
    assert await asyncio.wait_for(waiting, 5) == entry.program


async def test_a_go_build_that_fails_tells_its_last_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program_that_says(tmp_path / "bin", "go", "go version go1.30.0")
    (tmp_path / "bin" / "go").write_text(
        '#!/bin/sh\n[ "$1" = version ] && echo go version go1.30.0 && exit 0\necho no route to host >&2\nexit 1\n'
    )
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    with pytest.raises(ProgramUnavailable, match=r"(?s)Go build of consul/go.mod: .*code 1.*no route to host"):
        await Resolver(Silent(), table={"go": PROGRAMS["go"], "tool": BUILT}).find("tool")


async def test_without_fetching_nothing_is_built() -> None:
    with pytest.raises(ProgramUnavailable, match="not fetched yet"):
        await Resolver(Silent(), fetch=False, table={"tool": BUILT}).find("tool")


def test_the_pinned_consul_is_the_one_its_module_requires() -> None:
    text = (repository() / "consul" / "go.mod").read_text()
    required = re.search(r"github\.com/hashicorp/consul v(\S+)", text)
    assert required is not None
    assert required.group(1) == PROGRAMS["consul"].pinned


@pytest.mark.parametrize("name", ["prometheus", "promtool"])
def test_the_pinned_prometheus_is_the_one_its_module_requires(name: str) -> None:
    text = (repository() / "observability" / "prometheus" / "go.mod").read_text()
    required = re.search(r"github\.com/prometheus/prometheus v(\S+)", text)
    assert required is not None
    assert required.group(1) == PROGRAMS[name].pinned


@pytest.mark.parametrize("name", ["alertmanager", "amtool"])
def test_the_pinned_alertmanager_is_the_one_its_module_requires(name: str) -> None:
    text = (repository() / "observability" / "alertmanager" / "go.mod").read_text()
    required = re.search(r"github\.com/prometheus/alertmanager v(\S+)", text)
    assert required is not None
    assert required.group(1) == PROGRAMS[name].pinned


CRATE = Program("tool", "2.1.0", "2.1", ("--version",), (CargoBuild("thing", ("fast",)),), "have Cargo on PATH")


def test_a_crate_is_built_as_its_lock_file_says_and_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    program_that_says(tmp_path / "bin", "cargo", "")
    cargo = tmp_path / "bin" / "cargo"
    cargo.write_text(
        f'#!/bin/sh\nset -e\necho "$@" >> {tmp_path}/asked\nwhile [ "$1" != --root ]; do shift; done\nmkdir "$2"/bin\n'
        'echo "\\"thing 2.1.0 (registry)\\" = [\\"thing\\"]" > "$2"/.crates.toml\n'
        'printf "#!/bin/sh\\necho it runs\\n" > "$2"/bin/thing\nchmod +x "$2"/bin/thing\n'
    )
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    assert [asyncio.run(find(CRATE)) for _ in range(2)] == ["tool 2.1.0"] * 2
    (built,) = own_cache.glob("tool-*/tool")
    assert subprocess.run([built], capture_output=True, text=True, check=True).stdout == "it runs\n"
    (asked,) = (tmp_path / "asked").read_text().splitlines()
    assert asked.startswith("install thing@2.1.0 --locked --features=fast --root ")


async def test_where_cargo_is_not_a_crate_is_not_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ProgramUnavailable, match="cargo is not on PATH"):
        await find(CRATE)


def test_build_tags_decide_what_is_built() -> None:
    plain, tagged = (GoBuild("consul", "example.test/x", tags).entry("tool", "1") for tags in ((), ("small",)))
    assert plain.folder != tagged.folder


def test_a_program_of_our_own_is_another_one_when_its_source_changes(tmp_path: Path) -> None:
    for file in ("go.mod", "go.sum", "main.go"):
        (tmp_path / file).write_text("one")
    build = GoBuild(str(tmp_path), "example.test/x")
    before = build.entry("tool", "1")
    (tmp_path / "main.go").write_text("two")
    assert build.entry("tool", "1").folder != before.folder


def test_the_conformance_suites_lock_pins_every_package_by_its_content_and_by_no_address() -> None:
    lock = json.loads((repository() / "tests" / "conformance" / "package-lock.json").read_text())
    packages = {path: package for path, package in lock["packages"].items() if path}
    assert all(package["integrity"].startswith("sha512-") for package in packages.values())
    assert not [path for path, package in packages.items() if "resolved" in package]
    pinned = packages["node_modules/@modelcontextprotocol/conformance"]["version"]
    assert pinned == PROGRAMS["conformance"].pinned


async def test_what_runs_on_node_is_not_there_where_node_is_not() -> None:
    table = {name: PROGRAMS[name] for name in ("node", "conformance")}
    with pytest.raises(ProgramUnavailable, match=r"package-lock\.json: not fetched yet"):
        await Resolver(Silent(), fetch=False, table=table).find("conformance")


def test_consul_the_folder_does_not_hide_consul_the_package() -> None:
    assert not (repository() / "consul" / "__init__.py").exists()


def test_plain_progress_is_silent_at_first_and_says_how_it_ended(capsys: pytest.CaptureFixture[str]) -> None:
    report = PlainLines()
    report.update("tool", "compiling", 1, 9)
    assert capsys.readouterr().err == ""
    report.finish("tool", "1.0 from cache")
    assert capsys.readouterr().err == "tool: 1.0 from cache (0 s)\n"


def test_files_in_the_cache_are_the_users_alone_to_write(own_cache: Path) -> None:
    with try_lock(own_cache / "x.lock"):
        assert stat.S_IMODE((own_cache / "x.lock").stat().st_mode) == 0o600
