"""Compares the names and numbers in a features file with those of the pictures of a list."""

import collections
import dataclasses
import posixpath
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence

from rcnn_jax.data.datasets.captioned.listing import Captioned
from rcnn_jax.data.files.images import SUFFIXES

IMGID = "imgid"
_STORED = (*SUFFIXES, ".npy", ".npz", ".pt", ".mat", ".h5", ".feat")
_DIGITS = re.compile(r"(COCO_\w+_)?0*(\d{1,18})")
_IN_NAME = "the digits in names of pictures"


@dataclasses.dataclass(frozen=True)
class Match:
    """The rows of a features file that belong to the pictures of a list.

    Attributes:
        rows: Mapping from the place of a picture in the list to the row of its vector.
        faults: Mapping from the place of a picture that has no row of its own to a clause, whose
            subject is the features file, that says why.
        array: Name of the array of names or numbers; `""` if there is none.
        kind: Which number of the list was compared, such as `imgid`; `""` for names.
        how: By what the rows were found, for messages; `""` for names.
    """

    rows: Mapping[int, int]
    faults: Mapping[int, str] = dataclasses.field(default_factory=dict)
    array: str = ""
    kind: str = ""
    how: str = ""

    @property
    def fits(self) -> bool:
        """Whether any picture was found."""
        return bool(self.rows or self.faults)


def differ(one: Match, other: Match) -> int | None:
    """Returns the place of a picture to which two matches give different rows.

    Args:
        one: A match.
        other: Another one, of the same pictures.

    Returns:
        The place; None if there is no such picture.
    """
    return next((p for p, row in one.rows.items() if other.rows.get(p, row) != row), None)


def by_texts(pictures: Sequence[Captioned], array: str, texts: Sequence[str]) -> Match:
    """Finds rows by names: as they are, else without suffixes, else by the numbers that they are.

    Args:
        pictures: All pictures of a list.
        array: Name of the array of names.
        texts: The names, one a row.

    Returns:
        The rows; its mappings are empty if no name is that of a picture.

    Example:
        >>> from rcnn_jax.data.datasets.captioned.listing import Captioned
        >>> from rcnn_jax.data.datasets.captioned.matching import by_texts
        >>> by_texts([Captioned("a.jpg", ("A dog",), "list:1")], "names", ["b", "a", "c"]).rows
        {0: 1}
    """
    for key in (_path, _stem):
        found = _by_paths(pictures, array, texts, key)
        if found.fits:
            return found
    numbers = [_DIGITS.fullmatch(posixpath.basename(_stem(text))) for text in texts]
    if not all(numbers):
        return found
    # The digits of a file's name count its picture within a data set, not within a list.
    of_files = any(number and number[1] for number in numbers) or any(map(_suffix, texts))
    digits = [int(number[2]) for number in numbers if number]
    return by_numbers(pictures, array, digits, of_files=of_files)


def _path(text: str) -> str:
    """Returns a name in the one form in which names are compared."""
    text = unicodedata.normalize("NFC", text).strip().replace("\\", "/")
    # There may be a hundred thousand names, few of which need it.
    return posixpath.normpath(text) if "//" in text or "./" in text else text


def _stem(text: str) -> str:
    path = _path(text)
    root, dot, suffix = path.rpartition(".")
    return root if f"{dot}{suffix}".lower() in _STORED and root[-1:] not in ("", "/") else path


def _suffix(text: str) -> bool:
    return _stem(text) != _path(text)


