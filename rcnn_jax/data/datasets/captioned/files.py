"""Readers of pictures with captions, in the established file formats.

| name of the data set | content of the path |
|---|---|
| `captioned:PATH` | A list with one line for each caption: a picture, a tab, the caption; several lines a picture; with or without the quotation marks of csv, see `rcnn_jax.data.files.text_lines.tab_separated`. Or a folder with `captions.tsv`, or with `train.tsv`, `validation.tsv` and `test.tsv`. |
| `karpathy:FILE` | `dataset.json` of Karpathy's distribution of Flickr8k, Flickr30k and COCO, already tokenised; its splits, with `val` renamed to `validation`, and `restval`. |
| `coco_captions:FILE` | `captions_*.json` of COCO; the options `validation` and `test` name further such files. |
| `flickr8k:FOLDER` | `Flickr8k.token.txt` and `Flickr_8k.trainImages.txt`, `dev` and `test`; or one file in the format of the first, as Flickr30k has it. |

Pictures without given splits are split by a hash of their names; see
`rcnn_jax.data.splits.split_of`. Options follow the path, as in
`karpathy:coco/dataset.json?features=vgg_feats.mat&damaged=skip`: they are the attributes of
`pictures.Options` in this folder. Pictures are searched for below the folder of the list, those of
COCO beside the folder `annotations`, and files that options name beside the list. The vectors of a
features file belong to the pictures that an array of names or numbers in it names, whatever it is
called; without one they belong to the `imgid` of the list, or, with the option `by=position`, to
the pictures in the order of the list; see `vectors` in this folder. Words are
separated by white space once punctuation is removed: captions in scripts without spaces must be
segmented beforehand.
"""  # noqa: E501 - a table has long lines

import functools
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from rcnn_jax.data import roots
from rcnn_jax.data.datasets.captioned import json_lists, layouts
from rcnn_jax.data.datasets.captioned.json_lists import list_of, value_of
from rcnn_jax.data.datasets.captioned.listing import Captioned, Listing
from rcnn_jax.data.datasets.captioned.pictures import Options, spec
from rcnn_jax.data.files.text_lines import numbered_lines, tab_separated
from rcnn_jax.data.spec import DatasetSpec
from rcnn_jax.data.splits import SPLITS

_KARPATHY_SPLITS = {"train": "train", "val": "validation", "test": "test", "restval": "restval"}
_OPTIONS = Options()
_TOKENS = "Flickr8k.token.txt"
_FLICKR_LISTS = {"train": "train", "validation": "dev", "test": "test"}


def captioned(path: str, options: Options = _OPTIONS) -> DatasetSpec:
    """Returns the data set of a user's pictures and captions.

    Args:
        path: Path of a list or a folder, below the data root or absolute; see the module docstring.
        options: What is read of the pictures.
    """
    return spec("captioned", path, _listed(_captioned), options, splits=SPLITS)


def karpathy(path: str, options: Options = _OPTIONS) -> DatasetSpec:
    """Returns the data set of a `dataset.json` of Karpathy's distribution.

    In a features file without names, the row of a picture is its `imgid`, so that a part of a list
    goes with the features of the whole one.

    Args:
        path: Path of the file, below the data root or absolute.
        options: What is read of the pictures.
    """
    splits = tuple(_KARPATHY_SPLITS.values())
    return spec("karpathy", path, _listed(_karpathy), options, splits=splits)


def coco_captions(
    path: str, options: Options = _OPTIONS, *, validation: str = "", test: str = ""
) -> DatasetSpec:
    """Returns the data set of COCO's `captions_*.json`.

    Args:
        path: Path of the file, below the data root or absolute. If another file is given, this one
            is the whole training split.
        options: What is read of the pictures.
        validation: File of the validation split, relative to the folder of the first; "" for none.
        test: File of the test split, relative to the folder of the first; "" for none.
    """
    others = [name for name in (validation, test) if name]
    listed = _listed(_coco, validation, test)
    return spec("coco_captions", path, listed, options, splits=SPLITS, read_as=others)


def flickr8k(path: str, options: Options = _OPTIONS) -> DatasetSpec:
    """Returns the data set of Flickr8k as its authors distribute it.

    Args:
        path: Path of the folder or of one token file, below the data root or absolute; see the
            module docstring.
        options: What is read of the pictures.
    """
    return spec("flickr8k", path, _listed(_flickr8k), options, splits=SPLITS)


