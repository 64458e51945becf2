"""The platform's own images: each starts hardened, holds what it needs and no more, and is built anew in seconds."""

from __future__ import annotations

import json
import re
import secrets
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client
from mcp_types import CallToolResult

from compose.images.build import About
from compose.images.table import IMAGES
from tests.support.engine import Engine
from tests.support.images import BUILD_S, ROOT, SECCOMP, Container, container, hardened, our_images, refused, tagged
from tests.support.wait import eventually

pytestmark = pytest.mark.docker

ALONE = [name for name in IMAGES if name != "bridge"]
"""What starts without more; a bridge wants a server of somebody else's, and starts it as another user (test_bridged.py,
docs/decisions/0039)."""
SERVICES = {"browser": 3001, "filesystem": 3002, "search": 3003, "hub": 3004}
# None of these is in an image: what builds, what installs, what fetches.
TOOLS = ["gcc", "cc", "g++", "c++", "make", "ld", "as", "pip", "pip3", "uv", "uvx", "git", "curl", "wget", "nc", "gpg"]
PING = ("traefik", "--ping=true", "--ping.entrypoint=private", "--entrypoints.private.address=:3006")
# What /proc says of Chromium's renderers, which it is that run a page's own code.
SANDBOXED = """
import json, os, pathlib
SPACES = ("user", "net", "pid")
def status(folder):
    return dict(line.split(":\\t", 1) for line in (folder / "status").read_text().splitlines() if ":\\t" in line)
def spaces(folder):
    return {name: os.readlink(folder / "ns" / name) for name in SPACES}
renderers = []
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    try:
        if folder.name != str(os.getpid()) and b"--type=renderer" in (folder / "cmdline").read_bytes():
            renderers.append({**status(folder), **spaces(folder)})
    except FileNotFoundError:
        continue  # ended meanwhile
print(json.dumps({"own": spaces(pathlib.Path("/proc/self")), "renderers": renderers}))
"""


@pytest.fixture(scope="module")
def started(
    engine: Engine, images: str, run_prefix: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, Container]]:
    """A container of each image, hardened and alone."""
    token = tmp_path_factory.mktemp("secrets") / "operator"
    token.write_text("not-a-secret")
    token.chmod(0o644)
    alone: dict[str, tuple[str, ...]] = dict.fromkeys(SERVICES, ("--env", "MCP_STANDALONE=true"))
    alone["hub"] += ("--env", "MCP_GATE_INTERNAL_URL=http://127.0.0.1:9")
    alone["control-plane"] = ("--volume", f"{token}:/token:ro", "--env", "MCP_OPERATOR_TOKEN_FILE=/token")
    with ExitStack() as stack:
        yield {
            name: stack.enter_context(
                container(
                    engine, run_prefix, tagged(name), *hardened(name), *alone.get(name, ()),
                    *(("--publish", f"127.0.0.1::{SERVICES[name]}") if name in SERVICES else ()),
                    command=PING if name == "gateway" else (),
                )
            )
            for name in ALONE
        }  # fmt: skip


@pytest.mark.feature("F2", "E6")
def test_each_image_is_within_its_bound(images: str) -> None:
    print(images)
    assert all(image.repository in images for image in IMAGES.values())
    assert "too large" not in images


@pytest.mark.feature("E6")
@pytest.mark.parametrize("name", ALONE)
def test_a_program_runs_healthy_without_root_capabilities_or_a_writable_root(
    started: Mapping[str, Container], name: str
) -> None:
    started[name].healthy()
    status = dict(line.split(":", 1) for line in started[name].execute("cat", "/proc/1/status").splitlines())
    assert status["Uid"].split() == ["10001"] * 4
    assert status["Gid"].split() == ["10001"] * 4
    assert int(status["CapEff"], 16) == 0
    assert int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"
    said = refused(started[name].engine, "exec", started[name].id, "touch", "/written")
    assert "Read-only file system" in said


@asynccontextmanager
async def client_of(started: Mapping[str, Container], name: str) -> AsyncIterator[Client]:
    """A client of a service that stands alone."""
    started[name].healthy()
    url = f"http://{started[name].address(SERVICES[name])}/mcp"
    async with (
        httpx2.AsyncClient(timeout=60) as http,
        Client(streamable_http_client(url, http_client=http), mode="2026-07-28") as client,
    ):
        yield client


@pytest.mark.parametrize("name", ["browser", "filesystem", "search"])
async def test_a_service_alone_in_its_container_lists_its_tools(started: Mapping[str, Container], name: str) -> None:
    async with client_of(started, name) as client:
        listed = await client.list_tools()
    assert listed.tools
    assert all(tool.name.startswith(f"{name}_") for tool in listed.tools)


