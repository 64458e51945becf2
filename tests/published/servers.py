"""Which published servers there are, and what each is asked."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.programs import program

HERE = "{here}"
"""Stands for a folder of the test's own."""


@dataclass(frozen=True)
class Published:
    """A server and what is asked of it.

    Args:
        name: Its service's.
        command: What comes after the program.
        call: A tool by its own name, arguments, and what its answer holds.
        wrong: A tool and arguments that it refuses.
        env: Its variables.
        by: The program that runs it.
        big: A tool, arguments and the least characters of its answer, where it has any that is big.
        slow: A tool and arguments that take some seconds and report progress.
    """

    name: str
    command: tuple[str, ...]
    call: tuple[str, dict[str, Any], str]
    wrong: tuple[str, dict[str, Any]]
    env: dict[str, str] = field(default_factory=dict)
    by: str = "published-npm"
    big: tuple[str, dict[str, Any], int] | None = None
    slow: tuple[str, dict[str, Any]] | None = None

    def argv(self, folder: Path) -> list[str]:
        """Its program and arguments, with a folder of the test's own."""
        return [program(self.by), *filled(self.command, folder)]


LONG = 1_000_000
TWICE = 400_000
"""Of what is answered as text and as structured content: the Python SDK takes events of a MiB, and older protocol
versions get every answer as one."""
SERVERS = (
    Published("time", ("-m", "mcp_server_time", "--local-timezone", "UTC"),
              ("get_current_time", {"timezone": "Europe/Paris"}, "Europe/Paris"),
              ("get_current_time", {"timezone": "Nowhere/At_All"}), by="published-python"),
    Published("git", ("-m", "mcp_server_git"), ("git_status", {"repo_path": f"{HERE}/repo"}, "No commits yet"),
              ("git_status", {"repo_path": "/nonexistent"}), by="published-python"),
    Published("fetch", ("-m", "mcp_server_fetch", "--ignore-robots-txt"), ("fetch", {"url": "http://127.0.0.1:9/"}, ""),
              ("fetch", {}), by="published-python"),
    Published("sqlite", ("-c", "from mcp_server_sqlite import main; main()", "--db-path", f"{HERE}/a.db"),
              ("read_query", {"query": "select 6*7 as answer"}, "42"), ("read_query", {"query": "drop table x"}),
              by="published-python-old",
              big=("read_query", {"query": f"select hex(zeroblob({LONG // 2})) as long"}, LONG)),
    Published("calculator", ("-m", "mcp_server_calculator"), ("calculate", {"expression": "6*7"}, "42"),
              ("calculate", {"expression": "import os"}), by="published-python-old"),
    Published("everything", ("@modelcontextprotocol/server-everything",), ("echo", {"message": "hi"}, "hi"),
              ("echo", {"message": 7}), big=("echo", {"message": "x" * LONG}, LONG),
              slow=("trigger-long-running-operation", {"duration": 3, "steps": 6})),
    Published("memory", ("@modelcontextprotocol/server-memory",), ("read_graph", {}, "entities"),
              ("open_nodes", {"names": 7}), env={"MEMORY_FILE_PATH": f"{HERE}/memory.jsonl"}),
    Published("files", ("@modelcontextprotocol/server-filesystem", HERE),
              ("read_text_file", {"path": f"{HERE}/note.txt"}, "lighthouse"),
              ("read_text_file", {"path": "/etc/passwd"}),
              big=("read_text_file", {"path": f"{HERE}/long.txt"}, TWICE)),
    Published("thinking", ("@modelcontextprotocol/server-sequential-thinking",),
              ("sequentialthinking", {"thought": "a", "thoughtNumber": 1, "totalThoughts": 1,
                                      "nextThoughtNeeded": False}, "thoughtNumber"),
              ("sequentialthinking", {"thought": 7})),
    Published("chart", ("@antv/mcp-server-chart",), ("generate_pie_chart", {"data": []}, ""),
              ("generate_pie_chart", {"data": 7})),
    Published("docs", ("@upstash/context7-mcp",), ("resolve-library-id", {"libraryName": "x", "query": "x"}, ""),
              ("resolve-library-id", {"libraryName": 7})),
)  # fmt: skip
NETWORK = ("fetch", "chart", "docs")
"""Their calls need somebody else's server: that they are answered, with an error, is all that is asked here."""


def filled(value: Any, folder: Path) -> Any:
    """A value with the folder's path in it."""
    return json.loads(json.dumps(value).replace(HERE, str(folder)))


def furnish(folder: Path) -> None:
    """What the servers look for in the test's folder."""
    (folder / "note.txt").write_text("the lighthouse")
    (folder / "long.txt").write_text("x" * TWICE)
    subprocess.run(["git", "init", "-q", folder / "repo"], check=True)


def public(service: str, tool: str) -> str:
    """What a tool is called behind the gate."""
    plain = tool.replace(".", "_")
    return plain if plain.startswith(f"{service}_") else f"{service}_{plain}"
