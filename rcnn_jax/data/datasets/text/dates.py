"""Generated sequence to sequence problems over characters: normalising dates, naming numbers.

    2 n d _ o f _ m a y , _ 1 9 9 7   ->   1 9 9 7 - 0 5 - 0 2
    4 2                               ->   f o r t y - t w o

Tokens are characters, and a space becomes `_`; in the second problem the source is one token, so
that a single vector becomes a sequence. No day of the validation and test dates occurs in training.
"""

import datetime
from collections.abc import Mapping
from pathlib import Path

from rcnn_jax.data.datasets.draws import Draws
from rcnn_jax.data.spec import Columns, DatasetSpec
from rcnn_jax.data.text.sentences import TEXT, to_bytes

SPLITS = {"train": 10_000, "validation": 500, "test": 1_000}
FIRST, LAST = datetime.date(1900, 1, 1), datetime.date(2099, 12, 31)
# Split of a day by the last digit of its number.
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
    """Returns a number as an English ordinal, such as `1st`, `2nd`, `3rd` or `11th`.

    Args:
        number: A non-negative integer.
    """
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{'th' if 10 < number % 100 < 14 else suffix}"


def date(split: str, draws: Draws) -> tuple[str, str]:
    """Generates a date in one of six formats, and the same date in ISO 8601.

    Args:
        split: Split that the date belongs to.
        draws: Random numbers of the example.

    Returns:
        A pair of the formatted date and the ISO date.
    """
    digits = [digit for digit, owner in enumerate(_OWNERS) if owner == split]
    tens = (LAST.toordinal() - FIRST.toordinal() + 1) // 10
    number = 10 * draws.below(tens) + draws.choice(digits)
    day = datetime.date.fromordinal(FIRST.toordinal() + number)
    month = MONTHS[day.month - 1]
    parts = {"day": day.day, "ordinal": ordinal(day.day), "month": month, "short": month[:3]}
    written = draws.choice(FORMS).format(**parts, number=day.month, year=day.year)
    return written, day.isoformat()


def number_name(number: int) -> str:
    """Returns the English name of a number.

    Args:
        number: An integer in 0..99.

    Example:
        >>> from rcnn_jax.data.datasets.text.dates import number_name
        >>> number_name(42)
        'forty-two'
    """
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
        # No file is read: prepared records depend on the source file that generates the examples.
        files=lambda root, split: [Path(__file__)],
        read=read,  # pyright: ignore[reportArgumentType]
        description=description,
    )


DATES = _spec("dates", SPLITS, _read_dates, "Dates written in six ways, and in ISO 8601.")
# The name of a number does not follow from those of others, so nothing is held out.
NUMBER_NAMES = _spec(
    "number_names",
    dict.fromkeys(SPLITS, 100),
    _read_numbers,
    "The numbers 0 to 99 and their English names; all splits are the same.",
)
