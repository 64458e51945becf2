"""A program out of a Debian package: unpacked into the cache, never installed, and said why where it cannot be."""

from pathlib import Path

import pytest

from compose.local.cache import cache_folder
from compose.local.errors import ProgramUnavailable
from compose.local.programs import Program, Resolver
from compose.local.progress import Silent
from compose.local.unpacked import UnpackedDebianPackage

TOOL = Program("tool", "", "1", (), (UnpackedDebianPackage("some-package", "usr/bin/tool"),), "install tool")


@pytest.fixture(autouse=True)
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An apt-get that makes an archive, and a dpkg-deb that unpacks a program from it; nothing else is on PATH."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, does in {
        "apt-get": '[ "$1" = -o ] && : > some-package_1.2_all.deb',
        "dpkg-deb": 'mkdir -p "$3/usr/bin" "$3/etc" && printf "#!/bin/sh\\necho tool 1.2\\n" > "$3/usr/bin/tool" '
        '&& chmod +x "$3/usr/bin/tool"',
    }.items():
        (folder / name).write_text(f"#!/bin/sh\n{does}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


async def test_the_program_alone_is_kept_and_found_again_without_fetching() -> None:
    found = await Resolver(Silent(), table={"tool": TOOL}).find("tool")
    assert (found.version, found.origin) == ("1.2", "Debian package some-package, unpacked")
    assert sorted(path.name for path in found.path.parent.iterdir()) == ["record.json", "tool"]
    again = await Resolver(Silent(), fetch=False, table={"tool": TOOL}).find("tool")
    assert again.path == found.path


async def test_a_package_without_the_program_is_said_and_leaves_nothing(stand_ins: Path) -> None:
    (stand_ins / "dpkg-deb").write_text('#!/bin/sh\nmkdir -p "$3"\n')
    with pytest.raises(ProgramUnavailable, match=r"some-package_1\.2_all\.deb holds no usr/bin/tool"):
        await Resolver(Silent(), table={"tool": TOOL}).find("tool")
    assert [path.suffix for path in cache_folder().iterdir()] == [".lock"]


async def test_a_machine_without_apt_is_told_so(stand_ins: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("apt-get", "dpkg-deb"):
        (stand_ins / name).unlink()
    monkeypatch.setenv("PATH", str(stand_ins))
    with pytest.raises(ProgramUnavailable, match=r"(?s)no apt-get and no dpkg-deb.*What to do: install tool") as caught:
        await Resolver(Silent(), table={"tool": TOOL}).find("tool")
    assert "Debian package some-package, unpacked" in str(caught.value)
