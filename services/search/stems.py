"""The words of a text as the index knows them: small, without their endings, those inside of identifiers as well.

Pure. Found before the text goes to the index, and kept by word: most words of code come again and again, and an index
that finds each of them anew takes twice as long.
"""

from collections.abc import Sequence

import tantivy

from services.search.words import LONGEST_WORD, Kept, code_words, parts

__all__ = ["CODE", "WHOLE", "stems"]

CODE = (
    tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.simple())
    .filter(tantivy.Filter.remove_long(LONGEST_WORD))
    .filter(tantivy.Filter.lowercase())
    .filter(tantivy.Filter.stemmer("english"))
    .build()
)
"""What makes stems of a text."""
WHOLE = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).build()
"""What leaves words as they are, between blanks."""


def _stems(text: str) -> str:
    return " ".join(CODE.analyze(code_words(text)))


def _stems_of_word(word: str) -> str:
    return " ".join(CODE.analyze(" ".join((word, *parts((word,))))))


_STEMS = Kept(_stems_of_word)


def stems(text: str, words: Sequence[str]) -> str:
    """The stems of a text, with repetition, separated by blanks.

    Args:
        text: The text.
        words: Its words, as `words_of` finds them.
    """
    # Beyond ASCII a word may hold marks that are no letters for Python: there the whole text is divided by one hand.
    return " ".join(map(_STEMS.__getitem__, words)) if text.isascii() else _stems(text)
