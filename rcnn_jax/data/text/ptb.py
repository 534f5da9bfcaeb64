"""Penn Treebank tokenization without punctuation, as published caption scores use it.

COCO's evaluation tokenizes by Stanford's `PTBTokenizer -lowerCase` (CoreNLP 3.4.1) and removes a
list of punctuation marks. This module implements those of its rules that apply to sentences about
pictures: clitics are split off (`don't` is `do n't`, `dog's` is `dog 's`, `cannot` is `can not`);
words with inner hyphens, slashes or dots stay whole, and so do numbers (`1,000`, `4:21`, `3/4`);
abbreviations and single letters keep their dot, `no.` and some others only before a figure, as in
`no. 5`; a run of `!` and `?` is a word.

On 65,874 captions (COCO's validation split of 2017, 80 pictures of its training split, Flickr8k)
the words are the same, except that Stanford's tokenizer joins `22 3/4` by a no-break space, which
scores read as two words. Further known differences: Stanford's tokenizer writes smileys as one
word, currencies and fractions in other signs (`£` as `#`, `½` as `1/2`) and `&amp;` as `&`; it
knows more abbreviations and words with an apostrophe; it decides by the next sentence whether a
single letter at the end keeps its dot; and it drops characters such as emoji, which are words here.
"""

import functools
import itertools
import re
import unicodedata

_QUOTES = ("''", "'", "``", "`")
_MARKS = (".", "?", "!", ",", ":", "-", "--", "...", ";")
PUNCTUATION = frozenset((*_QUOTES, *_MARKS, "-LRB-", "-RRB-", "-LCB-", "-RCB-"))
"""Tokens that COCO's evaluation removes. Its brackets are in upper case, which never occurs in
lower-cased text: `-lrb-` is a word of published references, and therefore also here."""

_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}
_SIGNS = str.maketrans(
    {**dict.fromkeys("’‛", "'"), "‘": "`", **dict.fromkeys("“”„«»", '"')}
    | {**dict.fromkeys("—–―", " -- "), "…": " ... ", "\u200b": " "}
    | dict.fromkeys("\u00ad\ufe0f", "")
)
_REMEMBERED = 1 << 16  # number of distinct strings between spaces that are cached

_ABBREVIATIONS = (
    "mr|mrs|ms|dr|prof|rev|gen|capt|lt|sgt|col|sen|rep|gov|st|ave|blvd|rd|mt|ft|vs|etc|inc|ltd|co|"
    "corp|dept|jr|sr|maj|bros|univ|assn|pres|ext|est|al|ph\\.d|md|bldg|mo|hr|sec|messrs|adm|cmdr|"
    "hon|pvt|cpl|sq|rt|ct|jan|feb|mar|apr|jun|jul|aug|sep|sept|oct|nov|dec|mon|tue|tues|wed|thu|"
    "thur|thurs|fri|fla|calif|ga|ala|ind|ariz|colo|conn|ky|tenn|va|okla|mich|minn|wis"
)
_NUMBERED = "ca|figs?|prop|nos?|art|pp|op"
_BEFORE_FIGURES = re.compile(rf"(?<![\w.'-])(?:{_NUMBERED})\.$", re.IGNORECASE)
_END = r"(?![^\W_])"
_LETTER = r"[^\W\d_]"
_WORD = r"[^\W_]+"
_INNER = rf"(?:[-/_.]{_WORD})*"
# The next token is the first alternative that matches at the end of the previous one. All but the
# first ignore case: R&B is a word, b&b is not.
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
    rf"(?:{_ABBREVIATIONS})\.{_END}|(?:{_NUMBERED})\.(?=\d)",
    rf"{_LETTER}(?:\.{_LETTER})+\.?{_END}|(?!i){_LETTER}\.{_END}",
    rf"(?:(?<!\S)-|\+)\d+(?:[.,:/]\d+)*{_END}|\d+(?:[.,:]\d+)+(?:[-/]{_WORD})*|(?<!\S)\.\d+{_END}",
    # Irish, French and Hawaiian words, o'clock; ma'am.
    rf"(?:d|o|l|c|qu|n)'{_LETTER}{{2,}}{_INNER}|{_LETTER}*[aeiou]'[aeiou]{_LETTER}*{_END}",
    rf"(?:ma'am|li'l){_END}|ol'(?!\w)|y'(?=all{_END})",
    rf"{_WORD}{_INNER}|_+",
    r"[!?]+|``|''|\S",
)


def tokenize(text: str) -> list[str]:
    """Returns the words of a sentence, in lower case and without punctuation.

    Args:
        text: Any text; white space of every kind separates words.

    Example:
        >>> from rcnn_jax.data.text.ptb import tokenize
        >>> tokenize("A man can't ride the dog's bike, at 4:21!")
        ['a', 'man', 'ca', "n't", 'ride', 'the', 'dog', "'s", 'bike', 'at', '4:21']
    """
    chunks = text.translate(_SIGNS).split()
    # A single letter keeps its dot, except at the end of a sentence.
    if chunks and len(chunks[-1]) == 2 and chunks[-1].endswith("."):
        chunks[-1] = chunks[-1][0]
    words = []
    for chunk, following in itertools.zip_longest(chunks, chunks[1:], fillvalue=""):
        words += _words(chunk)
        if _BEFORE_FIGURES.search(chunk) and following[:1].isdigit():
            words[-1] += "."
    return words


@functools.lru_cache(_REMEMBERED)
def _words(chunk: str) -> tuple[str, ...]:
    """Returns the words of a string without white space."""
    spans = [match.span() for match in _pattern().finditer(_readable(chunk))]
    tokens = (chunk[start:end] for start, end in spans)
    words = (_BRACKETS.get(token) or token.replace('"', "''").lower() for token in tokens)
    return tuple(word for word in words if word not in PUNCTUATION)


def _readable(chunk: str) -> str:
    """Returns the string with combining marks replaced by a letter that `re` matches."""
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
