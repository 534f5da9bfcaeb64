"""A user's lines: pictures or recordings, with a text for each.

`lines:PATH` is a data set of pictures and `recordings:PATH` one of wav files. PATH, below the data
root or absolute, is one of

- a folder with a text file for each: `page1/a.png` beside `page1/a.txt` or `page1/a.gt.txt`, of
  which the latter is taken where both are there. Versions of a picture, such as `a.bin.png`, belong
  to the same text. A `README` and texts `.pred.txt` may lie beside them;
- a list with one line for each: the file, a tab, its text, with or without the quotes of csv. The
  file is relative to the list's folder.

A folder that holds subfolders `train`, `validation` and `test`, or lists `train.tsv` and so on, is
split accordingly. Otherwise a hash of each file's name determines its split: about 80 % are for
training, 10 % for validation and 10 % for test, and a file stays in its split when others are
added.

Options follow the path, as in `lines:PATH?damaged=skip&suffix=.bin.png`: they are the arguments of
`pictures` and `recordings`.

Pictures may show dark ink on bright paper or bright ink on dark, at any exposure. The encoder
decides once, by the majority of the training split, what they show, and treats every picture of the
run alike; `--config.encoder.polarity=dark_ink`, `bright_ink` or, for a data set that mixes both,
`each` decide otherwise. It needs the feature `inverted`: if `config.data.features` leaves it out,
each picture is taken by its own evidence. `rcnn_jax.data.files.images` says which files are read.

Wav files have integer or floating samples, the latter as parts of 1, mu-law or A-law, also as
programs write them to a pipe. `recordings:PATH?channel=left` reads one of several channels, which
are averaged otherwise; `rate=8000` and `bins=40` say how frames are computed.

Texts are in logical order, in which they are read and typed, also those from right to left such as
Hebrew and Arabic: `rcnn_jax.data.encoders.transcripts` turns the texts of pictures to the order
that the picture shows, and answers are turned back. This needs python-bidi (`rcnn-jax[bidi]`).
"""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from rcnn_jax.data import roots
from rcnn_jax.data.columns import from_files
from rcnn_jax.data.datasets.lines.folders import read_folder
from rcnn_jax.data.datasets.lines.found import Found, Kind, Line
from rcnn_jax.data.datasets.lines.kinds import PICTURES, RECORDINGS
from rcnn_jax.data.datasets.lines.lists import read_list
from rcnn_jax.data.datasets.problems import REMEDY, Problems
from rcnn_jax.data.files import audio, images, text_lines
from rcnn_jax.data.files.line_images import read_grey, with_polarity
from rcnn_jax.data.spec import Columns, DatasetSpec, Feature
from rcnn_jax.data.splits import SPLITS, split_of
from rcnn_jax.data.text.sentences import TEXT
from rcnn_jax.errors import shortened
from rcnn_jax.output.digests import json_digest

_NOUN = "lines"  # what examples are called in messages


# The features of a file: type and shape of each, and the function that reads it.
Readers = Mapping[str, tuple[Feature, Callable[[Path], np.ndarray]]]


def pictures(
    path: str,
    *,
    name: str = "lines",
    held_out: float = 0.1,
    damaged: str = "stop",
    suffix: str = "",
) -> DatasetSpec:
    """Returns a user's pictures of lines as a data set.

    Its features are `image`, bright ink on dark by the evidence of each picture, `inverted`,
    whether the grey values of its file were inverted for that, `text` and `file`. The encoder
    `Transcripts` takes both to decide once for the whole data set what is ink.

    Args:
        path: Path of a folder or a list, below the data root or absolute; see the module docstring.
        name: Name of the data set.
        held_out: Share of files for validation, and again for test, where the user has no splits.
        damaged: `stop` at the first picture that is unreadable or has no text, and at the first
            text that is empty or has no picture; or `skip` these, and report and count them.
        suffix: What follows the name of the text in the name of its picture, where a folder has
            several versions: `.bin.png` chooses `a.bin.png` of this and `a.png`. A text without
            such a picture is a problem. "": any, of which a text has only one.
    """
    options = {"held_out": held_out, "damaged": damaged, "suffix": suffix}
    readers: Readers = {
        "image": (Feature((None, None, 1), "uint8"), lambda path: _picture(path)[0].copy()),
        "inverted": (Feature((), "uint8"), lambda path: np.array(_picture(path)[1], np.uint8)),
    }
    notes = {"1.1.0": f"{text_lines.RELEASE_NOTE}; {images.RELEASE_NOTE}"}
    return _spec(name, path, PICTURES, readers, notes, **options)


