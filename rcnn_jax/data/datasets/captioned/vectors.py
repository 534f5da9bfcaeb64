"""Finds the vector of each picture of a list in a features file: by name, by number or by place.

Names are compared with and without folders, by Windows paths, too, and, if none is equal, without
their suffixes. Integers, and texts of digits such as that in `COCO_val2014_000000391895.jpg`, are
compared with the numbers that the list gives its pictures. Rows are taken by `imgid` where the file
has no names, and by their place only on request.
"""

import collections
import dataclasses
import functools
import posixpath
import re
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rcnn_jax.data.datasets.captioned.listing import Captioned, Listing
from rcnn_jax.data.files.image_vectors import Features
from rcnn_jax.data.files.images import SUFFIXES

POSITION, IMGID = "position", "imgid"
_HOW = "at the end of the data set's name, behind a ? or &,"
_STORED = (*SUFFIXES, ".npy", ".npz", ".pt", ".mat", ".h5", ".feat")
_DIGITS = re.compile(r"(COCO_\w+_)?0*(\d{1,18})")
# What an array of integers is called that holds numbers of pictures, and not labels, say.
_OF_IDS = re.compile(
    r"(.*_)?(img|image|coco|photo|picture|file)?_?ids?|(file|image|img|picture)?_?names?"
    r"|files?|images?|imgs?|keys?",
    re.IGNORECASE,
)


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


def match(vectors: Features, path: Path, listing: Listing, by: str = "") -> Match:
    """Finds the vectors of all pictures of a list, and says on stderr if not by their names.

    Args:
        vectors: Content of the features file.
        path: Path of the features file.
        listing: The list.
        by: `"position"` for rows in the order of the list, `"imgid"` for rows by the list's
            `imgid`, the name of an array of names or numbers in the features file, or `""` to find
            the array of names, and to take rows by `imgid` where there is none.

    Returns:
        The rows. A picture that is in neither of its mappings has no vector.

    Raises:
        ValueError: If no name fits any picture, several arrays of names contradict each other,
            there are no names, no numbers and no `imgid`, or `by` is no array of the file.
    """
    if by == POSITION:
        found = _by_place(vectors, path, listing)
    elif by == IMGID and by not in vectors.numbers and by not in vectors.names:
        found = _by_imgid(vectors, path, listing)
    elif by:
        found = _by_array(vectors, path, listing, by)
    else:
        found = _by_names(vectors, path, listing) or _without_names(vectors, path, listing)
    if found.how:
        _say(
            f"note: {len(found.rows):,} pictures of {listing.files[0]} take their vectors from "
            f"{path} by {found.how}"
        )
    return found


@functools.cache
def _say(sentence: str) -> None:
    """Prints a sentence, once for all splits."""
    print(sentence, file=sys.stderr, flush=True)


def _by_place(vectors: Features, path: Path, listing: Listing) -> Match:
    count = len(vectors.values)
    if count != listing.rows:
        raise ValueError(
            f"{path} has {count:,} vectors, {listing.files[0]} lists {listing.rows:,} pictures: by "
            f"position, as many are needed"
        )
    return Match({p.place: p.place for p in listing.pictures}, how="their position in the list")


def _by_imgid(vectors: Features, path: Path, listing: Listing) -> Match:
    count, owners = len(vectors.values), {}
    for picture in listing.pictures:
        number = picture.ids.get(IMGID)
        if number is None:
            raise ValueError(
                f"{picture.where}: the picture has no imgid that is a number, by which it would "
                f"take its vector from {path}; by={POSITION} {_HOW} goes by the order of the list"
            )
        if not 0 <= number < count:
            raise ValueError(
                f"{picture.where}: imgid is {number}, and {path} has {count:,} vectors without "
                f"names, from 0 to {count - 1}; by={POSITION} {_HOW} goes by the order of the list"
            )
        if owners.setdefault(number, picture) is not picture:
            raise ValueError(
                f"{picture.where}: imgid is {number}, as that of {owners[number].file}; "
                f"by={POSITION} {_HOW} goes by the order of the list"
            )
    rows = {picture.place: number for number, picture in owners.items()}
    return Match(rows, how="imgid, as it holds no names")


