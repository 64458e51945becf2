"""What a client with few rights sees and hears: lists, discovery, listening, completion, the hub's tools."""

from __future__ import annotations

from typing import Final

from tests.attacks.row import Row, ask, call

__all__ = ["ROWS"]

OK: Final = frozenset({200})
ANY: Final = frozenset({200, 400, 403, 404})
HIDDEN: Final = ("vault_take", "vault_ask", "vault://secret", "attic_", "attic://", "filesystem_")
LISTS: Final = ("tools/list", "prompts/list", "resources/list", "resources/templates/list")


def complete(kind: str, key: str, value: str, **more: str) -> dict[str, object]:
    """Parameters of a completion."""
    ref = {"type": kind, key: value, **more}
    return {"ref": ref, "argument": {"name": "mark", "value": "<<mark>>"}}


REFS: Final = {
    "a prompt": complete("ref/prompt", "name", "vault_ask"),
    "a resource": complete("ref/resource", "uri", "vault://secret/{mark}"),
    "a prompt with a permitted URI": complete("ref/prompt", "name", "vault_ask", uri="vault://public/x"),
    "a resource with a permitted name": complete("ref/resource", "uri", "vault://secret/{mark}", name="vault_peek"),
    "an unknown kind": complete("ref/tool", "name", "vault_peek"),
    "another service's": complete("ref/prompt", "name", "attic_ask"),
}
CALL: Final = {"name": "vault_take", "arguments": {"mark": "<<mark>>"}}


def listen(*uris: str) -> dict[str, object]:
    """Parameters of listening."""
    return {"notifications": {"toolsListChanged": True, "resourceSubscriptions": list(uris)}}


ROWS: Final = [
    *(Row(f"{method} of {path}", ask(method, {}, path=path), OK, reveals=HIDDEN)
      for method in LISTS for path in ("/vault/mcp", "/mcp")),
    *(Row(f"{method} of a client without rights", ask(method, {}, path="/mcp", client="nobody"), OK,
          reveals=(*HIDDEN, "vault_peek", "vault://public")) for method in LISTS),
    Row("discovery of all services", ask("server/discover", {}, path="/mcp"), OK, reveals=("attic:", *HIDDEN)),
    Row("discovery of a client without rights", ask("server/discover", {}, path="/mcp", client="nobody"), OK,
        reveals=("vault:", "attic:")),
    Row("a list of another service, of which nothing may be used", ask("tools/list", {}, path="/attic/mcp"), ANY,
        reveals=HIDDEN),
    Row("a list with a cursor", ask("tools/list", {"cursor": "MQ=="}), ANY, reveals=HIDDEN),
    Row("a list as an old client", ask("tools/list", {}, version="2025-11-25", drop=("Mcp-Method",)), ANY,
        reveals=HIDDEN),
    Row("the tools are found by the hub's tool", call("hub_find_tools", path="/mcp", body=None), ANY, reveals=HIDDEN),
    Row("all names by the hub's tool", ask("tools/call", {"name": "hub_find_tools", "arguments": {"query": ""}},
                                           name="hub_find_tools", path="/mcp"), OK, reveals=HIDDEN),
    Row("a tool is called by the hub's tool", ask("tools/call", {"name": "hub_call_tool", "arguments": CALL},
                                                  name="hub_call_tool", path="/mcp"), ANY),
    Row("a tool of another service by the hub's tool", ask("tools/call", {"name": "hub_call_tool", "arguments": {
        "name": "attic_take", "arguments": {"mark": "<<mark>>"}}}, name="hub_call_tool", path="/mcp"), ANY),
    Row("the hub's tool calls itself", ask("tools/call", {"name": "hub_call_tool", "arguments": {
        "name": "hub_call_tool", "arguments": CALL}}, name="hub_call_tool", path="/mcp"), ANY),
    Row("a tool whose name is a path, by the hub's tool", ask("tools/call", {"name": "hub_call_tool", "arguments": {
        "name": "vault_peek/../../attic/mcp?", "arguments": {"mark": "<<mark>>"}}}, name="hub_call_tool",
        path="/mcp"), ANY),
    Row("the hub's tool under a service's address", ask("tools/call", {"name": "hub_call_tool", "arguments": CALL},
                                                        name="hub_call_tool"), ANY),
    *(Row(f"completion of {what}", ask("completion/complete", params), ANY, reveals=("secret completion",))
      for what, params in REFS.items()),
    Row("completion by the address of all", ask("completion/complete", REFS["a prompt"], path="/mcp"), ANY,
        reveals=("secret completion",)),
    Row("listening to a resource without a right", ask("subscriptions/listen", listen("vault://secret/<<mark>>")), ANY,
        reveals=("vault://secret",), wait_s=1.5),
    Row("listening to everything of a service", ask("subscriptions/listen", listen("vault://*", "attic://*")), ANY,
        reveals=("vault://*", "attic://*"), wait_s=1.5),
    Row("listening without a key", ask("subscriptions/listen", listen(), client=""), frozenset({401}), wait_s=1.5),
    Row("the probe of a service is asked for", ask("tools/list", {}, client="dev"), OK,
        reveals=("dev.tekup/probe", "x-tekup-instance")),
    Row("control: the hub's tool for one who may", ask("tools/call", {"name": "hub_call_tool", "arguments": CALL},
        name="hub_call_tool", path="/mcp", client="dev"), OK, runs_as="dev", must_run=True),
    Row("control: the permitted tool by the hub's tool", ask("tools/call", {"name": "hub_call_tool", "arguments": {
        "name": "vault_peek", "arguments": {"mark": "<<mark>>"}}}, name="hub_call_tool", path="/mcp"), OK,
        runs_as="narrow", must_run=True),
    Row("control: completion of one who may", ask("completion/complete", REFS["a prompt"], client="dev"), OK,
        runs_as="dev", must_run=True),
]  # fmt: skip