def recordings(
    path: str,
    *,
    name: str = "recordings",
    held_out: float = 0.1,
    rate: int = 16_000,
    bins: int = 80,
    damaged: str = "stop",
    suffix: str = "",
    channel: str = audio.MEAN,
) -> DatasetSpec:
    """Returns a user's wav files as a data set.

    Its features are `frames`, `text` and `file`.

    Args:
        path: Path of a folder or a list, below the data root or absolute; see the module docstring.
        name: Name of the data set, to which the rate and the channel are appended because records
            are stored by name.
        held_out: Share of files for validation, and again for test, where the user has no splits.
        rate: Samples per second; recordings at another rate are resampled.
        bins: Number of bands of the mel scale, which the rate limits: 95 at 8000, 126 at 16000.
        damaged: `stop` at the first recording that is unreadable or has no text, and at the first
            text that is empty or has no recording; or `skip` these, and report and count them.
        suffix: What follows the name of the text in the name of its recording, as for `pictures`.
        channel: The channel that is read: `left`, `right` or its number from 0; `mean` averages
            all, of which a warning says where it makes a recording much quieter.

    Raises:
        ValueError: If an option lies outside its range.
    """
    try:
        audio.check_bins(rate, bins)
        number = audio.channel_number(channel)
    except ValueError as error:
        raise ValueError(f"{name}:{path}: {error}") from None
    read = functools.partial(
        audio.read_frames, rate=rate, bins=bins, channel=number, warnings=audio.notices()
    )
    readers: Readers = {"frames": (Feature((None, bins), "float32"), read)}
    name = f"{name}_{rate}_hz" + ("" if number is None else f"_channel_{number}")
    options = {"held_out": held_out, "damaged": damaged, "suffix": suffix}
    return _spec(name, path, RECORDINGS, readers, {"1.1.0": text_lines.RELEASE_NOTE}, **options)


def _picture(path: Path) -> tuple[np.ndarray, bool]:
    status = path.stat()
    return _picture_once(path, status.st_size, status.st_mtime_ns)


@functools.lru_cache(maxsize=16)
def _picture_once(path: Path, *stamp: int) -> tuple[np.ndarray, bool]:
    """Reads a picture once for the two features that it has."""
    del stamp
    return with_polarity(read_grey(path))


def _spec(
    name: str,
    path: str,
    kind: Kind,
    readers: Readers,
    notes: Mapping[str, str],
    *,
    held_out: float,
    damaged: str,
    suffix: str,
) -> DatasetSpec:
    if not path or not 0 <= held_out < 0.5:
        raise ValueError(
            f"{name}: needs the path of a folder or a list and held_out in [0, 0.5), got "
            f"{path!r} and {held_out}"
        )
    if suffix and (not suffix.startswith(".") or not kind.takes(Path(f"a{suffix}"))):
        raise ValueError(
            f"{name}: suffix begins with a dot and ends in one of {shortened(kind.suffixes)}, such "
            f"as .bin{kind.suffixes[0]}, got {suffix!r}"
        )
    skip = Problems(damaged, _NOUN).choice == "skip"

    def find(root: Path, split: str, problems: Problems) -> list[Line]:
        return find_lines(
            root, split, path=path, kind=kind, held_out=held_out, suffix=suffix, problems=problems
        )

    def files(root: Path, split: str) -> list[Path]:
        lines = find(root, split, Problems(damaged, _NOUN))
        return list(dict.fromkeys(file for line in lines for file in (line.path, line.source)))

    def read_all(root: Path, split: str) -> Columns:
        problems = Problems(damaged, _NOUN)
        lines = find(root, split, problems)
        if skip:
            # The number of examples must be known before the first one is requested.
            lines = [line for line in lines if _is_readable(line, readers, problems)]
        problems.finish(f"{split!r} of {root / Path(path).expanduser()}", len(lines))
        return {
            **{
                key: from_files(lines, functools.partial(_read, read, remedy=True))
                for key, (_, read) in readers.items()
            },
            "text": [np.frombuffer(line.text.encode(), np.uint8) for line in lines],
            "file": [np.frombuffer(line.where.encode(), np.uint8) for line in lines],
        }

    # Prepared records are stored by name, so that another choice of examples needs another name.
    chosen = {k: v for k, v in (("damaged", damaged), ("suffix", suffix)) if v not in ("", "stop")}
    return DatasetSpec(
        name=f"{name}_{json_digest(chosen)[:8]}" if chosen else name,
        version=max(notes),
        features={
            **{key: feature for key, (feature, _) in readers.items()},
            "text": TEXT,
            "file": TEXT,
        },
        splits=dict.fromkeys(SPLITS),
        files=files,
        read=read_all,
        description=f"Lines of {path}.",
        read_file=lambda file: {key: _read(read, file) for key, (_, read) in readers.items()},
        release_notes=notes,
    )