def _by_paths(
    pictures: Sequence[Captioned], array: str, texts: Sequence[str], key: Callable[[str], str]
) -> Match:
    names = [key(text) for text in texts]
    exact, short = collections.defaultdict(list), collections.defaultdict(list)
    for row, name in enumerate(names):
        exact[name].append(row)
        short[posixpath.basename(name)].append(row)
    whole = _whole(pictures)
    alike = collections.Counter(posixpath.basename(key(name)) for name in set(whole.values()))
    rows = {}
    for picture in pictures:
        name, file = key(whole[picture.place]), key(picture.file)
        found = exact.get(name) or exact.get(file)
        if not found:
            base = posixpath.basename(file)
            found = short.get(base, [])
            # Folders tell apart what is called alike.
            if len(found) > 1 or alike[base] > 1:
                related = [row for row in found if _end_alike(names[row], name)]
                found = related if related or alike[base] > 1 else found
        if found:
            rows[picture.place] = found
    return _single(pictures, texts, rows, Match({}, array=array))


def _whole(pictures: Sequence[Captioned]) -> Mapping[int, str]:
    """Returns the names of pictures with their folders, by place."""
    return {p.place: _path(f"{p.folder}/{p.file}" if p.folder else p.file) for p in pictures}


def _end_alike(one: str, other: str) -> bool:
    return f"/{one}".endswith(f"/{other}") or f"/{other}".endswith(f"/{one}")


def by_numbers(
    pictures: Sequence[Captioned], array: str, numbers: Sequence[int], *, of_files: bool = False
) -> Match:
    """Finds rows by those numbers of the list by which most pictures are found.

    Args:
        pictures: All pictures of a list.
        array: Name of the array of numbers.
        numbers: The numbers, one a row.
        of_files: Whether the numbers stand in names of files, so that they are no `imgid`.

    Returns:
        The rows; its mappings are empty if no number is that of a picture.
    """
    places = collections.defaultdict(list)
    for row, number in enumerate(numbers):
        places[number].append(row)
    best = Match({}, array=array)
    for kind in _kinds(array, of_files=of_files):
        known = {p.place: _number(p, kind) for p in pictures}
        rows = {place: places[number] for place, number in known.items() if number in places}
        how = f"the numbers in its array {array!r}, which are compared with {kind}"
        found = _single(pictures, numbers, rows, Match({}, {}, array, kind, how))
        if len(found.rows) > len(best.rows) or (found.fits and not best.fits):
            best = found
        elif len(found.rows) == len(best.rows) and differ(best, found) is not None:
            fault = f"holds numbers in its array {array!r} that fit both {best.kind} and {kind}"
            return dataclasses.replace(best, rows={}, faults=dict.fromkeys(best.rows, fault))
    return best


def _kinds(array: str, *, of_files: bool) -> Sequence[str]:
    """Returns which numbers of a list may be those of an array, the most probable first."""
    of_coco_alone = ("cocoid", "id", _IN_NAME)
    name = array.lower().removesuffix("s")
    if name == IMGID:
        return (IMGID,)
    return of_coco_alone if of_files or name in ("cocoid", "coco_id") else (*of_coco_alone, IMGID)


def _number(picture: Captioned, kind: str) -> int | None:
    if kind != _IN_NAME:
        return picture.ids.get(kind)
    found = _DIGITS.fullmatch(posixpath.basename(_stem(picture.file)))
    return int(found[2]) if found else None


def _single(
    pictures: Sequence[Captioned],
    entries: Sequence[str | int],
    found: Mapping[int, Sequence[int]],
    match: Match,
) -> Match:
    """Completes a match: a picture has one row, and a row one picture, or it is a fault."""
    whole = _whole(pictures)
    owners: dict[int, dict[str, None]] = collections.defaultdict(dict)  # in the list's order
    for place, own in found.items():
        for row in own:
            owners[row][whole[place]] = None
    rows, faults = {}, {}
    for picture in pictures:
        own = found.get(picture.place, ())
        if len(own) > 1:
            several = ", ".join(repr(entries[row]) for row in own[:3])
            faults[picture.place] = f"has several vectors for {picture.file}: {several}"
        elif own and len(owners[own[0]]) > 1:
            both = " and ".join(list(owners[own[0]])[:2])
            faults[picture.place] = f"has one vector, {entries[own[0]]!r}, for both {both}"
        elif own:
            rows[picture.place] = own[0]
    return dataclasses.replace(match, rows=rows, faults=faults)
