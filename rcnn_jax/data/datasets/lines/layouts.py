"""Layouts of other programs and corpora: recognised, so that a message names the way out."""

import collections
import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

from rcnn_jax.data.datasets.lines.found import Kind, is_there

_HEAD = 4096  # number of bytes at the beginning of a file by which it is recognised
_LOOKED_AT = 50  # number of files of one suffix that are looked into
_TABLE = (
    "write its columns of files and texts with tabs and without a header, in pandas by "
    'to_csv("list.tsv", sep="\\t", header=False, index=False), and name it as {prefix}:list.tsv'
)
_EXPORTED = "write its entries into files, and then {way_out}"
_LIST = "{way_out}"
_BOXES = r"\A[^\t\n]+\t\"?\[\{\"+transcription"


@dataclasses.dataclass(frozen=True)
class _Layout:
    """A kind of file that is no list of this package.

    Attributes:
        what: What the file is, for messages.
        name: Pattern of its whole name in lower case.
        head: Pattern that its first bytes contain.
        way: The way out; {way_out} and {prefix} are those of the kind of files.
    """

    what: str
    name: str
    head: str = ""
    way: str = _LIST


_LAYOUTS = tuple(
    _Layout(*fields)
    for fields in (
        ("an LMDB database", r".*\.(mdb|lmdb)", "", _EXPORTED),
        ("a transcript of LibriSpeech with a line 'ID TEXT' a recording", r".*\.trans\.txt"),
        ("the list of a Kaldi folder, with a line 'ID PATH' a recording", r"wav\.scp"),
        ("a file of a Kaldi folder, with a line 'ID TEXT' a recording", r"text|utt2spk|segments"),
        ("a table of Common Voice with a header", r".*\.tsv", r"\Aclient_id\t", _TABLE),
        ("a list of PaddleOCR with boxes, as JSON behind the tab", r".*", _BOXES),
        (
            "a list of IAM with fields between blanks", r".*\.txt",
            r"\A(#[^\n]*\n)*[a-z]\d\d-\S+ (ok|er|err) -?\d+ ",
        ),
        ("a table with bars, as LJSpeech's", r".*\.csv", r"\A[^\t\n|]+\|[^\t\n]*(\n|\Z)", _TABLE),
        ("metadata of Hugging Face as JSON lines", r"metadata\.jsonl"),
        ("metadata of Hugging Face as a csv table", r"metadata\.csv", "", _TABLE),
        ("JSON lines", r".*\.(jsonl|ndjson)"),
        ("JSON", r".*\.json"),
        ("ALTO, the layout of a whole page", r".*\.xml", r"<(\w+:)?alto\b", "{page}"),
        ("PAGE XML, the layout of a whole page", r".*\.xml", r"<(\w+:)?PcGts\b", "{page}"),
        ("hOCR, the layout of a whole page", r".*\.(hocr|x?html?)", r"ocr(x_word|_page)", "{page}"),
        ("XML", r".*\.xml"),
        ("a Parquet file", r".*\.parquet", "", _EXPORTED),
        ("an Arrow file of Hugging Face", r".*\.arrow", "", _EXPORTED),
        ("records of TensorFlow", r".*\.(tfrecords?|array_record)(-.*)?", "", _EXPORTED),
        ("an archive", r".*\.(zip|tar|tgz|tar\.\w+|gz|7z|rar)", "", "unpack it first"),
        ("arrays", r".*\.(npz|npy|mat|h5|hdf5)", "", _EXPORTED),
        ("a pickle of Python", r".*\.(pkl|pickle|pt|pth)", "", _EXPORTED),
        ("a spreadsheet", r".*\.(xlsx?|ods)", "", "save it as text with tabs, without a header"),
        ("a csv table", r".*\.csv", "", _TABLE),
    )
)  # fmt: skip
# Tables of any name, of which a folder of texts has too many to be one.
_TABLES = tuple(
    _Layout(what, r".*", rf'\A"?[\w./\\-]+"?{mark}[^\t\n]*(\n|\Z)', _TABLE)
    for what, mark in (
        ("a table with commas", ","),
        ("a table with semicolons", ";"),
        ("a table with bars", r"\|"),
    )
)  # fmt: skip
_PAGE = "cut the page into lines, by a program such as kraken or eScriptorium, and then {way_out}"


def of_file(path: Path, kind: Kind) -> str | None:
    """Says what a file is that was named as a list and is none.

    Args:
        path: Path of the file.
        kind: Kind of the files that have texts.

    Returns:
        A clause such as "it is a csv table: write its columns ...", or None if the file is
        not recognised.
    """
    if kind.takes(path):
        return f"it is one of the {kind.noun} itself: {kind.way_out}"
    found = _recognised([path], (*_LAYOUTS, *_TABLES), kind)
    return None if found is None else f"it is {found[1].what}: {found[2]}"


def of_folder(folder: Path, files: Sequence[Path], kind: Kind, *, empty: bool) -> str | None:
    """Says what a folder without any pair of a file and a text holds instead.

    Args:
        folder: The folder.
        files: Its files, and those of its subfolders.
        kind: Kind of the files that have texts.
        empty: Whether the folder holds neither texts nor files of the kind.

    Returns:
        A sentence without a full stop, or None if only the texts or only their files are missing.
    """
    for path in [*_few_of_each_suffix(files), *_lists_above(folder)]:
        if _is_list(path, folder):
            return (
                f"{folder} has no text beside any of its {kind.noun}, but {path} is a list of "
                f"files and texts: name it as {kind.prefix}:{path}"
            )
    found = _recognised(files, _LAYOUTS, kind)
    if found is not None:
        path, layout, way = found
        return (
            f"{folder} holds no {kind.noun} with texts: {path} is {layout.what}, which is not "
            f"read: {way}{_unread(files, kind)}"
        )
    theirs = {path.stem: path for path in files if kind.takes(path)}
    for path in files:
        other = theirs.get(re.sub(r"(\.gt)?\.txt$", "", path.name, flags=re.IGNORECASE))
        if other is not None and other != path and path.parent != other.parent:
            return (
                f"{folder} has its texts in another folder than its {kind.noun}, as {path} and "
                f"{other}: put each text beside its file, or {kind.way_out}"
            )
    if not empty:
        return None
    return f"{folder} holds no {kind.noun} with texts: {_content(files, kind)}"