async def test_a_hub_without_a_gate_says_what_it_lacks(started: Mapping[str, Container]) -> None:
    async with client_of(started, "hub") as client:
        try:
            await client.list_tools()
        except MCPError as error:
            said = error.message
    assert "the gate cannot say which services there are" in said


async def test_ripgrep_runs_in_the_container_of_the_search_service(started: Mapping[str, Container]) -> None:
    async with client_of(started, "search") as client:
        found = await client.call_tool("search_grep", {"pattern": "nowhere", "path": "/data"})
    assert isinstance(found, CallToolResult)
    assert not found.is_error, found


async def test_chromium_is_in_its_own_sandbox_and_not_root(started: Mapping[str, Container]) -> None:
    async with client_of(started, "browser") as client:
        opened = await client.call_tool("browser_open", {"url": "about:blank"})
        assert isinstance(opened, CallToolResult)
        assert not opened.is_error, opened
        seen = await eventually(lambda: renderers(started["browser"]), "renderers with a filter of their own")
    for renderer in seen["renderers"]:
        assert renderer["Uid"].split() == ["10001"] * 4
        assert int(renderer["CapEff"], 16) == 0
        for space in ("user", "net", "pid"):
            assert renderer[space] != seen["own"][space], space


async def renderers(browser: Container) -> dict[str, Any] | None:
    """Chromium's renderers, once each has put a filter of its own over the container's; one just forked has not."""
    seen: dict[str, Any] = json.loads(browser.execute("python", "-c", SANDBOXED))
    filters = [int(renderer["Seccomp_filters"]) for renderer in seen["renderers"]]
    return seen if filters and min(filters) > 1 else None


def test_without_its_profile_the_browser_says_what_its_sandbox_lacks(
    engine: Engine, images: str, run_prefix: str
) -> None:
    strict = [*hardened("filesystem"), "--env", "MCP_STANDALONE=true", "--env", "MCP_ENABLE_SANDBOX=true"]
    said = refused(engine, "run", "--rm", "--label", f"tekup.test={run_prefix}", *strict, tagged("browser"))
    assert "cannot start its sandbox here" in said
    assert "seccomp profile" in said


def test_the_browser_without_its_sandbox_is_an_explicit_setting(engine: Engine, images: str, run_prefix: str) -> None:
    loose = [*hardened("filesystem"), "--env", "MCP_STANDALONE=true", "--env", "MCP_ENABLE_SANDBOX=false"]
    with container(engine, run_prefix, tagged("browser"), *loose) as browser:
        browser.healthy()


@pytest.mark.parametrize("profile", ["default", "chromium"])
def test_a_profile_refuses_what_escapes_begin_with(engine: Engine, images: str, profile: str) -> None:
    # unshare with a mount namespace, ptrace, io_uring_setup, a socket of the kernel's cryptography
    calls = (
        "import ctypes, errno, socket; c = ctypes.CDLL(None, use_errno=True)\n"
        "for call in ((272, 0x10020000), (101, 0, 0, 0, 0), (425, 1, 0)):\n"
        "    assert c.syscall(*call) == -1 and ctypes.get_errno() == errno.EPERM, (call, ctypes.get_errno())\n"
        "try: socket.socket(socket.AF_ALG, socket.SOCK_SEQPACKET)\n"
        "except PermissionError: print('refused')"
    )
    options = ["--rm", "--network", "none", "--security-opt", f"seccomp={SECCOMP / profile}.json"]
    assert engine.docker("run", *options, tagged("search"), "python", "-c", calls) == "refused"


@pytest.mark.parametrize("name", [name for name, image in IMAGES.items() if image.kit])
def test_every_module_in_an_image_finds_what_it_imports(engine: Engine, images: str, name: str) -> None:
    imports = (
        "import importlib, pathlib\n"
        "for file in sorted(pathlib.Path('.').rglob('*.py')):\n"
        "    if file.stem not in ('__main__', '__init__'):\n"
        "        importlib.import_module('.'.join(file.with_suffix('').parts))\n"
        "print('all')"
    )
    options = ("--rm", "--network", "none", *hardened("filesystem"), "--user", "10001:10001")
    options += ("--entrypoint", "/opt/tekup/bin/python")
    assert engine.docker("run", *options, tagged(name), "-W", "error", "-c", imports) == "all"


@pytest.mark.feature("E6")
@pytest.mark.parametrize("name", IMAGES)
def test_an_image_holds_nothing_that_builds_installs_or_tests(engine: Engine, images: str, name: str) -> None:
    look = (
        f"for tool in {' '.join(TOOLS)}; do command -v $tool; done; "
        "find / -xdev -type d \\( -name tests -o -name site-packages/pip -o -name .git -o -name ensurepip \\) "
        "-not -path '/proc/*'; "
        "find / -xdev -perm /6000 -type f -newer /etc/os-release -not -path '/proc/*'; "
        "ls -d /etc/ssl/certs/ca-certificates.crt /root/.cache /source /build /var/lib/apt/lists/*_Packages; "
        "true"
    )
    found = engine.docker(
        "run", "--rm", "--network", "none", "--user", "0", tagged(name), "sh", "-c", f"({look}) 2> /dev/null"
    )
    # What servers of other people are installed and run by, and what keeps the mirror of the history.
    own = {"bridge": "/opt/runtimes/", "control-plane": "/usr/bin/git"}
    assert [line for line in found.splitlines() if not (name in own and line.startswith(own[name]))] == []


