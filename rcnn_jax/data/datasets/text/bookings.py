"""Generated travel bookings with slots, for slot filling without any file.

    arrive taipei on november 2nd   ->   O B-destination O B-arrival_date I-arrival_date
    leave taipei on november 2nd    ->   O B-departure O B-departure_date I-departure_date

A word alone does not determine its slot: any city may be left or reached, and a date, a time or a
part of the day belongs to the departure or arrival of its phrase, which may come before or after
it. Validation and test use arrangements of phrases that do not occur in training, and half of
their cities, months and airlines are new.
"""

import dataclasses
import functools
import itertools
from collections.abc import Mapping
from pathlib import Path

from rcnn_jax.data.datasets.draws import Draws
from rcnn_jax.data.spec import Columns, DatasetSpec
from rcnn_jax.data.text.sentences import TEXT, to_bytes

SPLITS = {"train": 3_000, "validation": 500, "test": 1_000}

# Values by kind and by the split in which they are new.
VALUES = {
    "city": {
        "train": (
            "taipei", "tokyo", "osaka", "paris", "london", "berlin", "madrid", "rome", "vienna",
            "prague", "boston", "denver", "dallas", "chicago", "new york", "los angeles",
            "hong kong", "san jose", "sao paulo", "buenos aires", "cape town", "abu dhabi",
        ),
        "validation": ("oslo", "athens", "cairo", "lima", "seoul", "tel aviv", "new orleans"),
        "test": (
            "lisbon", "dublin", "nairobi", "lagos", "bogota", "kyoto", "busan", "mexico city",
            "kuala lumpur", "rio de janeiro", "saint louis",
        ),
    },
    "month": {
        "train": ("january", "march", "april", "may", "june", "july", "september", "november"),
        "validation": ("february", "october"),
        "test": ("august", "december"),
    },
    "airline": {
        "train": ("eva air", "united", "lufthansa", "iberia", "cathay pacific"),
        "validation": ("qantas", "thai airways"),
        "test": ("finnair", "alitalia", "korean air"),
    },
}  # fmt: skip
PARTS_OF_DAY = ("morning", "afternoon", "evening", "night")
DAYS = tuple(
    f"{day}{'th' if 10 < day < 14 else {1: 'st', 2: 'nd', 3: 'rd'}.get(day % 10, 'th')}"
    for day in range(1, 29)  # which every month has
)
WAYS = {
    "departure": ("leave", "depart", "quit", "exit"),
    "arrival": ("arrive", "reach", "enter", "approach"),
}
LINKS = ("and", "then", "but")