def _without_names(vectors: Features, path: Path, listing: Listing) -> Match:
    if all(IMGID in picture.ids for picture in listing.pictures):
        found = _by_imgid(vectors, path, listing)
        for array, numbers in vectors.numbers.items():
            other = _by_numbers(listing.pictures, array, numbers)
            if len(other.rows) == len(found.rows) and (place := _differ(found, other)) is not None:
                raise ValueError(
                    f"{path}: its array {array!r} gives {_picture(listing, place)} another vector "
                    f"than its imgid: by={array} or by={IMGID} {_HOW} says which holds"
                )
        return found
    why = "".join(f" (its array {array!r} {reason})" for array, reason in vectors.unread.items())
    raise ValueError(
        f"{path} has no names of pictures{why}, and not every picture of {listing.files[0]} has an "
        f"imgid: "
        f"by={POSITION} {_HOW} takes the vectors in the order of the list"
    )


def _by_array(vectors: Features, path: Path, listing: Listing, by: str) -> Match:
    if by in vectors.names:
        found = _by_texts(listing.pictures, by, vectors.names[by])
    elif by in vectors.numbers:
        found = _by_numbers(listing.pictures, by, vectors.numbers[by])
    elif by in vectors.unread:
        raise ValueError(f"{path}: its array {by!r} {vectors.unread[by]}")
    else:
        arrays = (POSITION, IMGID, *vectors.names, *vectors.numbers)
        raise ValueError(
            f"{path} has no array {by!r} with a name or number for each vector; by is one of "
            f"{', '.join(arrays)}"
        )
    if not found.fits:
        raise _strangers(vectors, path, listing, by)
    return found


def _by_names(vectors: Features, path: Path, listing: Listing) -> Match | None:
    """Finds the rows by the array of names, or by one of ids; None if there is neither."""
    ids = {array: each for array, each in vectors.numbers.items() if _OF_IDS.fullmatch(array)}
    named = [_by_texts(listing.pictures, *each) for each in vectors.names.items()]
    numbered = [_by_numbers(listing.pictures, *each) for each in ids.items()]
    named, numbered = ([m for m in matches if m.fits] for matches in (named, numbered))
    if not named and not numbered:
        # Texts with repetitions, such as splits, are no names.
        arrays = [name for name, each in vectors.names.items() if len(set(each)) == len(each)]
        if arrays or ids:
            raise _strangers(vectors, path, listing, next(iter([*arrays, *ids])))
        return None
    fitting = named or numbered
    fitting = [m for m in fitting if not m.faults] or fitting
    best = max(fitting, key=lambda m: len(m.rows))
    # An array that counts the rows contradicts no names; numbers of COCO and the like do.
    sure = [m for m in numbered if m.kind != IMGID or m.array.lower().startswith(IMGID)]
    rivals = [m for m in sure if not m.faults and len(m.rows) >= len(best.rows)]
    for rival in [*fitting, *rivals]:
        if (place := _differ(best, rival)) is not None:
            raise ValueError(
                f"{path}: its arrays {best.array!r} and {rival.array!r} give "
                f"{_picture(listing, place)} different vectors, {best.rows[place]} and "
                f"{rival.rows[place]}: by={best.array} or by={rival.array} {_HOW} says which holds"
            )
    return best


def _strangers(vectors: Features, path: Path, listing: Listing, array: str) -> ValueError:
    entries = vectors.names.get(array) or vectors.numbers[array]
    return ValueError(
        f"{path}: nothing in its array {array!r}, such as {entries[0]!r}, is the name or number of "
        f"a picture of {listing.files[0]}, such as {listing.pictures[0].file!r}; "
        f"by={POSITION} {_HOW} takes the vectors in the order of the list"
    )


def _differ(one: Match, other: Match) -> int | None:
    """Returns the place of a picture to which two matches give different rows."""
    return next((p for p, row in one.rows.items() if other.rows.get(p, row) != row), None)


def _picture(listing: Listing, place: int) -> str:
    return next(picture.file for picture in listing.pictures if picture.place == place)


def _by_texts(pictures: Sequence[Captioned], array: str, texts: Sequence[str]) -> Match:
    """Compares names as they are, else without suffixes, else by the numbers that they are."""
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
    return _by_numbers(pictures, array, digits, of_files=of_files)


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


def _by_numbers(
    pictures: Sequence[Captioned], array: str, numbers: Sequence[int], *, of_files: bool = False
) -> Match:
    """Compares numbers with those numbers of the list by which most pictures are found."""
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
        elif len(found.rows) == len(best.rows) and _differ(best, found) is not None:
            fault = f"holds numbers in its array {array!r} that fit both {best.kind} and {kind}"
            return dataclasses.replace(best, rows={}, faults=dict.fromkeys(best.rows, fault))
    return best


_IN_NAME = "the digits in names of pictures"


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
