"""Made-up sequence to sequence problems over characters: dates to be normalised, names of numbers.

    2 n d _ o f _ m a y , _ 1 9 9 7   ->   1 9 9 7 - 0 5 - 0 2
    4 2                               ->   f o r t y - t w o

Tokens are characters, a space is written `_`; in the second problem the source is one token, so
that one vector becomes a sequence. No day of the validation and test dates is one of training.
"""

import datetime
from collections.abc import Mapping
from pathlib import Path

from rcnn_jax.data.datasets.draws import Draws
from rcnn_jax.data.spec import Columns, DatasetSpec
from rcnn_jax.data.text.sentences import TEXT, to_bytes

SPLITS = {"train": 10_000, "validation": 500, "test": 1_000}
FIRST, LAST = datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)
# Which split a day belongs to, by the last digit of its number.
_OWNERS = (*("train",) * 8, "validation", "test")
MONTHS = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september",
    "october", "november", "december",
)  # fmt: skip
FORMS = (
    "{month} {ordinal}, {year}",
    "{day} {short} {year}",
    "{short} {day}, {year}",
    "{ordinal} of {month}, {year}",
    "{day}.{number}.{year}",
    "{year}/{number}/{day}",
)
_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


def ordinal(number: int) -> str:
    """`1st`, `2nd`, `3rd`, `11th` and so on."""
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if 10 < number % 100 < 14 else suffix}"


def date(split: str, draws: Draws) -> tuple[str, str]:
    """A date as somebody wrote it, and as ISO 8601 has it.

    Args:
        split: it is to belong to.
        draws: its random numbers.
    """
    owned = [place for place, owner in enumerate(_OWNERS) if owner == split]
    tens = (LAST.toordinal() - FIRST.toordinal() + 1) // 10
    number = 10 * draws.below(tens) + draws.choice(owned)
    day = datetime.date.fromordinal(FIRST.toordinal() + number)
    month = MONTHS[day.month - 1]
    parts = {"day": day.day, "ordinal": ordinal(day.day), "month": month, "short": month[:3]}
    written = draws.choice(FORMS).format(**parts, number=day.month, year=day.year)
    return written, day.isoformat()


def number_name(number: int) -> str:
    """The English name of 0 to 99."""
    if number < 20:
        return _ONES[number]
    tens, ones = divmod(number, 10)
    return _TENS[tens - 2] + (f"-{_ONES[ones]}" if ones else "")


def _read_dates(root: Path, split: str) -> Columns:
    del root
    stream = list(SPLITS).index(split)
    pairs = [date(split, Draws(0, stream, index)) for index in range(SPLITS[split])]
    sides = zip(*pairs, strict=True)
    return {
        name: [to_bytes(text.replace(" ", "_")) for text in side]
        for name, side in zip(("source", "target"), sides, strict=True)
    }


def _read_numbers(root: Path, split: str) -> Columns:
    del root, split
    return {
        "source": [to_bytes([str(number)]) for number in range(100)],
        "target": [to_bytes(number_name(number)) for number in range(100)],
    }


def _spec(name: str, sizes: Mapping[str, int], read: object, description: str) -> DatasetSpec:
    return DatasetSpec(
        name=name,
        version="1.0.0",
        features={"source": TEXT, "target": TEXT},
        splits=sizes,
        # Nothing is read; prepared records follow the file that makes the examples.
        files=lambda root, split: [Path(__file__)],
        read=read,  # pyright: ignore[reportArgumentType]
        description=description,
    )


DATES = _spec("dates", SPLITS, _read_dates, "Dates written in six ways, and in ISO 8601.")
# A number says nothing of another one's name: there is nothing to be held out.
NUMBER_NAMES = _spec(
    "number_names",
    dict.fromkeys(SPLITS, 100),
    _read_numbers,
    "The numbers 0 to 99 and their English names; all splits are the same.",
)
