"""Folders of pictures or recordings with a text file beside each, as OCR programs leave them."""

import collections
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rcnn_jax.data.datasets.lines import layouts
from rcnn_jax.data.datasets.lines.found import Found, Kind, Line, text_of
from rcnn_jax.data.files.text_lines import decode
from rcnn_jax.errors import shortened

_TRUTH, _PLAIN = ".gt.txt", ".txt"
# What OCRopus and its descendants put between the name and the suffix of a version of a picture.
_VERSIONS = frozenset({"bin", "nrm", "dew", "raw", "gray", "grey", "bw"})
_VERSION = re.compile(r"\.([A-Za-z]+)")
# Texts that stand beside lines but belong to none, such as the answers of Calamari.
_LEFTOVER = re.compile(r"(readme|licen[sc]e|copying).*|.*\.pred\.txt", re.IGNORECASE)


def _visible(folder: Path) -> tuple[list[Path], list[Path]]:
    """Returns the files of a folder in alphabetical order, and links that lead to none."""
    paths = [path for path in sorted(folder.rglob("*")) if not path.name.startswith(".")]
    files = [path for path in paths if path.is_file()]
    others = set(paths) - set(files)
    return files, sorted(path for path in others if path.is_symlink() and not path.exists())


def read_folder(folder: Path, kind: Kind, suffix: str = "") -> Found:
    """Pairs the files of a folder with their texts.

    A text `x.gt.txt`, or `x.txt`, belongs to the file `x.png`; otherwise to versions of it such as
    `x.bin.png`, where the part between is of letters. `.gt.txt` takes precedence over `.txt`, which
    is the output of a program then.

    Args:
        folder: The folder; its subfolders belong to it.
        kind: Kind of the files.
        suffix: What follows the name of the text in the name of its file, such as `.bin.png`, if
            only such files are read; "" for any.

    Returns:
        The lines. A problem is a file without a text, unless it is the page of a folder of lines,
        as `0001.bin.png` is beside `0001/`; a text without a file, unless it is a `README`, a
        licence, a `.pred.txt` or, beside others in lower case, in capitals; a text that is empty,
        not UTF-8 or longer than one line; and several files with one text, unless `suffix` chooses
        one of them.

    Raises:
        ValueError: If no file has a text and the folder has another layout, or it holds neither
            texts nor files; the message says what lies there instead.
    """
    files, dead = _visible(folder)
    texts, problems = _Texts(files, kind), []
    problems += [(_name(path, folder, kind), fault) for path, fault in texts.twice]
    groups: dict[Path, list[Path]] = collections.defaultdict(list)
    owners = {path: texts.owner(path) for path in files if kind.takes(path)}
    parents = {path.parent for path in files}
    for path, text in owners.items():
        if text is not None:
            groups[text].append(path)
    lines, beside = [], _Beside(files, dead, kind)
    for path, text in owners.items():
        stem = path.with_suffix("")
        if text is None:
            # The page 0001.bin.png lies beside the folder 0001 of its lines.
            of_lines = not parents.isdisjoint([stem, *_without_versions(stem)])
            if not of_lines and not _is_leftover(path, folder):
                fault = f"{path} has no text: {stem.name}.txt is missing beside it"
                problems.append((_name(path, folder, kind), fault + beside.of_file(stem)))
            continue
        group = groups[text]
        chosen = [other for other in group if _follows(other, text) == suffix.lower()]
        chosen = chosen if suffix else _preferred(group, kind)
        if path not in chosen:
            if not chosen and path == group[0]:
                fault = f"{text} has no file: {_stem(text).name}{suffix} is missing beside it"
                problems.append((_name(text, folder, kind), f"{fault}, {path.name} lies there"))
            continue
        if len(chosen) > 1:
            if path == chosen[0]:
                problems.append((_name(text, folder, kind), _several(text, chosen)))
            continue
        name, where = _name(text, folder, kind), str(text)
        try:
            lines.append(Line(path, _text(text), text, where, name))
        except ValueError as error:
            problems.append((name, str(error)))
        else:
            layouts.refuse_sample_numbers(text, lines[-1].text, kind)
    ends = {text.suffix for text in groups} | {".txt"}
    for text in texts.without(groups, owners):
        stem = _stem(text)
        there = beside.of_text(stem)
        # Among texts in lower case, NOTES.TXT is none of them.
        if _is_leftover(text, folder) or (text.suffix not in ends and not there):
            continue
        fault = (
            f"{text} has no file: {stem.name} with one of the ends {shortened(kind.suffixes)} is "
            "missing beside it"
        )
        problems.append((_name(text, folder, kind), fault + there))
    if not groups:
        # A folder of another layout would be taken for one in which all texts are missing.
        other = layouts.of_folder(folder, files, kind, empty=not problems)
        if other is not None:
            raise ValueError(other)
    return Found(lines, problems)


