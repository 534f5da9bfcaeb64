"""A user's lines: pictures or recordings, with a text for each.

`lines:PATH` is a data set of pictures and `recordings:PATH` one of wav files. PATH, below the data
root or absolute, is one of

- a folder with a text file for each: `page1/a.png` beside `page1/a.txt` or `page1/a.gt.txt`;
- a list with one line for each: the file, a tab, its text. The file is relative to the list's
  folder.

A folder that holds subfolders `train`, `validation` and `test`, or lists `train.tsv` and so on, is
split accordingly. Otherwise a hash of each file's name determines its split: about 80 % are for
training, 10 % for validation and 10 % for test, and a file stays in its split when others are
added.

Pictures may show dark ink on bright paper or bright ink on dark, at any exposure. The encoder
decides once, by the majority of the training split, what they show, and treats every picture of the
run alike; `--config.encoder.polarity=dark_ink`, `bright_ink` or, for a data set that mixes both,
`each` decide otherwise. It needs the feature `inverted`: if `config.data.features` leaves it out,
each picture is taken by its own evidence. `rcnn_jax.data.files.images` says which files are read.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from rcnn_jax.data import roots
from rcnn_jax.data.columns import from_files
from rcnn_jax.data.files import images
from rcnn_jax.data.files.audio import SUFFIX, read_frames
from rcnn_jax.data.files.line_images import read_grey, with_polarity
from rcnn_jax.data.files.text_lines import decode, numbered_lines
from rcnn_jax.data.spec import Columns, DatasetSpec, Feature
from rcnn_jax.data.splits import SPLITS, split_of
from rcnn_jax.data.text.sentences import TEXT

_TEXTS = (".gt.txt", ".txt")


@dataclasses.dataclass(frozen=True)
class Line:
    """A file and its text.

    Attributes:
        path: Path of the picture or recording.
        text: Text without white space at its ends.
        source: File that holds the text.
        where: Location of the text for messages: the file, and the line of a list.
        name: Name that determines the split where the user has not.
    """

    path: Path
    text: str
    source: Path
    where: str
    name: str


def pictures(path: str, *, name: str = "lines", held_out: float = 0.1) -> DatasetSpec:
    """Returns a user's pictures of lines as a data set.

    Its features are `image`, bright ink on dark by the evidence of each picture, `inverted`,
    whether the grey values of its file were inverted for that, `text` and `file`. The encoder
    `Transcripts` takes both to decide once for the whole data set what is ink.

    Args:
        path: Path of a folder or a list, below the data root or absolute; see the module docstring.
        name: Name of the data set.
        held_out: Share of files for validation, and again for test, where the user has no splits.
    """
    readers = {
        "image": (Feature((None, None, 1), "uint8"), lambda path: _picture(path)[0].copy()),
        "inverted": (Feature((), "uint8"), lambda path: np.array(_picture(path)[1], np.uint8)),
    }
    return _spec(name, path, held_out, readers, images.SUFFIXES, {"1.1.0": images.RELEASE_NOTE})


def recordings(
    path: str,
    *,
    name: str = "recordings",
    held_out: float = 0.1,
    rate: int = 16_000,
    bins: int = 80,
) -> DatasetSpec:
    """Returns a user's wav files as a data set.

    Its features are `frames`, `text` and `file`.

    Args:
        path: Path of a folder or a list, below the data root or absolute; see the module docstring.
        name: Name of the data set, to which the rate is appended because records are stored by
            name.
        held_out: Share of files for validation, and again for test, where the user has no splits.
        rate: Samples per second; recordings at another rate are resampled.
        bins: Number of bands of the mel scale.
    """
    read = functools.partial(read_frames, rate=rate, bins=bins)
    readers = {"frames": (Feature((None, bins), "float32"), read)}
    name = f"{name}_{rate}_hz"
    return _spec(name, path, held_out, readers, (SUFFIX,), {})


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
    held_out: float,
    readers: Mapping[str, tuple[Feature, Callable[[Path], np.ndarray]]],
    suffixes: Sequence[str],
    notes: Mapping[str, str],
) -> DatasetSpec:
    if not path or not 0 <= held_out < 0.5:
        raise ValueError(
            f"{name}: needs the path of a folder or a list and held_out in [0, 0.5), got "
            f"{path!r} and {held_out}"
        )
    find = functools.partial(find_lines, path=path, suffixes=suffixes, held_out=held_out)

    return DatasetSpec(
        name=name,
        version=max(notes, default="1.0.0"),
        features={kind: feature for kind, (feature, _) in readers.items()}
        | {"text": TEXT, "file": TEXT},
        splits=dict.fromkeys(SPLITS),
        files=lambda root, split: list(
            dict.fromkeys(path for line in find(root, split) for path in (line.path, line.source))
        ),
        read=functools.partial(_columns, find, readers),
        description=f"Lines of {path}.",
        read_file=lambda file: {kind: read(file) for kind, (_, read) in readers.items()},
        release_notes=notes,
    )


def _columns(
    find: Callable[[Path, str], Sequence[Line]],
    readers: Mapping[str, tuple[Feature, Callable[[Path], np.ndarray]]],
    root: Path,
    split: str,
) -> Columns:
    lines = find(root, split)
    return {
        **{kind: from_files(lines, read) for kind, (_, read) in readers.items()},
        "text": [np.frombuffer(line.text.encode(), np.uint8) for line in lines],
        "file": [np.frombuffer(line.where.encode(), np.uint8) for line in lines],
    }


def find_lines(
    root: Path, split: str, *, path: str, suffixes: Sequence[str], held_out: float = 0.1
) -> list[Line]:
    """Returns the lines of a split.

    Args:
        root: Data root.
        split: `train`, `validation` or `test`.
        path: Path of a folder or a list, below the data root or absolute; see the module docstring.
        suffixes: Suffixes of pictures or recordings, in lower case.
        held_out: Share of files for validation, and again for test, where the user has no splits.

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
    if whole.is_dir():
        divided = [whole / other for name in SPLITS for other in (name, f"{name}.tsv")]
        if any(other.exists() for other in divided):
            sources = [other for other in (whole / split, whole / f"{split}.tsv") if other.exists()]
            if len(sources) != 1:
                held = "both" if sources else "neither"
                raise FileNotFoundError(
                    f"{whole} is divided into splits and holds {held} of {split} and {split}.tsv"
                )
            return _some(_lines(sources[0], suffixes), f"{sources[0]} holds no line")
    lines = _lines(whole, suffixes)
    selected = [line for line in lines if split_of(line.name, held_out) == split]
    return _some(selected, f"none of the {len(lines):,} lines of {whole} belongs to {split!r}")


