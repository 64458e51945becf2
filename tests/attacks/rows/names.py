"""A name that the gate reads otherwise than the service."""

from __future__ import annotations

import base64
import json
from typing import Final

from tests.attacks.row import META, Row, ask, body_of, call

__all__ = ["ROWS"]

ANY: Final = frozenset({200, 400, 403, 404})
TAKE: Final = body_of("tools/call", {"name": "vault_take", "arguments": {"mark": "<<mark>>"}})


def coded(text: str | bytes, *, begin: str = "=?base64?", end: str = "?=") -> str:
    """A name in the protocol's sentinel."""
    return begin + base64.b64encode(text.encode() if isinstance(text, str) else text).decode() + end


# What Mcp-Name says while the body calls vault_take.
HEADER: Final = {
    "the permitted tool": "vault_peek",
    "the permitted tool, coded": coded("vault_peek"),
    "the forbidden tool, coded": coded("vault_take"),
    "coded twice": coded(coded("vault_take")),
    "coded, the word in capitals": coded("vault_take", begin="=?BASE64?"),
    "coded by another code": "=?q?vault_take?=",
    "coded with a charset": coded("vault_take", begin="=?utf-8?B?"),
    "coded without padding": coded("vault_take").replace("=?=", "?="),
    "coded with a line end": "=?base64?dmF1bHRfdGFr\n ZQ==?=",
    "coded with blanks around": f"  {coded('vault_take')}\t",
    "coded, text behind": coded("vault_peek") + "x",
    "coded, no end": coded("vault_take", end=""),
    "coded, other last bits": "=?base64?dmF1bHRfdGFrZR==?=",
    "coded, not UTF-8": coded(b"vault_take\xff"),
    "coded, a NUL behind": coded("vault_peek\0"),
    "coded, the other behind a NUL": coded("vault_peek\0vault_take"),
    "coded, a line end behind": coded("vault_peek\n"),
    "in capitals": "VAULT_TAKE",
    "permitted, in capitals": "VAULT_PEEK",
    "a dot behind": "vault_peek.",
    "a star": "vault_*",
    "a path": "vault_peek/../vault_take",
    "encoded for URLs": "vault%5Ftake",
    "Cyrillic": "vаult_peek",
    "full width": "ｖault_peek",
    "a zero-width space": "vault\u200b_peek",
    "a list": "vault_peek, vault_take",
    "with arguments": "vault_peek?name=vault_take",
    "a resource's": "vault://public/x",
    "the hub's": "hub_call_tool",
    "8 KB": "vault_peek" + "x" * 7000,
}
# What the body says while Mcp-Name says vault_peek.
BODY: Final = {
    "in capitals": "VAULT_TAKE",
    "a blank behind": "vault_take ",
    "a NUL behind": "vault_take\0",
    "a dot behind": "vault_take.",
    "coded": coded("vault_take"),
    "Cyrillic": "vаult_take",
    "a list": ["vault_take"],
    "an object": {"name": "vault_take"},
}


def with_body(**params: object) -> bytes:
    """A call whose parameters are these."""
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {**params, "_meta": META}}).encode()


def twice(first: str, second: str) -> bytes:
    """A body that names two tools."""
    return (
        f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{first}","name":"{second}",'
        f'"arguments":{{"mark":"<<mark>>"}},"_meta":{json.dumps(META)}}}}}'
    ).encode()


READS: Final = {
    "plainly": "vault://secret/<<mark>>",
    "in capitals": "VAULT://secret/<<mark>>",
    "by dots": "vault://public/../secret/<<mark>>",
    "by encoded dots": "vault://public/%2e%2e/secret/<<mark>>",
    "by an encoded slash": "vault://public/..%2f..%2fsecret%2f<<mark>>",
    "with a user": "vault://public@secret/<<mark>>",
    "with a port": "vault://secret:1/<<mark>>",
    "with three slashes": "vault:///secret/<<mark>>",
    "with a query": "vault://secret/<<mark>>?vault://public/x",
    "with a fragment": "vault://public/x#/../../secret/<<mark>>",
    "with a tab": "vault://sec\tret/<<mark>>",
    "with a backslash": "vault:\\\\secret\\<<mark>>",
}
PEEK_TAKE: Final = [("Mcp-Name", "vault_take")]
TAKE_PEEK: Final = [("Mcp-Name", "vault_peek")]
THEIRS: Final = "<<root>>/theirs"
FOREIGN: Final[dict[str, dict[str, object]]] = {
    "read_files": {"paths": [f"{THEIRS}/theirs.txt"]},
    "read_bytes": {"path": f"{THEIRS}/theirs.txt"},
    "search_content": {"path": "<<root>>", "pattern": "foreign"},
    "tree": {"path": "<<root>>"},
    "find_files": {"path": "..", "pattern": "**"},
    "list_directory": {"path": THEIRS},
    "copy": {"source": THEIRS, "target": "<<root>>/mine/stolen"},
    "list_trash": {},
}


def foreign(tool: str) -> tuple[str, ...]:
    """What of another root may not be shown; who asks for a file has named it himself."""
    return ("foreign content",) if tool.startswith("read") else ("foreign content", "theirs.txt")