_OPENINGS = (
    "", "please", "i want to", "i would like to", "could you help me to", "may i", "we have to",
    "my friend wants to", "book a seat to",
)  # fmt: skip
# A leg names place and time; the word `{way}` makes it a departure or an arrival.
_LEGS = (
    "{way} {city} on {date}",
    "{way} {city} at {time}",
    "{way} {city} on {date} at {time}",
    "on {date} {way} {city}",
    "at {time} {way} {city}",
    "on {date} at {time} {way} {city}",
    "{way} {city} in the {part} of {date}",
    "in the {part} {way} {city}",
    "{city} is the place to {way} on {date}",
    "{city} is what i {way} at {time}",
)
_CLOSINGS = ("", "with {airline}", "not with {airline}", "please", "for two people")
_SLOTS = {
    "departure": {
        "city": "departure", "date": "departure_date", "time": "departure_time",
        "part": "departure_time",
    },
    "arrival": {
        "city": "destination", "date": "arrival_date", "time": "arrival_time",
        "part": "arrival_time",
    },
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Arrangement:
    """Structure of a sentence, before its words are chosen.

    Attributes:
        opening: First words of the sentence.
        legs: One or two patterns.
        first: Whether the first leg is a `departure` or an `arrival`; a second leg is the other.
        closing: Last words of the sentence.
    """

    opening: str
    legs: tuple[str, ...]
    first: str
    closing: str

    @property
    def split(self) -> str:
        """The only split that has sentences of this arrangement."""
        # Neighbours differ in one phrase, so that every phrase occurs in every split.
        number = _OPENINGS.index(self.opening) + 2 * _CLOSINGS.index(self.closing)
        number += 3 * _LEGS.index(self.legs[-1]) + _LEGS.index(self.legs[0])
        number += self.first == "arrival"
        return ("train", "train", "train", "validation", "test")[number % 5]


@functools.cache
def arrangements(split: str) -> tuple[Arrangement, ...]:
    """Returns all arrangements of a split, none of which occurs in another split.

    Args:
        split: `train`, `validation` or `test`.
    """
    legs = [*((leg,) for leg in _LEGS), *itertools.permutations(_LEGS, 2)]
    every = (Arrangement(*parts) for parts in itertools.product(_OPENINGS, legs, WAYS, _CLOSINGS))
    return tuple(arrangement for arrangement in every if arrangement.split == split)


def sentence(split: str, draws: Draws) -> tuple[list[str], list[str]]:
    """Generates a sentence.

    Args:
        split: Split that the sentence belongs to.
        draws: Random numbers of the example.

    Returns:
        A pair of the words and as many tags.
    """
    arrangement = draws.choice(arrangements(split))
    phrases: list[tuple[str, str | None]] = [(arrangement.opening, None)]
    ways = tuple(WAYS) if arrangement.first == "departure" else tuple(WAYS)[::-1]
    for number, leg in enumerate(arrangement.legs):
        if number:
            phrases.append((draws.choice(LINKS), None))
        for word in leg.split():
            kind, way = word.strip("{}"), ways[number]
            if kind == word:
                phrases.append((word, None))
            elif kind == "way":
                phrases.append((draws.choice(WAYS[way]), None))
            else:
                phrases.append((_value(draws, kind, split), _SLOTS[way][kind]))
    before, airline, _ = arrangement.closing.partition("{airline}")
    phrases.append((before, None))
    if airline:
        slot = "refused_airline" if "not" in before else "airline"
        phrases.append((_value(draws, "airline", split), slot))
    words = [word for text, _ in phrases for word in text.split()]
    tags = [
        "O" if slot is None else f"{'I' if index else 'B'}-{slot}"
        for text, slot in phrases
        for index in range(len(text.split()))
    ]
    return words, tags


def _value(draws: Draws, kind: str, split: str) -> str:
    """Returns random words for a slot."""
    if kind == "date":
        return f"{_value(draws, 'month', split)} {draws.choice(DAYS)}"
    if kind == "time":
        return f"{1 + draws.below(12)} {draws.choice(('am', 'pm', 'oclock'))}"
    if kind == "part":
        return draws.choice(PARTS_OF_DAY)
    return draws.choice(VALUES[kind][draws.choice(("train", split))])


def bookings(*, seed: int = 0, splits: Mapping[str, int] | None = None) -> DatasetSpec:
    """Returns the bookings as a data set with the features `words` and `tags`.

    Args:
        seed: Seed that determines each sentence together with its split and index.
        splits: Number of sentences of `train`, `validation` and `test`; None: `SPLITS`.

    Raises:
        ValueError: There is a split of another name.
    """
    sizes = SPLITS if splits is None else splits
    if not set(sizes) <= set(SPLITS):
        raise ValueError(f"bookings have the splits {', '.join(SPLITS)}, got {', '.join(sizes)}")

    def read(root: Path, split: str) -> Columns:
        del root
        stream = list(SPLITS).index(split)
        made = [sentence(split, Draws(seed, stream, index)) for index in range(sizes[split])]
        return {
            "words": [to_bytes(words) for words, _ in made],
            "tags": [to_bytes(tags) for _, tags in made],
        }

    return DatasetSpec(
        name="bookings" if seed == 0 else f"bookings_seed_{seed}",
        version="1.0.0",
        features={"words": TEXT, "tags": TEXT},
        splits=sizes,
        # No file is read: prepared records depend on the source file that generates the sentences.
        files=lambda root, split: [Path(__file__)],
        read=read,
        description="Made-up travel bookings with slots such as destination and departure_date.",
    )


BOOKINGS = bookings()