def _listed(read: Callable[..., Listing], *arguments: str) -> Callable[[Path], Listing]:
    """Returns a reader of a list that caches it until a file changes: COCO's exceed 100 MB."""

    @functools.lru_cache(1)
    def cached(path: Path, stamp: object) -> Listing:
        del stamp
        return read(path, *arguments)

    def listed(path: Path) -> Listing:
        if not path.exists():
            raise FileNotFoundError(
                f"there is no {path} with captions; name the folder above with --data_dir or the "
                f"environment variable {roots.ENVIRONMENT}, or write an absolute path"
            )
        files = [path]
        if path.is_dir():
            files += sorted([*path.glob("*.tsv"), *path.glob("**/*.txt")])
        files += [path.parent / name for name in arguments if name]
        stats = [(f.name, f.stat().st_size, f.stat().st_mtime_ns) for f in files if f.exists()]
        return cached(path, tuple(stats))

    return listed


class _Pictures:
    """Collects captions of pictures, and descriptions of what is wrong with them."""

    def __init__(self) -> None:
        self.sentences: dict[Any, list[str]] = {}
        self.problems: list[str] = []

    def add(self, key: Any, sentence: str, where: str) -> None:
        """Adds a caption; one without a letter or digit is recorded as a problem."""
        text = " ".join(unicodedata.normalize("NFC", sentence).split())
        if not any(character.isalnum() for character in text):
            self.problems.append(f"{where}: the caption {text!r} is empty")
        else:
            self.sentences.setdefault(key, []).append(text)

    def take(self, key: Any, where: str, file: str) -> tuple[str, ...]:
        """Removes and returns the captions of a picture; having none is recorded as a problem."""
        sentences = self.sentences.pop(key, [])
        if not sentences:
            self.problems.append(f"{where}: the picture {file} has no caption")
        return tuple(sentences)


def _captioned(path: Path) -> Listing:
    """Reads a list of captions, or a folder with one or several of them."""
    whole = path / "captions.tsv"
    lists: Mapping[str | None, Path] = {None: path}
    if path.is_dir():
        lists = {split: path / f"{split}.tsv" for split in SPLITS}
        lists = {split: file for split, file in lists.items() if file.is_file()}
        if bool(lists) == whole.is_file():
            what = "" if lists else layouts.of_folder(path)
            raise FileNotFoundError(
                f"{path} holds {'both' if lists else 'neither'} captions.tsv and lists of splits "
                f"({', '.join(f'{split}.tsv' for split in SPLITS)}): one of them is needed"
                + (f"; {what}" if what else "")
            )
        lists = lists or {None: whole}
    gathered, pictures, named = _Pictures(), [], {}
    for split, file in lists.items():
        for where, (name, sentence) in _pairs(file):
            if named.setdefault(name, (split, where))[0] != split:
                raise ValueError(f"{where}: {name} belongs to the split {named[name][0]!r} as well")
            gathered.add(name, sentence, where)
    for place, (name, (split, where)) in enumerate(named.items()):
        if sentences := gathered.take(name, where, name):
            pictures.append(Captioned(name, sentences, where, split, place=place))
    files = tuple(lists.values())
    base = files[0].parent
    return Listing(
        pictures, gathered.problems, files, base, base, len(named), complete=path.is_dir()
    )


