"""ATIS and SNIPS: sentences whose words have slot tags, from three text files for each split.

The folder of a split holds `seq.in` (words), `seq.out` (as many tags of the form `B-type`, `I-type`
or `O`) and `label` (the intent of the sentence), one sentence a line, a format that the slot-gated
models of Goo et al. (NAACL 2018) introduced.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from rcnn_jax.data import roots
from rcnn_jax.data.files.text_lines import numbered_lines
from rcnn_jax.data.spec import Columns, DatasetSpec, Feature
from rcnn_jax.data.text.sentences import TEXT, to_bytes
from rcnn_jax.errors import shortened

_FOLDERS = {"train": ("train",), "validation": ("dev", "valid"), "test": ("test",)}
_FILES = ("seq.in", "seq.out", "label")
_IOBES = ": write B- for the S- or U- of a single word and I- for the E- or L- of a last one"
_OWN = (
    "sentences of your own need a SlotFiles of rcnn_jax.data.datasets.text.slots with their own "
    "intents, whose spec(...) is named by --config.data.name=my_fork.data:MINE"
)

# The intents of all three splits, five of which never occur in the training split.
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
    """Location and contents of a data set in this format.

    Attributes:
        name: Name of the data set and of its folder.
        intents: All intents that a `label` file may contain.
        sentences: Number of sentences by split; None where it is not known beforehand.
        homepage: Address of the files.
    """

    name: str
    intents: tuple[str, ...]
    sentences: Mapping[str, int | None]
    homepage: str

    def find(self, root: Path, split: str) -> list[Path]:
        """Returns the three files of a split, in a folder below the root or in the root itself.

        Args:
            root: Data root.
            split: `train`, `validation` or `test`.

        Raises:
            FileNotFoundError: A file is missing.
        """
        choices = [[f"{folder}/{file}" for folder in _FOLDERS[split]] for file in _FILES]
        folders = [root / self.name]
        # All data sets of this form use the same file names: the root is used only by its name.
        if root.resolve().name == self.name:
            folders.append(root)
        return roots.find_files(self.name, folders, choices, self.homepage)

    def read(self, root: Path, split: str) -> Columns:
        """Reads the columns `words`, `tags` and `intent` of a split.

        Args:
            root: Data root.
            split: `train`, `validation` or `test`.

        Returns:
            A dict of the words and tags of each sentence as bytes, and `intent` `int32[sentences]`.

        Raises:
            FileNotFoundError: A file is missing.
            ValueError: A line is damaged; the message names file and line.
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
        expected = self.sentences[split]
        if expected not in (None, len(words)):
            raise ValueError(
                f"{word_path} has {len(words):,} sentences, {self.name} has {expected:,} in "
                f"{split!r}: {_OWN}"
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
                        f"'I-type'{_IOBES if tag[:2] in ('S-', 'E-', 'L-', 'U-') else ''}"
                    )
            if len(intent) != 1 or intent[0] not in self.intents:
                raise ValueError(
                    f"{intent_path}:{number + 1}: {' '.join(intent)!r} is none of the "
                    f"{len(self.intents)} intents of {self.name}, {shortened(self.intents, 7)}: "
                    f"{_OWN}"
                )
            columns["words"].append(to_bytes(sentence))
            columns["tags"].append(to_bytes(its_tags))
            labels[number] = self.intents.index(intent[0])
        return {**columns, "intent": labels}

    def spec(self, description: str, citation: str) -> DatasetSpec:
        """Returns the data set.

        Args:
            description: Short description of the data set.
            citation: Paper to cite.
        """
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
    """Returns the words of each line, separated by any number of spaces, tabs and line ends."""
    # Splits bytes, because a space of another script belongs to its word.
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
