"""Words of a sentence as published caption scores count them: Penn Treebank style, no punctuation.

COCO's evaluation tokenises by Stanford's `PTBTokenizer -lowerCase` (CoreNLP 3.4.1) and leaves out a
list of punctuation marks. Here are the rules of it that sentences about pictures meet: clitics come
apart (`don't` is `do n't`, `dog's` is `dog 's`, `cannot` is `can not`); words with hyphens, slashes
or dots inside stay whole, and so do numbers (`1,000`, `4:21`, `3/4`); abbreviations and single
letters keep their dot; `!` and `?` in a row are a word.

On 65,874 captions (COCO's validation split of 2017, 80 pictures of its training split, Flickr8k)
the words are the same, but that Stanford's joins `22 3/4` by a no-break space, which scores read as
two words. What is known to differ besides: it writes smileys as one word, currencies and fractions
in other signs (`£` as `#`, `½` as `1/2`) and `&amp;` as `&`; it knows more abbreviations and words
with an apostrophe; it decides by the next sentence whether a single letter at the end keeps its
dot; and it drops characters such as emoji, which are words here.
"""

import functools
import re
import unicodedata

_QUOTES = ("''", "'", "``", "`")
_MARKS = (".", "?", "!", ",", ":", "-", "--", "...", ";")
PUNCTUATION = frozenset((*_QUOTES, *_MARKS, "-LRB-", "-RRB-", "-LCB-", "-RCB-"))
"""Tokens that COCO's evaluation leaves out. Brackets are among them in capitals, which lower-cased
text never has: `-lrb-` is a word of published references, and so it is here."""

_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_SIGNS = str.maketrans(
    {**dict.fromkeys("’‛", "'"), "‘": "`", **dict.fromkeys("“”„«»", '"')}
    | {**dict.fromkeys("—–―", " -- "), "…": " ... ", "\u200b": " "}
    | dict.fromkeys("\u00ad\ufe0f", "")
)
_REMEMBERED = 1 << 16  # so many different strings between spaces are remembered

_ABBREVIATIONS = (
    "mr|mrs|ms|dr|prof|rev|gen|capt|lt|sgt|col|sen|rep|gov|st|ave|blvd|rd|mt|ft|vs|etc|inc|ltd|co|"
    "corp|dept|jr|sr|maj|bros|univ|assn|pres|ext|est|al|ph\\.d|md|bldg|mo|hr|sec|messrs|adm|cmdr|"
    "hon|pvt|cpl|sq|rt|ct|jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec|mon|tue|tues|wed|thu|"
    "thur|thurs|fri|fla|calif|ga|ala|ind|ariz|colo|conn|ky|tenn|va|okla|mich|minn|wis"
)
_END = r"(?![^\W_])"
_LETTER = r"[^\W\d_]"
_WORD = r"[^\W_]+"
_INNER = rf"(?:[-/_.]{_WORD})*"
# The first of them that matches where the last token ended is the next one. All but the first
# disregard capitals: R&B is a word, b&b is not.
_ALTERNATIVES = (
    rf"[A-Z]+(?:&[A-Z]+)+{_END}",
    r"(?:https?://|www\.)[^\s<>\"]*[^\s<>\".,;:!?')\]]",
    r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+|[@#][a-z_]\w*",
    r"</?[a-z][^\s<>]*>",
    rf"can(?=not{_END})|(?:gon|wan)(?=na{_END})|got(?=ta{_END})|(?:gim|lem)(?=me{_END})",
    rf"'t(?=(?:is|was){_END})|d'ye{_END}",
    rf"{_LETTER}+?(?=n['`]t{_END})|n['`]t{_END}",
    rf"'(?:s|m|d|ll|re|ve){_END}|'n'|'(?:n|em|til|cause){_END}",
    rf"(?<!\w)'\d\ds?{_END}",
    rf"(?:{_ABBREVIATIONS})\.{_END}",
    rf"{_LETTER}(?:\.{_LETTER})+\.?{_END}|(?!i){_LETTER}\.{_END}",
    rf"(?:(?<!\S)-|\+)\d+(?:[.,:/]\d+)*{_END}|\d+(?:[.,:]\d+)+(?:[-/]{_WORD})*|(?<!\S)\.\d+{_END}",
    # Irish, French and Hawaiian words, o'clock; ma'am.
    rf"(?:d|o|l|c|qu|n)'{_LETTER}{{2,}}{_INNER}|{_LETTER}*[aeiou]'[aeiou]{_LETTER}*{_END}",
    rf"(?:ma'am|li'l){_END}|ol'(?!\w)|y'(?=all{_END})",
    rf"{_WORD}{_INNER}|_+",
    r"[!?]+|``|''|\S",
)


def tokenize(text: str) -> list[str]:
    """The words of a sentence, in lower case, without punctuation.

    Args:
        text: any; white space of every kind separates words.
    """
    chunks = text.translate(_SIGNS).split()
    # A single letter keeps its dot, but for the last one of a sentence.
    if chunks and len(chunks[-1]) == 2 and chunks[-1].endswith("."):
        chunks[-1] = chunks[-1][0]
    return [word for chunk in chunks for word in _words(chunk)]


@functools.lru_cache(_REMEMBERED)
def _words(chunk: str) -> tuple[str, ...]:
    """The words of what stands between two spaces."""
    spans = [match.span() for match in _pattern().finditer(_readable(chunk))]
    found = (chunk[start:end] for start, end in spans)
    words = (_BRACKETS.get(token) or token.replace('"', "''").lower() for token in found)
    return tuple(word for word in words if word not in PUNCTUATION)


def _readable(chunk: str) -> str:
    """The same with accents and vowel signs as letters, which `re` takes for neither."""
    if chunk.isascii():
        return chunk
    joined = "\u200c\u200d"  # between letters of several scripts
    return "".join(
        "ª" if c in joined or unicodedata.category(c).startswith("M") else c for c in chunk
    )


@functools.cache
def _pattern() -> re.Pattern[str]:
    capitals, *others = _ALTERNATIVES
    return re.compile(f"{capitals}|(?i:{'|'.join(others)})")