ROWS: Final = [
    *(Row(f"the header's name: {what}", call(name=name, body=TAKE), ANY) for what, name in HEADER.items()),
    *(Row(f"the body's name: {what}",
          call(name="vault_peek", body=with_body(name=name, arguments={"mark": "<<mark>>"})), ANY)
      for what, name in BODY.items()),
    Row("no name in the header", call(name="", body=TAKE), ANY),
    Row("a name that is empty", call(name="", add=[("Mcp-Name", "")], body=TAKE), ANY),
    Row("the permitted name, then the other", call(name="vault_peek", add=PEEK_TAKE, body=TAKE), ANY),
    Row("the other name, then the permitted", call(name="vault_take", add=TAKE_PEEK, body=TAKE), ANY),
    Row("a second name with an underscore", call(name="vault_peek", add=[("Mcp_Name", "vault_take")], body=TAKE), ANY),
    Row("a second name with a dot", call(name="vault_peek", add=[("Mcp.Name", "vault_take")], body=TAKE), ANY),
    Row("two names in the body, the permitted first", call(name="vault_peek", body=twice("vault_peek", "vault_take")),
        ANY),
    Row("two names in the body, the permitted last, believed as one would", call(body=twice("vault_take", "vault_peek"),
        name="vault_take"), ANY),
    Row("the method is another in the header", call(put={"Mcp-Method": "tools/list"}, drop=("Mcp-Name",)), ANY),
    Row("the method is another in the header, with a name", call(put={"Mcp-Method": "prompts/list"}), ANY),
    Row("the method in capitals", call(put={"Mcp-Method": "TOOLS/CALL"}), ANY),
    Row("the method with a blank", call(put={"Mcp-Method": "tools/call ,x"}), ANY),
    Row("the method coded", call(put={"Mcp-Method": coded("tools/call")}, drop=("Mcp-Name",)), ANY),
    Row("no method in the header", call(drop=("Mcp-Method",)), ANY),
    Row("two methods", call(add=[("Mcp-Method", "tools/list")]), ANY),
    Row("two methods, the harmless first", call(drop=("Mcp-Method",), add=[("Mcp-Method", "tools/list"),
                                                                          ("Mcp-Method", "tools/call")]), ANY),
    Row("a read in the header, a call in the body", call(name="vault://public/x", put={"Mcp-Method": "resources/read"},
                                                         body=TAKE), ANY),
    Row("a listen in the header, a call in the body", call(put={"Mcp-Method": "subscriptions/listen"}, body=TAKE), ANY),
    Row("a tool of another service by this one's address", call("attic_take", client="dev"), ANY),
    Row("a tool of another service, disguised as this one's",
        call(name="vault_take", client="dev", body=body_of("tools/call", {"name": "attic_take",
                                                                         "arguments": {"mark": "<<mark>>"}})), ANY),
    Row("a tool of another service by the address of all", call("attic_take", path="/mcp"), ANY),
    Row("a tool of a service whose name begins alike", call("vault-x_take", path="/mcp", client="nobody"), ANY),
    *(Row(f"a resource is read {how}", ask("resources/read", {"uri": uri}, name=uri), ANY, reveals=("secret content",))
      for how, uri in READS.items()),
    Row("a resource is read behind another's name",
        ask("resources/read", {"uri": "vault://secret/<<mark>>"}, name="vault://public/x"), ANY,
        reveals=("secret content",)),
    Row("a prompt without a right", ask("prompts/get", {"name": "vault_ask", "arguments": {"mark": "<<mark>>"}},
                                        name="vault_ask"), frozenset({403}), reveals=("secret prompt",)),
    Row("a prompt behind a tool's name", ask("prompts/get", {"name": "vault_ask", "arguments": {"mark": "<<mark>>"}},
                                             name="vault_peek"), ANY, reveals=("secret prompt",)),
    Row("a file of another root", ask("tools/call", {"name": "filesystem_read_file", "arguments": {
        "path": "<<root>>/theirs/theirs.txt"}}, name="filesystem_read_file", client="rooted", path="/filesystem/mcp"),
        ANY, reveals=("foreign content",)),
    Row("a file of another root, by dots", ask("tools/call", {"name": "filesystem_read_file", "arguments": {
        "path": "<<root>>/mine/../theirs/theirs.txt"}}, name="filesystem_read_file", client="rooted",
        path="/filesystem/mcp"), ANY, reveals=("foreign content",)),
    *(Row(f"what lies in another root, by {tool}", ask("tools/call", {
        "name": f"filesystem_{tool}", "arguments": arguments}, name=f"filesystem_{tool}", client="rooted",
        path="/filesystem/mcp"), ANY, reveals=foreign(tool)) for tool, arguments in FOREIGN.items()),
    Row("a file of another root as a resource", ask("resources/read", {
        "uri": "filesystem://files<<root>>/theirs/theirs.txt"}, name="filesystem://files<<root>>/theirs/theirs.txt",
        client="rooted", path="/filesystem/mcp"), ANY, reveals=("foreign content",)),
    Row("control: the permitted name, coded", call("vault_peek", name=coded("vault_peek")), frozenset({200}),
        runs_as="narrow", must_run=True),
    Row("control: the forbidden name of one who may", call(client="dev"), frozenset({200}), runs_as="dev",
        must_run=True),
    Row("control: the permitted resource", ask("resources/read", {"uri": "vault://public/<<mark>>"},
        name="vault://public/<<mark>>"), frozenset({200}), runs_as="narrow", must_run=True),
    Row("control: the secret resource of one who may", ask("resources/read", {"uri": "vault://secret/<<mark>>"},
        name="vault://secret/<<mark>>", client="dev"), frozenset({200}), runs_as="dev", must_run=True),
    Row("control: the prompt of one who may", ask("prompts/get", {"name": "vault_ask", "arguments": {
        "mark": "<<mark>>"}}, name="vault_ask", client="dev"), frozenset({200}), runs_as="dev", must_run=True),
]  # fmt: skip
