"""ATIS and SNIPS: sentences whose words carry slot tags, from three text files a split.

A folder a split holds `seq.in` (words), `seq.out` (as many tags, in the style `B-type`, `I-type`,
`O`) and `label` (the intent of the whole sentence), a sentence a line, as the slot-gated models of
Goo et al. (NAACL 2018) introduced it.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rcnn_jax.data import roots
from rcnn_jax.data.files.text_lines import numbered_lines
from rcnn_jax.data.spec import Columns, DatasetSpec, Feature
from rcnn_jax.data.text.sentences import TEXT, to_bytes

_FOLDERS = {"train": ("train",), "validation": ("dev", "valid"), "test": ("test",)}
_FILES = ("seq.in", "seq.out", "label")

# Those of all three splits: five of them never occur in the training split.
ATIS_INTENTS = (
    "atis_abbreviation", "atis_aircraft", "atis_aircraft#atis_flight#atis_flight_no",
    "atis_airfare", "atis_airfare#atis_flight", "atis_airfare#atis_flight_time", "atis_airline",
    "atis_airline#atis_flight_no", "atis_airport", "atis_capacity", "atis_cheapest", "atis_city",
    "atis_day_name", "atis_distance", "atis_flight", "atis_flight#atis_airfare",
    "atis_flight#atis_airline", "atis_flight_no", "atis_flight_no#atis_airline",
    "atis_flight_time", "atis_ground_fare", "atis_ground_service",
    "atis_ground_service#atis_ground_fare", "atis_meal", "atis_quantity", "atis_restriction",
)  # fmt: skip
SNIPS_INTENTS = (
    "AddToPlaylist", "BookRestaurant", "GetWeather", "PlayMusic", "RateBook",
    "SearchCreativeWork", "SearchScreeningEvent",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class SlotFiles:
    """Where a data set of this form lies, and what is in it.

    Attributes:
        name: of the data set and of its folder.
        intents: all that a `label` file may hold.
        sentences: split to number of sentences; None where it is not known beforehand.
        homepage: where the files are.
    """

    name: str
    intents: tuple[str, ...]
    sentences: Mapping[str, int | None]
    homepage: str

    def find(self, root: Path, split: str) -> list[Path]:
        """The three files of a split: below the root, or in the root itself."""
        choices = [[f"{folder}/{file}" for folder in _FOLDERS[split]] for file in _FILES]
        folders = [root / self.name]
        # All sets of this form use the same names: the root counts only if it is called like one.
        if root.resolve().name == self.name:
            folders.append(root)
        return roots.find_files(self.name, folders, choices, self.homepage)

    def read(self, root: Path, split: str) -> Columns:
        """The columns `words`, `tags` and `intent` of a split.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a line is damaged; the sentence names file and line.
        """
        word_path, tag_path, intent_path = self.find(root, split)
        words, tags, intents = (_lines(path) for path in (word_path, tag_path, intent_path))
        for path, lines, what in ((tag_path, tags, "tags"), (intent_path, intents, "an intent")):
            if len(lines) > len(words):
                raise ValueError(
                    f"{path}:{len(words) + 1}: {what} without words, {word_path} has only "
                    f"{len(words):,} lines"
                )
            if len(lines) < len(words):
                raise ValueError(
                    f"{word_path}:{len(lines) + 1}: words without {what}, {path} has only "
                    f"{len(lines):,} lines"
                )
        columns: dict[str, list[np.ndarray]] = {"words": [], "tags": []}
        labels = np.zeros(len(words), np.int32)
        for number, (sentence, its_tags, intent) in enumerate(
            zip(words, tags, intents, strict=True)
        ):
            if not sentence:
                raise ValueError(f"{word_path}:{number + 1}: the sentence is empty")
            if len(sentence) != len(its_tags):
                raise ValueError(
                    f"{tag_path}:{number + 1}: {len(its_tags)} tags for the {len(sentence)} words "
                    f"of {word_path}"
                )
            for tag in its_tags:
                if tag != "O" and (tag[:2] not in ("B-", "I-") or len(tag) < 3):
                    raise ValueError(
                        f"{tag_path}:{number + 1}: {tag!r} is no tag, which are 'O', 'B-type' and "
                        "'I-type'"
                    )
            if len(intent) != 1 or intent[0] not in self.intents:
                raise ValueError(
                    f"{intent_path}:{number + 1}: {' '.join(intent)!r} is none of the "
                    f"{len(self.intents)} intents of {self.name}"
                )
            columns["words"].append(to_bytes(sentence))
            columns["tags"].append(to_bytes(its_tags))
            labels[number] = self.intents.index(intent[0])
        return {**columns, "intent": labels}

    def spec(self, description: str, citation: str) -> DatasetSpec:
        """The data set that lies on disk this way."""
        return DatasetSpec(
            name=self.name,
            version="1.0.0",
            features={
                "words": TEXT,
                "tags": TEXT,
                "intent": Feature((), "int32", classes=self.intents),
            },
            splits=self.sentences,
            files=self.find,
            read=self.read,
            description=description,
            homepage=self.homepage,
            citation=citation,
        )


def _lines(path: Path) -> list[list[str]]:
    """The words of each line; spaces, tabs and the ends of lines separate them, however many."""
    # Split as bytes: a space of another alphabet belongs to its word.
    return [[word.decode() for word in line.encode().split()] for _, line in numbered_lines(path)]


_HOMEPAGE = "https://github.com/MiuLab/SlotGated-SLU/tree/master/data"

ATIS = SlotFiles(
    name="atis",
    intents=ATIS_INTENTS,
    sentences={"train": 4_478, "validation": 500, "test": 893},
    homepage=f"{_HOMEPAGE}/atis",
).spec(
    "5,871 questions to a flight information desk, with slots such as toloc.city_name.",
    "C. Hemphill, J. Godfrey, G. Doddington. The ATIS spoken language systems pilot corpus. "
    "Speech and Natural Language Workshop, 1990.",
)
SNIPS = SlotFiles(
    name="snips",
    intents=SNIPS_INTENTS,
    sentences={"train": 13_084, "validation": 700, "test": 700},
    homepage=f"{_HOMEPAGE}/snips",
).spec(
    "14,484 commands to a voice assistant in 7 domains, with slots such as playlist.",
    "A. Coucke et al. Snips voice platform. arXiv:1805.10190, 2018.",
)
