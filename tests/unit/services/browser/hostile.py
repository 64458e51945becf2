"""The table of hostile pages."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A hostile page.

    Args:
        name: What it does.
        body: Its HTML; a button in it is pressed.
        chunk: What is sent without end instead.
        head: With these headers.
        pause_s: Between two chunks.
        in_head: It belongs to the headers still.
        may_go: Whether the page itself may be lost to it.
        often: In every run of the tests; the others in the long ones.
    """

    name: str
    body: str = ""
    chunk: bytes = b""
    head: str = "Content-Type: text/html"
    pause_s: float = 0.0
    in_head: bool = False
    may_go: bool = False
    often: bool = False


def _script(code: str) -> str:
    return f"<script>{code}</script>"


ROWS = (
    Row("loops for ever as it loads", _script("while(1){}"), may_go=True, often=True),
    Row("loops for ever when clicked", "<button onclick='while(1){}'>x</button>", may_go=True),
    Row("opens dialogs for ever", _script("while(1) alert('x')"), may_go=True),
    Row("opens a dialog each millisecond", _script("setInterval(() => alert('x'), 1)"), may_go=True),
    Row("does not let one leave", _script("onbeforeunload = () => 'stay'") + "<button>x</button>", often=True),
    Row("opens windows for ever", "<button onclick=\"for(let i=0;i<40;i++) open('/')\">x</button>"),
    Row("floods its console", _script("for (let i = 0; i < 20000; i++) console.error('x'.repeat(1000))"), may_go=True),
    Row("asks for a thousand things", _script("for (let i = 0; i < 1000; i++) fetch('/none' + i)")),
    Row("navigates itself for ever", _script("setInterval(() => location.hash = Math.random(), 1)"), often=True),
    Row("reloads itself for ever", _script("setTimeout(() => location.reload(), 1)")),
    Row("grows for ever",
        _script("setInterval(() => { for (let i=0;i<99;i++) document.body.append('x'.repeat(999)) }, 1)"),
        may_go=True),
    Row("holds deep boxes", "<div>" * 5000 + "deep", may_go=True),
    Row("fills its own heap", _script("const a = []; setInterval(() => a.push(new Array(1e6).fill(a.length)), 20)"),
        may_go=True),
    Row("names everything as we do", _script("window.JSON = window.Node = window.getComputedStyle = null")),
    Row("sends a page without end", chunk=b"<p>more</p>" * 6000, may_go=True),
    Row("sends a text without end", chunk=b"x" * 65536, head="Content-Type: text/plain", may_go=True, often=True),
    Row("sends a byte now and then", chunk=b"x", pause_s=0.3),
    Row("sends headers without end", chunk=b"X-More: y\r\n" * 6000, head="X-First: y", in_head=True),
    Row("waits for something that never ends", "<p>here</p><img src=/endless><link rel=stylesheet href=/endless>"),
    Row("crashes its process", _script("setTimeout(() => location = 'chrome://crash', 10)"), often=True),
)  # fmt: skip