class _Texts:
    """The texts of a folder, by the names of the files that they belong to."""

    def __init__(self, files: Sequence[Path], kind: Kind) -> None:
        self.twice: list[tuple[Path, str]] = []
        self._tables: dict[str, dict[Path, Path]] = {_TRUTH: {}, _PLAIN: {}}
        for path in files:
            end = _end(path)
            if end:
                first = self._tables[end].setdefault(_stem(path), path)
                if first != path:  # they differ in capitals
                    self.twice.append((path, f"{first} and {path} are texts of the same file"))
        self._exact = {path.with_suffix("") for path in files if kind.takes(path)}

    def owner(self, path: Path) -> Path | None:
        """Returns the text of a file."""
        truths, plain = self._tables.values()
        stem = path.with_suffix("")
        if stem in truths:
            return truths[stem]
        shorter = list(_without_versions(stem))
        # What a program read in a version of a picture lies beside that version.
        of_program = [s for s in shorter if s in truths and s not in self._exact]
        if of_program and stem.suffix[1:].lower() in _VERSIONS:
            return truths[of_program[0]]
        if stem in plain:
            return plain[stem]
        found = (table[s] for table in (truths, plain) for s in shorter if s in table)
        return next(found, None)

    def without(
        self, groups: Mapping[Path, object], owners: Mapping[Path, Path | None]
    ) -> list[Path]:
        """Returns the texts without a file, except those for which a file has a better one."""
        truths, plain = self._tables.values()
        better = {path.with_suffix("") for path, text in owners.items() if text is not None}
        unused = [*truths.values(), *(p for s, p in plain.items() if s not in {*truths, *better})]
        return sorted(path for path in unused if path not in groups)


class _Beside:
    """What lies beside a file or text that lacks the other."""

    def __init__(self, files: Sequence[Path], dead: Sequence[Path], kind: Kind) -> None:
        self._kind, self._dead = kind, set(dead)
        self._others: dict[str, list[Path]] = collections.defaultdict(list)
        for path in (*dead, *files):
            for stem in (path.with_suffix(""), *_without_versions(path.with_suffix(""))):
                self._others[str(stem).lower()].append(path)

    def of_file(self, stem: Path) -> str:
        """Returns a clause about files that could have been the text, or ""."""
        there = [p for p in self._others[str(stem).lower()] if not self._kind.takes(p)]
        if not there:
            return ""
        name = _stem(there[0]).name
        differs = name != stem.name and name.lower() == stem.name.lower()
        why = ": names must agree in capitals, too" if differs else " and is not read"
        return f"; {there[0].name} lies there{why}"

    def of_text(self, stem: Path) -> str:
        """Returns a clause about files that could have been the picture or recording, or ""."""
        for path in self._others[str(stem).lower()]:
            if path in self._dead:
                return f"; {path.name} lies there: it is a link to a file that does not exist"
            if self._kind.takes(path):
                if path.with_suffix("") != stem and path.with_suffix("").parent == stem.parent:
                    return f"; {path.name} lies there: names must agree in capitals, too"
            elif not _end(path):
                why = self._kind.why_not_read(path)
                return f"; {path.name} lies there" + (f": {why}" if why else " and is not read")
        return ""


def _text(path: Path) -> str:
    content, where = path.read_bytes(), str(path)
    if not content:
        raise ValueError(f"{where}: the text is empty, the file has no bytes")
    text = text_of(decode(content, where), where)
    if len(text.splitlines()) > 1:
        raise ValueError(f"{where}:2: the text of one line was expected")
    return text


def _preferred(group: Sequence[Path], kind: Kind) -> list[Path]:
    first = [path for path in group if path.suffix.lower() in kind.first]
    return first or list(group)


def _several(text: Path, files: Sequence[Path]) -> str:
    names = [path.name for path in files[:3]]
    ends = " or ".join(f"suffix={_follows(path, text)}" for path in files[:3])
    return (
        f"{text} is the text of {' and '.join(names)}: {ends} at the end of the data set's name, "
        "behind a ? or &, chooses one of them"
    )


def _follows(path: Path, text: Path) -> str:
    """Returns what follows the name of a text in the name of its file, in lower case."""
    return path.name[len(_stem(text).name) :].lower()


def _end(path: Path) -> str:
    """Returns the end of a text's name in lower case; "" for another file."""
    return next((end for end in (_TRUTH, _PLAIN) if path.name.lower().endswith(end)), "")


def _stem(text: Path) -> Path:
    return text.with_name(text.name[: -len(_end(text))] or text.name)


def _name(path: Path, folder: Path, kind: Kind) -> str:
    stem = path.with_suffix("") if kind.takes(path) else _stem(path)
    return stem.relative_to(folder).as_posix()


def _without_versions(stem: Path) -> Iterator[Path]:
    """Yields a name without one version at its end, without two, and so on."""
    while _VERSION.fullmatch(stem.suffix):
        stem = stem.with_suffix("")
        yield stem


def _is_leftover(path: Path, folder: Path) -> bool:
    hidden = any(part[0] == "." or part == "__MACOSX" for part in path.relative_to(folder).parts)
    return hidden or bool(_end(path) and _LEFTOVER.fullmatch(path.name))