def has_boxes(path: Path) -> bool:
    """Returns whether a list has JSON with boxes behind its tabs, as PaddleOCR's for detection.

    Args:
        path: Path of the list.
    """
    return re.search(_BOXES, _head(path)) is not None


def of_missing(name: str, path: Path, where: str, text: str, kind: Kind) -> str:
    """Returns a clause about a file that a list names and that does not exist.

    Args:
        name: Name of the file in the list.
        path: Path of the list.
        where: Location of the line, `path:number`.
        text: Text of the line.
        kind: Kind of the files that have texts.

    Returns:
        The end of a sentence that begins with the missing file; "" if nothing is known.
    """
    for suffix in kind.suffixes:
        if is_there(path.parent / f"{name}{suffix}"):
            return f", but {name}{suffix}: files are named with their suffix"
    for folder in list(path.parent.parents)[:3]:
        if is_there(folder / name):
            return (
                f", but {folder / name}: files are named from the folder of the list, so that the "
                f"list belongs into {folder}"
            )
    for folder in sorted(each for each in path.parent.glob("*") if each.is_dir())[:_LOOKED_AT]:
        if is_there(folder / name):
            return f", but {folder.name}/{name}: files are named from the folder of the list"
    if "\\" in name and is_there(path.parent / name.replace("\\", "/")):
        return ": folders are separated by /"
    if is_there(path.parent / text):
        return ": the file stands in the second column, and belongs into the first"
    if where.endswith(":1") and not Path(name).suffix:
        return ": is line 1 a header? a list has none"
    return ""


def refuse_sample_numbers(path: Path, text: str, kind: Kind) -> None:
    """Raises an error for a text of TIMIT, which begins with the numbers of two samples.

    Args:
        path: File of the text.
        text: The text.
        kind: Kind of the files that have texts.

    Raises:
        ValueError: If it is one.
    """
    ends = (".PHN", ".phn", ".WRD", ".wrd")
    if re.match(r"0 \d+ \S", text) and any(path.with_suffix(end).is_file() for end in ends):
        raise ValueError(
            f"{path} is a text of TIMIT, which begins with the numbers of its first and last "
            f"sample: {kind.way_out}"
        )


def _recognised(
    files: Sequence[Path], layouts: Sequence[_Layout], kind: Kind
) -> tuple[Path, _Layout, str] | None:
    """Returns the first file of the first layout that is found, and the way out."""
    few = _few_of_each_suffix(files)
    heads = dict.fromkeys(few, "")
    for layout in layouts:
        for path in few if layout.head else files:
            if not re.fullmatch(layout.name, path.name.lower()):
                continue
            if layout.head:
                heads[path] = heads[path] or _head(path)
            if not layout.head or re.search(layout.head, heads[path]):
                page = _PAGE.format(way_out=kind.way_out)
                way = layout.way.format(way_out=kind.way_out, prefix=kind.prefix, page=page)
                return path, layout, way
    return None


def _lists_above(folder: Path) -> list[Path]:
    """Returns the files beside a folder, among which lists of it may be."""
    return _few_of_each_suffix([path for path in sorted(folder.parent.glob("*")) if path.is_file()])


def _head(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_HEAD).decode("utf-8-sig", errors="replace").replace("\r\n", "\n")
    except OSError:
        return ""


def _is_list(path: Path, folder: Path) -> bool:
    """Returns whether a file is a list of files, of which one of the first is below a folder."""
    if path.suffix.lower() not in (".txt", ".tsv", ".lst", ".list", ""):
        return False
    lines = [] if has_boxes(path) else _head(path).split("\n")[:3]
    rows = [line.partition("\t") for line in lines if line.count("\t") == 1]
    files = [path.parent / name.strip('" ') for name, _, text in rows if name.strip() and text]
    return any(is_there(file) and file.is_relative_to(folder) for file in files)


def _few_of_each_suffix(files: Sequence[Path], number: int = _LOOKED_AT) -> list[Path]:
    seen: collections.Counter[str] = collections.Counter()
    few = []
    for path in files:
        seen[path.suffix.lower()] += 1
        if seen[path.suffix.lower()] <= number:
            few.append(path)
    return few


def _content(files: Sequence[Path], kind: Kind) -> str:
    """Returns how many files of which suffix there are, and why the most frequent is not read."""
    if not files:
        return f"it is empty; {kind.way_out}"
    counts = collections.Counter(path.suffix.lower() or path.name for path in files)
    frequent = counts.most_common(4)
    said = ", ".join(f"{number:,} {suffix}" for suffix, number in frequent)
    rest = len(files) - sum(number for _, number in frequent)
    said += f" and {rest:,} others" if rest else ""
    return f"in it are {said}{_unread(files, kind) or f'; {kind.way_out}'}"


def _unread(files: Sequence[Path], kind: Kind) -> str:
    """Returns why the files that could be of the kind are not read, as the end of a sentence."""
    reasons = (kind.why_not_read(path) for path in _few_of_each_suffix(files, 1))
    return next((f"; {reason}" for reason in reasons if reason), "")
