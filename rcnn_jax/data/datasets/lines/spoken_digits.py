"""Strings of spoken digits, composed from recordings of the Free Spoken Digit Dataset.

A string has 1 to 5 recordings of one speaker with short gaps; its text is the digits with spaces
between them, so that each word is a digit. Takes 0 to 4 of each speaker and digit are used in test
strings, as in the data set's own split, take 5 in validation strings, and all later takes in
training strings.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from rcnn_jax.data import roots
from rcnn_jax.data.datasets.draws import Draws
from rcnn_jax.data.files.audio import log_mel, read_frames, read_wav
from rcnn_jax.data.spec import Columns, DatasetSpec, Feature
from rcnn_jax.data.text.sentences import TEXT, to_bytes

RATE, BINS = 8_000, 40
SHORTEST, LONGEST = 1, 5
GAPS = (0.04, 0.2)
"""Range of the gap between two recordings, before the first and after the last, in seconds."""
SPLITS = {"train": 3_000, "validation": 300, "test": 1_000}
TAKES = {"train": range(6, 1_000), "validation": range(5, 6), "test": range(5)}
_FILE = re.compile(r"(?P<digit>[0-9])_(?P<speaker>[a-z]+)_(?P<take>[0-9]+)\.wav")
_FOLDERS = ("fsdd", "free-spoken-digit-dataset")
_HOMEPAGE = "https://github.com/Jakobovski/free-spoken-digit-dataset"
# Amplitude of noise in 16-bit steps, as in silence of a microphone: digital silence has no
# log-energy.
_NOISE = 3.0


def find(root: Path, split: str) -> list[Path]:
    """Returns the recordings of a split; `recordings/7_jackson_32.wav` is take 32 of a seven.

    Args:
        root: Data root.
        split: `train`, `validation` or `test`.

    Raises:
        FileNotFoundError: There are no recordings.
        ValueError: A file does not have a name of this form.
    """
    folders = [root / name for name in _FOLDERS]
    if root.resolve().name in _FOLDERS:
        folders.append(root)
    for folder in (folder / "recordings" for folder in folders):
        recordings = sorted(folder.glob("*.wav"))
        for path in recordings:
            if _FILE.fullmatch(path.name) is None:
                raise ValueError(f"{path} is not called DIGIT_SPEAKER_TAKE.wav")
        if recordings:
            break
    else:
        raise FileNotFoundError(
            f"spoken_digits: recordings/*.wav not found in any of {', '.join(map(str, folders))}; "
            f"get them from {_HOMEPAGE} and name the folder above with --data_dir or the "
            f"environment variable {roots.ENVIRONMENT}"
        )
    return [p for p in recordings if int(p.stem.rpartition("_")[2]) in TAKES[split]]


def string(
    draws: Draws, samples: Mapping[str, Sequence[tuple[str, np.ndarray]]]
) -> tuple[np.ndarray, list[str]]:
    """Composes one string of digits.

    Args:
        draws: Random numbers of the example.
        samples: Recordings by speaker, each a pair of a digit and `float32[samples]`.

    Returns:
        The recording `float32[samples]`, and its digits.
    """
    speaker_samples = samples[draws.choice(sorted(samples))]
    count = SHORTEST + draws.below(LONGEST - SHORTEST + 1)
    chosen = [draws.choice(speaker_samples) for _ in range(count)]
    low, high = (round(seconds * RATE) for seconds in GAPS)
    gaps = low + draws.integers(count + 1, high - low + 1)
    noise = (_NOISE * (2 * draws.uniform(int(gaps.sum())) - 1)).astype(np.float32)
    silences = np.split(noise, np.cumsum(gaps)[:-1])
    parts = [silences[0]]
    for (_, recording), silence in zip(chosen, silences[1:], strict=True):
        parts += [recording, silence]
    return np.concatenate(parts), [digit for digit, _ in chosen]


def spoken_digits(*, seed: int = 0, splits: Mapping[str, int] | None = None) -> DatasetSpec:
    """Returns the strings as a data set with the features `frames` and `text`.

    Args:
        seed: Seed that determines each string together with its split and index.
        splits: Number of strings of `train`, `validation` and `test`; None: `SPLITS`.
    """
    sizes = SPLITS if splits is None else splits

    def read(root: Path, split: str) -> Columns:
        samples: dict[str, list[tuple[str, np.ndarray]]] = {}
        for path in find(root, split):
            digit, speaker, _ = path.stem.split("_")
            samples.setdefault(speaker, []).append((digit, read_wav(path, RATE)))
        if not samples:
            raise ValueError(f"spoken_digits: there is no recording of the takes of {split!r}")
        stream = ("train", "validation", "test").index(split)
        strings = [string(Draws(seed, stream, i), samples) for i in range(sizes[split])]
        return {
            "frames": [log_mel(values, RATE, BINS) for values, _ in strings],
            "text": [to_bytes(digits) for _, digits in strings],
        }

    return DatasetSpec(
        name="spoken_digits" if seed == 0 else f"spoken_digits_seed_{seed}",
        version="1.0.0",
        features={"frames": Feature((None, BINS), "float32"), "text": TEXT},
        splits=sizes,
        files=lambda root, split: [*find(root, split), Path(__file__)],
        read=read,
        description="Strings of 1 to 5 digits, put together from recordings of single ones.",
        homepage=_HOMEPAGE,
        citation="Z. Jackson et al. Free Spoken Digit Dataset, v1.0.8, 2018.",
        read_file=lambda path: {"frames": read_frames(path, RATE, BINS)},
    )


SPOKEN_DIGITS = spoken_digits()