TOOLS_OF_OPERATORS = """
set -e
promtool --version > /dev/null 2>&1; amtool --version > /dev/null 2>&1
git init --quiet --bare --initial-branch=main /tmp/mirror
git --git-dir=/tmp/mirror fast-import --quiet --done << END
feature done
commit refs/heads/main
committer somebody <somebody@example.org> 0 +0000
data 1
x
done
END
git init --quiet --bare /tmp/remote
git --git-dir=/tmp/mirror push --quiet /tmp/remote refs/heads/main
git --git-dir=/tmp/mirror ls-remote /tmp/remote refs/heads/main | cut -f2
git --git-dir=/tmp/mirror ls-remote https://127.0.0.1:9/x 2>&1 | grep -o 'onnect.*' | head -1
"""


def test_the_control_planes_image_has_git_that_pushes_by_https_and_path_promtool_and_amtool(
    engine: Engine, images: str
) -> None:
    script = ("sh", "-c", TOOLS_OF_OPERATORS)
    said = engine.docker("run", "--rm", *hardened("control-plane"), tagged("control-plane"), *script)
    assert "refs/heads/main" in said
    assert "onnect" in said, "git knows no https"


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_says_what_it_is_and_no_secret(engine: Engine, images: str, name: str) -> None:
    about = About.of_checkout()
    config = json.loads(engine.docker("image", "inspect", tagged(name)))[0]["Config"]
    assert config["User"] == ("10001:10001" if name in ALONE else "0:0")
    assert config["StopSignal"] == "SIGTERM"
    assert config["Healthcheck"]
    prefix = "org.opencontainers.image."
    labels = {key.removeprefix(prefix): value for key, value in config["Labels"].items() if key.startswith(prefix)}
    assert labels.pop("description")
    assert labels == {
        "title": f"tekup/mcp-{name}",
        "licenses": "MIT",
        "version": about.version,
        "revision": about.revision,
        "created": about.created,
    }
    history = engine.docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", tagged(name))
    assert "BEGIN CERTIFICATE" not in history
    assert not re.search(r"(?i)(token|password|secret|api_?key)s?=", history + "\n".join(config["Env"]))


def layers(engine: Engine, image: str) -> list[str]:
    found: list[str] = json.loads(engine.docker("image", "inspect", image))[0]["RootFS"]["Layers"]
    return found


@pytest.mark.feature("F2")
def test_an_edit_of_source_builds_one_layer_anew(engine: Engine, base: str, images: str, tmp_path: Path) -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        if (ROOT / name).is_file() and not name.startswith("tests/"):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    edited = tmp_path / "services" / "search" / "service.py"
    edited.write_text(edited.read_text() + f"\n# {secrets.token_hex(8)}\n")
    began = time.monotonic()
    our_images(engine, base, "search", "--version", "0.0.0.edit", folder=tmp_path)
    print(f"an edit of the search service was built in {time.monotonic() - began:.1f} s")
    before, after = layers(engine, tagged("search")), layers(engine, "tekup/mcp-search:0.0.0.edit")
    engine.docker("rmi", "tekup/mcp-search:0.0.0.edit")
    assert after[:-1] == before[:-1]
    assert after[-1] != before[-1]


@pytest.mark.feature("F2")
def test_packages_built_again_without_a_cache_are_the_same_to_the_byte(
    engine: Engine, base: str, images: str, run_prefix: str
) -> None:
    again = f"{run_prefix}-again:1"
    secret = engine.env.get("SSL_CERT_FILE")
    engine.docker(
        *("buildx", "build", "--load", "--no-cache-filter", "kit-packages,search-packages", "--target", "search"),
        *("--build-arg", f"BASE_IMAGE={base}", "--tag", again, "--file", str(ROOT / "compose/images/Dockerfile")),
        *(("--secret", f"id=ca,src={secret}") if secret else ()),
        str(ROOT),
        timeout_s=BUILD_S,
    )
    sums = "cd /opt/tekup && find . -type f -print0 | sort -z | xargs -0 sha256sum"
    first, second = (
        engine.docker("run", "--rm", "--network", "none", image, "sh", "-c", sums)
        for image in (tagged("search"), again)
    )
    engine.docker("rmi", again)
    assert len(first.splitlines()) > 1000
    assert first.splitlines() == second.splitlines()