def _pairs(path: Path) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yields the pictures and captions of a list with their locations for messages."""
    rows = tab_separated(path)
    if not rows:
        raise ValueError(f"{path} holds no line")
    for number, (where, fields) in enumerate(rows, 1):
        name, sentence, *rest = (*fields, "", "")
        name = name.strip()
        if len(fields) < 2 or not name or "".join(rest).strip():
            what = _what_else(path)
            raise ValueError(f"{where}: one tab between picture and caption was expected{what}")
        if what := layouts.of_row(name, sentence, number):
            raise ValueError(f"{where}: {what}")
        yield where, (name, sentence)


def _karpathy(path: Path) -> Listing:
    """Reads a `dataset.json`."""
    gathered, pictures = _Pictures(), []
    content = json_lists.read(path)
    if not any("sentences" in image for image in json_lists.objects(content, "images")):
        json_lists.refuse(content, path)
    images = list_of(content, "images", str(path))
    for index, image in enumerate(images):
        where = f"{path}: image {index}"
        file = value_of(image, "filename", str, where)
        where = f"{where} ({file})"
        split = image.get("split")
        if split is not None and split not in _KARPATHY_SPLITS:
            raise ValueError(
                f"{where}: split is one of {', '.join(_KARPATHY_SPLITS)}, got {split!r}"
            )
        for sentence in list_of(image, "sentences", where):
            if isinstance(sentence, dict) and "tokens" in sentence:
                text = " ".join(map(str, list_of(sentence, "tokens", where)))
            else:
                text = value_of(sentence, "raw", str, where)
            gathered.add(index, text, where)
        if sentences := gathered.take(index, where, file):
            split = None if split is None else _KARPATHY_SPLITS[split]
            folder = str(image.get("filepath", ""))
            pictures.append(Captioned(file, sentences, where, split, folder, index, _ids(image)))
    return Listing(pictures, gathered.problems, (path,), path.parent, path.parent, len(images))


def _ids(image: Mapping[str, Any]) -> dict[str, int]:
    """Returns the numbers by which a `dataset.json` knows a picture, where it has them."""
    numbers = {key: image.get(key) for key in ("imgid", "cocoid", "id")}
    return {key: number for key, number in numbers.items() if type(number) is int}


def _coco(path: Path, validation: str, test: str) -> Listing:
    """Reads one file of COCO captions for each split."""
    others = {"validation": validation, "test": test}
    files = {split: path.parent / name for split, name in others.items() if name}
    files = {"train" if files else None: path, **files}
    gathered, pictures, rows = _Pictures(), [], 0
    for split, file in files.items():
        content = json_lists.read(file)
        if not any(
            "caption" in annotation for annotation in json_lists.objects(content, "annotations")
        ):
            json_lists.refuse(content, file)
        images = {}
        for index, image in enumerate(list_of(content, "images", str(file))):
            where = f"{file}: image {index}"
            key = value_of(image, "id", int, where)
            if key in images:
                raise ValueError(f"{where} has the id {key} of another")
            images[key] = value_of(image, "file_name", str, where)
        for index, annotation in enumerate(list_of(content, "annotations", str(file))):
            where = f"{file}: annotation {index}"
            image = value_of(annotation, "image_id", int, where)
            caption = value_of(annotation, "caption", str, where)
            if image in images:
                gathered.add((split, image), caption, where)
            else:
                gathered.problems.append(f"{where}: there is no image {image}")
        for image, name in images.items():
            where = f"{file}: image {image} ({name})"
            if sentences := gathered.take((split, image), where, name):
                pictures.append(
                    Captioned(name, sentences, where, split, place=rows, ids={"id": image})
                )
            rows += 1
    folder = path.parent.parent if path.parent.name == "annotations" else path.parent
    return Listing(pictures, gathered.problems, tuple(files.values()), path.parent, folder, rows)


def _flickr8k(path: Path) -> Listing:
    """Reads a token file and, in a folder, the lists of the splits."""
    folder, tokens = path.parent, path
    if path.is_dir():
        folder = path
        places = [path / _TOKENS, path / "Flickr8k_text" / _TOKENS]
        try:
            token_files = roots.find_files(
                "flickr8k", [place.parent for place in places], [[_TOKENS]],
                "the authors' page of Flickr8k",
            )  # fmt: skip
        except FileNotFoundError as error:
            what = layouts.of_folder(path)
            raise FileNotFoundError(f"{error}{f'; {what}' if what else ''}") from None
        tokens = token_files[0]
    gathered, first = _Pictures(), {}
    for where, line in _lines(tokens):
        name, tab, sentence = line.partition("\t")
        file, sign, number = name.strip().rpartition("#")
        if not tab or not sign or not number.isdigit():
            what = _what_else(tokens)
            raise ValueError(f"{where}: a line like 'name.jpg#0<TAB>caption' was expected{what}")
        first.setdefault(file, where)
        gathered.add(file, sentence, where)
    lists = {
        split: tokens.parent / f"Flickr_8k.{name}Images.txt"
        for split, name in _FLICKR_LISTS.items()
    }
    there = {split: file for split, file in lists.items() if path.is_dir() and file.is_file()}
    wanted = [(file, None, where) for file, where in first.items()]
    if there:
        wanted = [
            (line.strip(), split, where)
            for split, file in there.items()
            for where, line in _lines(file)
        ]
    places = {file: row for row, file in enumerate(first)}
    pictures = []
    for file, split, where in wanted:
        if sentences := gathered.take(file, where, file):
            pictures.append(Captioned(file, sentences, where, split, place=places[file]))
    files = (tokens, *there.values())
    return Listing(pictures, gathered.problems, files, folder, folder, len(first))


def _what_else(path: Path) -> str:
    """Returns what a list that is none looks like, as the end of a sentence."""
    what = layouts.of_lines(path, [line for _, line in _lines(path)[:2]])
    return f", but {what}" if what else ""


def _lines(path: Path) -> list[tuple[str, str]]:
    """Returns the lines that are not blank, with their locations for messages."""
    lines = [(where, line) for where, line in numbered_lines(path) if line.strip()]
    if not lines:
        raise ValueError(f"{path} holds no line")
    return lines
