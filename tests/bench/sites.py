"""Five pages as large as real ones, always the same."""

from __future__ import annotations

import random

__all__ = ["PAGES"]

_WORDS = [
    *("river", "stone", "market", "winter", "light", "garden", "people", "bridge", "engine", "letter", "window"),
    *("harbour", "silver", "morning", "paper", "forest", "number", "island", "mountain", "kitchen", "history"),
    *("answer", "station", "colour", "evening", "corner", "village", "summer", "travel"),
]
_PRESS = "<button id=press onclick=\"document.title='pressed'\">Press</button>"


def _text(seed: int, words: int) -> str:
    chosen = random.Random(seed)
    return " ".join(chosen.choice(_WORDS) for _ in range(words)).capitalize()


def _boxed(inner: str, depth: int) -> str:
    return "<div>" * depth + inner + "</div>" * depth


def _news() -> str:
    """A front page: boxes in boxes, a picture, a headline and a teaser that are links, twice over."""
    stories = "".join(
        _boxed(
            "<article>"
            f"<a href=/story/{n}><img alt='{_text(n, 3)}' width=40 height=30></a><div><a href=/topic/{n % 9}>"
            f"{_text(n % 9, 1)}</a><h3><a href=/story/{n}>{_text(n + 50, 8)}</a></h3><p>{_text(n + 99, 24)}</p>"
            f"<div><span>{n % 59} minutes ago</span> <a href=/story/{n}#comments>{n * 3} comments</a></div>"
            "</div></article>",
            4,
        )
        for n in range(120)
    )
    bar = "".join(f"<li><a href=/topic/{n}>{_text(n, 1)}</a></li>" for n in range(30))
    return f"<title>News</title><header><nav><ul>{bar}</ul></nav></header><main>{_PRESS}{stories}</main>"


def _article() -> str:
    """An encyclopedia's: long paragraphs with many links, notes, a box of facts."""
    parts = "".join(
        f"<h2>{_text(n, 3)}</h2>"
        + "".join(
            "<p>" + " ".join(
                f"{_text(n * 100 + p * 10 + k, 12)} <a href=/wiki/{n}-{p}-{k}>{_text(k + p, 2)}</a>"
                f"<sup><a href=#note{k}>[{k}]</a></sup>" for k in range(6)
            ) + "</p>"
            for p in range(4)
        )
        for n in range(14)
    )  # fmt: skip
    facts = "".join(f"<tr><th>{_text(n, 2)}</th><td>{_text(n + 7, 5)}</td></tr>" for n in range(25))
    return f"<title>Article</title><main><h1>{_text(1, 4)}</h1>{_PRESS}<table>{facts}</table>{parts}</main>"


def _shop() -> str:
    """A list of things to buy, with filters beside it."""
    things = "".join(
        "<li><div><div>"
        f"<a href=/p/{n}><div><img alt='{_text(n, 4)}'></div><div><span>{_text(n, 6)}</span></div></a></div>"
        f"<div><span>EUR</span> <span>{n}.99</span></div><div style='cursor:pointer'><span>{n % 5} stars</span></div>"
        f"<button aria-label='Add {_text(n, 6)}'>Add</button></div></li>"
        for n in range(150)
    )
    filters = "".join(f"<label><input type=checkbox>{_text(n, 2)} ({n})</label>" for n in range(40))
    return f"<title>Shop</title><aside>{filters}</aside><main>{_PRESS}<ul>{things}</ul></main>"


def _table() -> str:
    """An administrator's table."""
    rows = "".join(
        f"<tr><td><input type=checkbox aria-label='Row {n}'></td>"
        f"<td>{n}</td><td>{_text(n, 2)}</td><td>{_text(n + 3, 1)}@x.test"
        f"</td><td>2026-0{n % 9 + 1}-1{n % 9}</td><td>{'active' if n % 3 else 'locked'}</td><td><button>Edit</button>"
        f"<button>Delete</button></td></tr>"
        for n in range(250)
    )
    head = "".join(f"<th>{name}</th>" for name in ("", "Id", "Name", "Mail", "Since", "State", ""))
    return (
        f"<title>Table</title><main>{_PRESS}<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table></main>"
    )


def _form() -> str:
    """A long form in groups."""
    groups = "".join(
        f"<fieldset><legend>{_text(g, 3)}</legend>"
        + "".join(
            f"<div><label for=f{g}-{n}><span>{_text(g * 9 + n, 3)}</span></label><div><input id=f{g}-{n}></div>"
            f"<p>{_text(n + g, 10)}</p></div>"
            for n in range(8)
        )
        + "<select aria-label=Country>"
        + "".join(f"<option>{_text(n, 1)} {n}</option>" for n in range(20))
        + "</select></fieldset>"
        for g in range(10)
    )  # fmt: skip
    return f"<title>Form</title><main><form>{groups}{_PRESS}</form></main>"


PAGES = {
    f"/{name}": f"<!doctype html><meta charset=utf-8>{made()}"
    for name, made in (("news", _news), ("article", _article), ("shop", _shop), ("table", _table), ("form", _form))
}