def _some(lines: list[Line], otherwise: str) -> list[Line]:
    if not lines:
        raise ValueError(otherwise)
    return lines


def _lines(path: Path, suffixes: Sequence[str]) -> list[Line]:
    return _from_folder(path, suffixes) if path.is_dir() else _from_list(path)


def _from_folder(folder: Path, suffixes: Sequence[str]) -> list[Line]:
    texts: dict[Path, Path] = {}
    files = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.name.startswith("."):
            continue
        end = next((end for end in _TEXTS if path.name.endswith(end)), None)
        if end is not None:
            stem = path.with_name(path.name.removesuffix(end))
            if stem in texts:
                raise ValueError(f"{path} and {texts[stem]} are texts of the same file")
            texts[stem] = path
        elif path.suffix.lower() in suffixes:
            files.append(path)
    lines = []
    for path in files:
        stem = path.with_suffix("")
        if stem not in texts:
            raise ValueError(f"{path} has no text: {stem.name}.txt is missing beside it")
        where = str(texts[stem])
        text = _not_empty(decode(texts[stem].read_bytes(), where), where)
        if len(text.splitlines()) > 1:
            raise ValueError(f"{where}:2: the text of one line was expected")
        lines.append(Line(path, text, texts[stem], where, stem.relative_to(folder).as_posix()))
    alone = sorted(set(texts) - {path.with_suffix("") for path in files})
    if alone:
        raise ValueError(
            f"{texts[alone[0]]} has no file: {alone[0].name} with one of the ends "
            f"{', '.join(suffixes)} is missing beside it"
        )
    return lines


def _from_list(path: Path) -> list[Line]:
    lines = []
    for where, line in numbered_lines(path):
        tabs = line.count("\t")
        if tabs != 1:
            raise ValueError(f"{where}: one tab between file and text was expected, got {tabs}")
        name, text = (_not_empty(part, where) for part in line.split("\t"))
        file = path.parent / name
        if not file.is_file():
            raise ValueError(f"{where}: there is no file {file}")
        lines.append(Line(file, text, path, where, Path(name).with_suffix("").as_posix()))
    return lines


def _not_empty(text: str, where: str) -> str:
    if not text.strip():
        raise ValueError(f"{where}: the text is empty")
    return text.strip()
