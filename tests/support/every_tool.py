"""One call of every tool of the shipped services, and the steps that a trace shows below it."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import httpx

from tests.support.load import META, body, headers
from tests.support.otlp import Collector, Taken

GATE = ["tekup-gate: server POST", "tekup-gate: client ReverseProxy"]
LEGACY_VERSION = "2025-11-25"
CALLER = "ab" * 8
"""The span that a caller with a trace of its own calls from."""
FORM = (
    '<!doctype html><title>Form</title><h1>Form</h1><input id="field"><button id="button">Press</button>'
    '<select id="select"><option>a<option>b</select><input id="file" type="file">'
)


class Manner(StrEnum):
    """How a call is made."""

    MODERN = "modern"
    JOINED = "modern, in a trace of the caller's"
    LEGACY = "older, through the hub"


@dataclass(frozen=True)
class Row:
    """A tool's call.

    Args:
        arguments: With FOLDER, PAGE, HANDLE and TRASHED for what an environment and the calls before give, FRESH for
            what was never asked before.
        steps: Below the service's own span, by name as in an outline.
    """

    arguments: Mapping[str, object]
    steps: tuple[str, ...] = ()


_DISK = ("tekup-filesystem: internal disk",)
_RG = ("tekup-search: client rg",)
_LOOK = ("tekup-browser: client chromium look",)
_ACT = ("tekup-browser: client chromium act",)
_GO = ("tekup-browser: client chromium navigate",)
_OPEN = (*_GO, "tekup-browser: client chromium open")
_FILE = "FOLDER/agree.txt"

TOOLS: Mapping[str, Row] = {
    "filesystem_list_roots": Row({}),
    "filesystem_write_file": Row({"path": _FILE, "content": "hay\nneedle\n"}, _DISK),
    "filesystem_edit_file": Row({"path": _FILE, "edits": [{"old_text": "hay", "new_text": "straw"}]}, _DISK),
    "filesystem_read_file": Row({"path": _FILE}, _DISK),
    "filesystem_edit_files": Row(
        {"edits": [{"path": _FILE, "edits": [{"old_text": "straw", "new_text": "hay"}]}]}, _DISK
    ),
    "filesystem_read_files": Row({"paths": [_FILE]}, _DISK),
    "filesystem_read_bytes": Row({"path": _FILE}, _DISK),
    "filesystem_stat": Row({"path": _FILE}, _DISK),
    "filesystem_tree": Row({"path": "FOLDER"}, _DISK),
    "filesystem_directory_size": Row({"path": "FOLDER"}, _DISK),
    "filesystem_make_directory": Row({"path": "FOLDER/made"}, _DISK),
    "filesystem_copy": Row({"source": _FILE, "target": "FOLDER/made/copy.txt", "overwrite": True}, _DISK),
    "filesystem_list_directory": Row({"path": "FOLDER"}, _DISK),
    "filesystem_find_files": Row({"path": "FOLDER", "pattern": "*.txt"}, _DISK),
    "filesystem_search_content": Row({"path": "FOLDER", "pattern": "needle"}, ("tekup-filesystem: client rg",)),
    "search_grep": Row({"pattern": "needle", "path": "FOLDER"}, _RG),
    "search_files": Row({"query": "agree", "path": "FOLDER"}, _RG),
    "search_text": Row({"query": "lighthouse"}),
    "search_related": Row({"path": _FILE, "line": 1}),
    "search_symbols": Row({"path": "FOLDER"}, _RG),
    "search_definition": Row({"name": "needle", "path": "FOLDER"}, _RG),
    "search_references": Row({"name": "needle", "path": "FOLDER"}, _RG),
    "search_status": Row({}),
    "search_refresh": Row({"wait_s": 0}),
    "filesystem_move": Row({"source": _FILE, "target": "FOLDER/moved.txt", "overwrite": True}, _DISK),
    "filesystem_delete": Row({"path": "FOLDER/moved.txt"}, _DISK),
    "filesystem_list_trash": Row({}, _DISK),
    "filesystem_restore": Row({"trash_id": "TRASHED"}, _DISK),
    "filesystem_empty_trash": Row({}, _DISK),
    "browser_open": Row({"url": "PAGE"}, _OPEN),
    "browser_navigate": Row({"handle": "HANDLE", "url": "PAGE"}, _GO),
    "browser_snapshot": Row({"handle": "HANDLE"}, _LOOK),
    "browser_text": Row({"handle": "HANDLE"}, _LOOK),
    "browser_screenshot": Row({"handle": "HANDLE", "save": True}, _LOOK),
    "browser_files": Row({"handle": "HANDLE"}, _LOOK),
    "browser_file_read": Row({"handle": "HANDLE", "path": "screenshot.png"}, _LOOK),
    "browser_find": Row({"handle": "HANDLE", "text": "Press"}, (*_LOOK, *_LOOK)),
    "browser_console_messages": Row({"handle": "HANDLE"}),
    "browser_network_requests": Row({"handle": "HANDLE"}),
    "browser_network_request": Row({"handle": "HANDLE", "number": 1}, _LOOK),
    "browser_tabs": Row({"handle": "HANDLE"}, (*_LOOK, *_LOOK)),
    "browser_resize": Row({"handle": "HANDLE", "width": 800, "height": 600}, (*_LOOK, *_LOOK)),
    "browser_emulate_media": Row({"handle": "HANDLE", "color_scheme": "dark"}, (*_LOOK, *_LOOK)),
    "browser_handle_dialog": Row({"handle": "HANDLE", "accept": True}, _LOOK),
    "browser_wait_for": Row({"handle": "HANDLE", "text": "Form"}, (*_LOOK, *_LOOK)),
    "browser_extract": Row({"handle": "HANDLE", "selector": "h1"}, _LOOK),
    "browser_scrape": Row({"urls": ["PAGE?FRESH"]}, (*_LOOK, *_LOOK, *_LOOK, *_OPEN)),
    "browser_hover": Row({"handle": "HANDLE", "target": "#button"}, _ACT),
    "browser_drag": Row({"handle": "HANDLE", "target": "#button", "to": "#field"}, _ACT),
    "browser_press_key": Row({"handle": "HANDLE", "key": "Tab"}, _ACT),
    "browser_fill_form": Row({"handle": "HANDLE", "fields": [{"target": "#field", "value": "y"}]}, _ACT),
    "browser_select_option": Row({"handle": "HANDLE", "target": "#select", "values": ["b"]}, _ACT),
    "browser_file_upload": Row({"handle": "HANDLE", "target": "#file", "paths": ["screenshot.png"]}, (*_ACT, *_LOOK)),
    "browser_drop": Row({"handle": "HANDLE", "target": "#field", "data": {"text/plain": "z"}}, (*_ACT, *_LOOK)),
    "browser_type": Row({"handle": "HANDLE", "target": "#field", "text": "x"}, _ACT),
    "browser_click": Row({"handle": "HANDLE", "target": "#button"}, _ACT),
    "browser_navigate_back": Row({"handle": "HANDLE"}, _GO),
    "browser_list": Row({}),
    "browser_close": Row({"handle": "HANDLE"}),
}
"""In the order of calls, each of which finds what those before have left."""


@dataclass(frozen=True)
class Made:
    """A call that was made and answered well.

    Args:
        theirs: The trace of the caller's, "" for none.
        began: Seconds since the epoch.
        ended: When the answer was there.
    """

    tool: str
    manner: Manner
    theirs: str
    began: float
    ended: float

    @property
    def service(self) -> str:
        """Whose the tool is."""
        return self.tool.partition("_")[0]


@dataclass
class Caller:
    """Calls tools one after another.

    Args:
        url: The gate's public entrypoint, without a path.
        key: An API key.
        places: What stands for FOLDER and PAGE.
        http: What it calls with.
    """

    url: str
    key: str
    places: Mapping[str, str]
    http: httpx.Client
    _handle: str = ""
    _trashed: str = ""

    def listed(self, service: str) -> list[str]:
        """The tools that a service itself lists."""
        asked = body("tools/list")
        answer = self.http.post(f"{self.url}/{service}/mcp", json=asked, headers=headers(self.key, "tools/list"))
        return [str(tool["name"]) for tool in _result(answer)["tools"]]

    def every(self, manner: Manner) -> list[Made]:
        """Call each tool once."""
        return [self._call(tool, row, manner) for tool, row in TOOLS.items()]

    def _call(self, tool: str, row: Row, manner: Manner) -> Made:
        text = json.dumps(dict(row.arguments))
        for name, place in {
            **self.places,
            "HANDLE": self._handle,
            "TRASHED": self._trashed,
            "FRESH": secrets.token_hex(4),
        }.items():
            text = text.replace(name, place)
        arguments: dict[str, object] = json.loads(text)
        theirs = secrets.token_hex(16) if manner is Manner.JOINED else ""
        params: dict[str, object] = {"name": tool, "arguments": arguments}
        sent = headers(self.key, "tools/call", tool)
        if manner is Manner.LEGACY:
            sent = {name: value for name, value in sent.items() if not name.startswith("Mcp-")}
            sent["MCP-Protocol-Version"] = LEGACY_VERSION
        else:
            params["_meta"] = META | ({"traceparent": f"00-{theirs}-{CALLER}-01"} if theirs else {})
            sent |= {"Mcp-Param-Handle": str(arguments["handle"])} if "handle" in arguments else {}
        began = time.time()
        asked = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        answer = self.http.post(f"{self.url}/mcp", json=asked, headers=sent)
        result = _result(answer)
        assert not result.get("isError"), f"{tool}, {manner}: {result}"
        facts = result.get("structuredContent") or {}
        self._handle = facts.get("handle") or self._handle
        self._trashed = facts.get("trash_id") or self._trashed
        return Made(tool, manner, theirs, began, time.time())


def _result(answer: httpx.Response) -> dict[str, Any]:
    text = answer.text if answer.text.startswith("{") else answer.text.partition("data: ")[2]
    said: dict[str, Any] = json.loads(text)
    assert "result" in said, f"{answer.status_code} {answer.text[:300]}"
    found: dict[str, Any] = said["result"]
    return found


def expected(one: Made) -> list[str]:
    """The outline of a call's trace."""
    above = {
        Manner.MODERN: GATE,
        Manner.JOINED: [],
        Manner.LEGACY: [
            *GATE,
            f"tekup-hub: server tools/call {one.tool}",
            f"tekup-hub: client call {one.service}",
            *GATE,
        ],
    }[one.manner]
    line = [*above, f"tekup-{one.service}: server tools/call {one.tool}"]
    return ["  " * depth + label for depth, label in enumerate(line)] + [
        "  " * len(line) + step for step in TOOLS[one.tool].steps
    ]


def is_aside(span: Taken) -> bool:
    """Whether the hub reads what is there, now and then; the call that met the moment waits for it."""
    lists = span.service == "tekup-hub" and span.about.get("tekup.method") == "tools/list"
    return lists or span.label == "tekup-gate: server GET"


def outline(spans: list[Taken]) -> list[str]:
    """A trace without what it did aside."""
    out = {span.span for span in spans if is_aside(span)}
    while more := {span.span for span in spans if span.parent in out} - out:
        out |= more
    main = [span for span in spans if span.span not in out]
    return Collector(spans=main).tree(main[0].trace) if main else []