def _read(read: Callable[[Path], np.ndarray], file: Path, *, remedy: bool = False) -> np.ndarray:
    """Reads a feature of a file; an error names the remedy that a data set has, if it has one."""
    try:
        if file.is_file() and not file.stat().st_size:
            raise ValueError(f"{file} is empty, it has no bytes")
        return read(file)
    except ValueError as error:
        if not remedy:
            raise
        raise ValueError(f"{error}; {REMEDY}") from error


def _is_readable(line: Line, readers: Readers, problems: Problems) -> bool:
    try:
        for _, read in readers.values():
            _read(read, line.path)
    except (OSError, ValueError) as error:
        problems.meet(f"{line.where}: {error}")
        return False
    return True


def find_lines(
    root: Path,
    split: str,
    *,
    path: str,
    kind: Kind,
    problems: Problems,
    held_out: float = 0.1,
    suffix: str = "",
) -> list[Line]:
    """Returns the lines of a split.

    Args:
        root: Data root.
        split: `train`, `validation` or `test`.
        path: Path of a folder or a list, below the data root or absolute; see the module docstring.
        kind: Kind of the files.
        problems: Handling of files without a text, of texts without a file and of empty texts.
        held_out: Share of files for validation, and again for test, where the user has no splits.
        suffix: What follows the name of the text in the name of its file; see `pictures`.

    Returns:
        Lines in alphabetical order of their files, or in the order of the list.

    Raises:
        FileNotFoundError: There is no such folder or list, or it has splits but lacks this one.
        ValueError: A file has no text or a text no file, a text is empty or not UTF-8, a line of a
            list does not have exactly one tab, or the split has no line. The message names the file
            and its line.
    """
    whole = root / Path(path).expanduser()
    if not whole.exists():
        raise FileNotFoundError(
            f"{whole} is no folder and no list of lines; name the folder above with --data_dir or "
            f"the environment variable {roots.ENVIRONMENT}, or write an absolute path"
        )
    if whole.is_dir() and (source := _divided(whole, split)) is not None:
        found = _found(source, kind, suffix)
        for _, problem in found.problems:
            problems.meet(problem)
        return list(found.lines)
    found = _found(whole, kind, suffix)
    for name, problem in found.problems:
        # Each is reported with one split, but stops all of them: it may be an example of any.
        if problems.choice == "stop" or split_of(name, held_out) == split:
            problems.meet(problem)
    selected = [line for line in found.lines if split_of(line.name, held_out) == split]
    if found.lines and not selected:
        raise ValueError(
            f"none of the {len(found.lines):,} lines of {whole} belongs to {split!r}; a larger "
            "held_out= at the end of the data set's name gives it some, --config.data.validation= "
            "goes without one"
        )
    return selected


def _divided(folder: Path, split: str) -> Path | None:
    """Returns the folder or list of a split; None if the folder is not divided into splits."""
    divided = [folder / other for name in SPLITS for other in (name, f"{name}.tsv")]
    if not any(other.exists() for other in divided):
        return None
    sources = [other for other in (folder / split, folder / f"{split}.tsv") if other.exists()]
    if len(sources) == 1:
        return sources[0]
    held, hint = "both" if sources else "neither", ""
    if not sources and split == "validation":
        others = (f"{name}{end}" for name in ("dev", "valid", "val") for end in ("", ".tsv"))
        there = [name for name in others if (folder / name).exists()]
        hint = f": call {there[0]} validation{Path(there[0]).suffix}" if there else hint
    raise FileNotFoundError(
        f"{folder} is divided into splits and holds {held} of {split} and {split}.tsv{hint}"
    )


def _found(path: Path, kind: Kind, suffix: str) -> Found:
    if path.is_dir():
        return read_folder(path, kind, suffix)
    if suffix:
        raise ValueError(f"suffix={suffix} chooses among the files of a folder, {path} is a list")
    return read_list(path, kind)
