"""How a file's bytes stand for text: what its first bytes say, or what the caller says. Pure.

Nothing is guessed: a byte order mark decides, else what the caller names, else it is UTF-8 or is shown as bytes.
"""

import codecs
from dataclasses import dataclass

__all__ = ["UTF8", "Encoding", "EncodingError", "Form", "encoding_of", "form_of"]

UTF8 = "utf-8"
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Without state between characters, so that an edit changes nothing but itself.
_KNOWN = frozenset(
    [
        "utf-8", "utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be", "iso8859-1", "ascii", "koi8-r", "koi8-u",
        "mac-roman", "cp437", "cp850", "cp852", "cp866", "cp932", "cp949", "shift_jis", "euc_jp", "euc_kr", "gbk",
        "gb2312", "gb18030", "big5", "big5hkscs", *(f"iso8859-{part}" for part in (*range(2, 12), 13, 14, 15, 16)),
        *(f"cp125{part}" for part in range(9)),
    ]
)  # fmt: skip


class EncodingError(ValueError):
    """An encoding that cannot be used, or does not fit; the text says why and what to do."""


@dataclass(frozen=True)
class Encoding:
    """How a file is encoded.

    Args:
        name: Python's name of it.
        bom: The byte order mark it starts with, empty for none.
    """

    name: str = UTF8
    bom: bytes = b""

    def encoded(self, text: str) -> bytes:
        """The text's bytes, without a mark.

        Raises:
            EncodingError: It holds what the encoding has no bytes for.
        """
        try:
            return text.encode(self.name)
        except UnicodeEncodeError as error:
            bad = ascii(text[error.start : error.start + 1])
            lone = "\ud800" <= text[error.start] <= "\udfff"
            what = "a lone surrogate, which is no character" if lone else f"has no bytes in {self.name}"
            raise EncodingError(f"the character {bad} at {error.start} of the text: {what}; leave it out") from error


def encoding_of(head: bytes, named: str | None) -> Encoding:
    """How a file is encoded that starts with `head`.

    Raises:
        EncodingError: `named` is no encoding that can be used, or the mark says otherwise.
    """
    found = next((Encoding(name, bom) for bom, name in _BOMS if head.startswith(bom)), None)
    if named is None:
        return found or Encoding()
    name = _known(named)
    if found is not None and found.name != name and not (name in found.name or named.lower() in ("utf-16", "utf-32")):
        raise EncodingError(f"the file starts with the mark of {found.name}, not of {named}; leave encoding out")
    return found or Encoding(name)


def _known(named: str) -> str:
    try:
        name = codecs.lookup(named).name
    except (LookupError, ValueError):
        name = ""
    name = {"utf-16": "utf-16-le", "utf-32": "utf-32-le", "utf-8-sig": "utf-8"}.get(name, name)
    if name not in _KNOWN:
        raise EncodingError(
            f"encoding {named[:40]!r} cannot be used; such as utf-8, utf-16, latin-1, cp1252, gbk, shift_jis can"
        )
    return name


@dataclass(frozen=True)
class Form:
    """What a text file has besides its words, to be kept when it is written anew.

    Args:
        encoding: How it is encoded.
        crlf: All its lines end in CRLF.
        final_newline: Its last line has an end.
    """

    encoding: Encoding = Encoding()
    crlf: bool = False
    final_newline: bool = False

    def of(self, text: str) -> bytes:
        """The bytes of `text` in this form.

        Raises:
            EncodingError: The encoding has no bytes for it.
        """
        if self.crlf and "\r" not in text:
            text = text.replace("\n", "\r\n")
        if self.final_newline and text and not text.endswith("\n"):
            text += "\r\n" if self.crlf else "\n"
        if self.encoding.bom and text.startswith("\ufeff"):
            text = text[1:]
        return self.encoding.bom + self.encoding.encoded(text)

    @property
    def kept(self) -> tuple[str, ...]:
        """What it has that plain UTF-8 with LF has not, for the caller."""
        name = self.encoding.name
        kept = [name if name != UTF8 else "", "BOM" if self.encoding.bom else "", "CRLF" if self.crlf else ""]
        return tuple(word for word in kept if word)


def form_of(head: bytes, tail: bytes, named: str | None) -> Form:
    """The form of a file, from its first and its last bytes.

    Raises:
        EncodingError: As `encoding_of`.
    """
    encoding = encoding_of(head, named)
    cut = len(head) - len(head) % 4
    text = head[len(encoding.bom) : cut].decode(encoding.name, "replace") if encoding.name != UTF8 else ""
    lf, crlf = (text.count("\n"), text.count("\r\n")) if text else (head.count(b"\n"), head.count(b"\r\n"))
    return Form(encoding, crlf=bool(crlf) and lf == crlf, final_newline=tail.endswith("\n".encode(encoding.name)))
