"""Guessed, cut, disguised and misplaced keys. All ask for a tool that `dev` may use."""

from __future__ import annotations

from typing import Final

from tests.attacks.row import Row, call

__all__ = ["ROWS"]

NO_KEY: Final = frozenset({400, 401})


def guess(value: str) -> str:
    """An Authorization header with a value."""
    return f"Bearer {value}"


GUESSES: Final = {
    "right id, wrong secret": "<<forged key-right-id-wrong-secret>>",
    "one digit wrong": "<<forged key-almost>>",
    "one digit short": "<<forged key-prefix>>",
    "one digit more": "<<forged key-and-more>>",
    "in upper case": "<<forged key-upper>>",
    "the secret under the id of another": "<<forged key-id-of-other>>",
    "the secret alone": "<<forged key-secret-alone>>",
    "what is stored of it": "<<forged key-hash>>",
    "what is stored of it as the secret": "<<forged key-hash-as-secret>>",
    "id and no secret": "tk_dev-1_",
    "no id": "tk__",
    "a path for an id": "tk_../dev-1_00",
    "a star": "*",
    "JSON": '{"client":"dev"}',
    "unicode": "tk_dеv-1_00",  # its e is Cyrillic
    "6 KB": "tk_dev-1_" + "0" * 6000,
    "a grant": "<<grant dev>>",
    "a proof": "<<gate vault>>",
    "followed by another": "<<key dev>>, Bearer <<key narrow>>",
    "quoted": '"<<key dev>>"',
    "after a tab": "\t<<key dev>>",
}

ROWS: Final = [
    *(
        Row(f"a key is guessed: {what}", call(put={"Authorization": guess(value)}), NO_KEY, unguarded=True)
        for what, value in GUESSES.items()
    ),
    Row("no Authorization", call(client=""), NO_KEY, unguarded=True),
    Row("an empty Authorization", call(client="", add=[("Authorization", "")]), NO_KEY, unguarded=True),
    Row("a scheme without a key", call(put={"Authorization": "Bearer"}), NO_KEY, unguarded=True),
    Row("the key as Basic", call(put={"Authorization": "Basic <<key dev>>"}), NO_KEY, unguarded=True),
    Row("the key without a scheme", call(put={"Authorization": "<<key dev>>"}), NO_KEY, unguarded=True),
    Row("a wrong key, then a right one",
        call(client="", add=[("Authorization", "Bearer tk_dev-1_00"), ("Authorization", "Bearer <<key dev>>")]),
        NO_KEY, unguarded=True),
    Row("a right key, then another's",
        call(client="narrow", add=[("Authorization", "Bearer <<key dev>>")]), NO_KEY, unguarded=True),
    Row("the key as X-Api-Key", call(client="", add=[("X-Api-Key", "<<key dev>>")]), NO_KEY, unguarded=True),
    Row("the key as a cookie", call(client="", add=[("Cookie", "Authorization=<<key dev>>")]), NO_KEY, unguarded=True),
    Row("the key as Proxy-Authorization",
        call(client="", add=[("Proxy-Authorization", "Bearer <<key dev>>")]), NO_KEY, unguarded=True),
    Row("the key in the query", call(client="", path="/vault/mcp?access_token=<<key dev>>"), NO_KEY, unguarded=True),
    Row("the key of a client without rights", call(client="nobody"), frozenset({403}), unguarded=True),
    Row("control: the right key", call(client="dev"), frozenset({200}), runs_as="dev", must_run=True),
    Row("control: the scheme in capitals", call(put={"Authorization": "BEARER <<key dev>>"}), frozenset({200}),
        runs_as="dev", must_run=True),
]  # fmt: skip
