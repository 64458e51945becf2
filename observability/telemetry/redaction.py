"""What must not stand in a log, by rule: names of fields that hold it, and the form it has in text.

Invariant: a secret in one of the forms below leaves nothing of itself but what names it (a key's id, a handle's
instance and random part). A rule hides too much rather than too little: whoever needs more looks where it came from.

Texts that were found clean and are short are remembered, since names of clients and tools come again with each call;
nothing else is.
"""

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["HIDDEN", "hides", "redacted", "shown"]

HIDDEN: Final = "(hidden)"
LONGEST_TEXT: Final = 64 * 1024
"""Of a longer one beginning and end are looked at; a line holds less than either."""
DEEPEST: Final = 6
MOST_ITEMS: Final = 500
_SHORT: Final = 64
_REMEMBERED: Final = 4096

_WORDS: Final = frozenset(
    ("arguments", "args", "auth", "authorization", "bearer", "body", "content", "contents", "cookie", "cookies",
     "credential", "credentials", "grant", "headers", "input", "key", "keys", "mac", "params", "passphrase", "passwd",
     "password", "payload", "proof", "secret", "secrets", "snippet", "tag", "text", "token", "tokens")
)  # fmt: skip
_ABOUT: Final = frozenset(
    ("at", "bytes", "count", "file", "id", "ids", "kind", "length", "ms", "name", "path", "s", "seconds", "size",
     "type", "uri", "url")
)  # fmt: skip
"""A last word that makes of a name something about the secret: `token_file`, `key_id`, `content_type`."""
_PARTS: Final = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z0-9]+")

_NAMED = r"token|secret|passw(?:or)?d|passphrase|api[_-]?key|credential"
_IS = r"(?:[\"']?\s*[:=]\s*|[\"'],\s*b?(?=[\"']))"
"""Between a name and its value: in a header, in JSON, and in a pair as Python shows it."""
_Rule = tuple[tuple[str, ...], re.Pattern[str], str]
_RULES: Final[tuple[_Rule, ...]] = (
    (("input_value=",), re.compile(r"input_value=.*?(?=, input_type=|\Z)", re.S), f"input_value={HIDDEN}"),
    (("private key",), re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*-----|\Z)", re.S), HIDDEN),
    (("tk_",), re.compile(r"(tk_[a-z0-9-]{1,63}_)[0-9a-z]{12,}", re.I), rf"\1{HIDDEN}"),
    # grants, and tokens of authorization servers: JSON in base64url begins so
    (("eyj",), re.compile(r"eyJ[\w-]{8,}={0,2}(?:\.[\w-]*)*"), HIDDEN),
    (("bearer", "basic"), re.compile(r"\b((?:bearer|basic)\s+)[^\s\"',;]{8,}", re.I), rf"\1{HIDDEN}"),
    (
        ("authorization", "cookie"),
        re.compile(rf"((?:proxy-)?authorization|(?:set-)?cookie)({_IS})[^\r\n]+", re.I),
        rf"\1\2{HIDDEN}",
    ),
    (
        ("token", "secret", "passw", "passphrase", "api", "credential"),
        re.compile(rf"((?:{_NAMED})s?{_IS})(?:\"[^\"]*\"?|'[^']*'?|[^\s,;&)}}\]]+)", re.I),
        rf"\1{HIDDEN}",
    ),
    (("://",), re.compile(r"(://)[^/\s@]+@"), rf"\1{HIDDEN}@"),
    (("?",), re.compile(r"([?&][\w.~-]{1,64}=)[^&\s\"'#]+"), rf"\1{HIDDEN}"),
    ((".",), re.compile(r"([0-9a-f]{6}\.[\w-]{22}\.)[\w-]{22}"), rf"\1{HIDDEN}"),
    # tokens of Consul
    (("-",), re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.I), HIDDEN),
)
_MATERIAL: Final = (
    re.compile(r"[0-9a-fA-F]{48,}"),  # secrets of keys, keys of services, hashes of keys
    re.compile(r"(?<![\w+/=-])(?=[\w+/-]*[A-Z])(?=[\w+/-]*[a-z])(?=[\w+/-]*[0-9])[A-Za-z0-9_+-][\w+-]{42,}={0,2}"),
    re.compile(r"(?<![\w+/=-])[A-Za-z0-9+/]{43}="),  # 32 bytes in base64: the gossip key
)
_LONG: Final = re.compile(r"[\w+/-]{43}")
_clean: Final[set[str]] = set()
_names: Final[dict[str, bool]] = {}


def hides(name: str) -> bool:
    """Whether a field of this name holds what must not be shown."""
    known = _names.get(name)
    if known is None:
        words = [word.lower() for word in _PARTS.findall(name)]
        known = not _WORDS.isdisjoint(words) and words[-1] not in _ABOUT
        _make_room(_names)
        _names[name] = known
    return known


def redacted(text: str) -> str:
    """A text with all that has the form of a secret hidden, and at most `LONGEST_TEXT` long."""
    if text in _clean:
        return text
    if len(text) > LONGEST_TEXT:
        text = f"{text[: LONGEST_TEXT // 2]} … {text[-LONGEST_TEXT // 2 :]}"
    after = _ruled(text)
    if after is text and len(text) <= _SHORT:
        _make_room(_clean)
        _clean.add(text)
    return after


def shown(name: str, value: object, depth: int = 0) -> object:
    """The value of a field as it may stand in a log: numbers, texts, lists and objects of these.

    Args:
        name: The field's; what it holds may be hidden for it alone.
        value: Whatever was given; what is no JSON becomes text.
        depth: How many objects or lists it stands in.
    """
    kind = type(value)
    if value is None or kind is bool or kind is int or kind is float:
        return value
    if hides(name):
        return HIDDEN if value else ""
    if kind is str:
        return redacted(value)  # type: ignore[arg-type]
    return _deep(name, value, depth)


def _deep(name: str, value: object, depth: int) -> object:
    if depth >= DEEPEST:
        return "…"
    if isinstance(value, Mapping):
        pairs = ((str(key), item) for key, item in list(value.items())[:MOST_ITEMS])
        return {redacted(key): shown(key, item, depth + 1) for key, item in pairs}
    if isinstance(value, list | tuple | set | frozenset):
        return [shown(name, item, depth + 1) for item in list(value)[:MOST_ITEMS]]
    return redacted(str(value))


def _ruled(text: str) -> str:
    low, before = text.lower(), text
    for triggers, pattern, instead in _RULES:
        for trigger in triggers:
            if trigger in low:
                text = pattern.sub(instead, text)
                break
    if len(text) >= 43 and _LONG.search(text):
        for pattern in _MATERIAL:
            text = pattern.sub(HIDDEN, text)
    return before if text == before else text


def _make_room(remembered: set[str] | dict[str, bool]) -> None:
    """Forget all when it is full: what comes often is soon back."""
    if len(remembered) >= _REMEMBERED:
        remembered.clear()
