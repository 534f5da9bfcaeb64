"""Finds the vector of each picture of a list in a features file: by name, by number or by place.

Names are compared with and without folders, by Windows paths, too, and, if none is equal, without
their suffixes. Integers, and texts of digits such as that in `COCO_val2014_000000391895.jpg`, are
compared with the numbers that the list gives its pictures. Rows are taken by `imgid` where the file
has no names, and by their place only on request.
"""

import functools
import re
import sys
from pathlib import Path

from rcnn_jax.data.datasets.captioned.listing import Listing
from rcnn_jax.data.datasets.captioned.matching import IMGID, Match, by_numbers, by_texts, differ
from rcnn_jax.data.files.image_vectors import Features

POSITION = "position"
_HOW = "at the end of the data set's name, behind a ? or &,"
# What an array of names or numbers of pictures is called, in contrast to one of labels, say.
_OF_NAMES = re.compile(
    r"(.*_)?(img|image|coco|photo|picture|file)?_?ids?|(file|image|img|picture)?_?names?"
    r"|(.*_)?paths?|files?|images?|imgs?|keys?",
    re.IGNORECASE,
)


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
    if vectors.values.shape[1] == listing.rows != count:
        raise ValueError(
            f"{path} has {count:,} vectors of {listing.rows:,} numbers for as many pictures as "
            f"{listing.files[0]} lists: its axes are the wrong way round; a .mat file is "
            "[size, images], an .npz file [images, size]"
        )
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
    vectors_of = f"its {count:,} vectors of {vectors.values.shape[1]:,} numbers have no names"
    return Match(rows, how=f"imgid, as {vectors_of}")


def _without_names(vectors: Features, path: Path, listing: Listing) -> Match:
    for array, why in vectors.unread.items():
        if _OF_NAMES.fullmatch(array):
            raise ValueError(
                f"{path}: its array {array!r} {why}; by={IMGID} or by={POSITION} {_HOW} goes "
                "without names, by the numbers or the order of the list"
            )
    if all(IMGID in picture.ids for picture in listing.pictures):
        found = _by_imgid(vectors, path, listing)
        for array, numbers in vectors.numbers.items():
            other = by_numbers(listing.pictures, array, numbers)
            if len(other.rows) == len(found.rows) and (place := differ(found, other)) is not None:
                raise ValueError(
                    f"{path}: its array {array!r} gives {_picture(listing, place)} another vector "
                    f"than its imgid: by={array} or by={IMGID} {_HOW} says which holds"
                )
        return found
    raise ValueError(
        f"{path} has no names of pictures, and not every picture of {listing.files[0]} has an "
        f"imgid: by={POSITION} {_HOW} takes the vectors in the order of the list"
    )


def _by_array(vectors: Features, path: Path, listing: Listing, by: str) -> Match:
    if by in vectors.names:
        found = by_texts(listing.pictures, by, vectors.names[by])
    elif by in vectors.numbers:
        found = by_numbers(listing.pictures, by, vectors.numbers[by])
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
    ids = {array: each for array, each in vectors.numbers.items() if _OF_NAMES.fullmatch(array)}
    named = [by_texts(listing.pictures, *each) for each in vectors.names.items()]
    numbered = [by_numbers(listing.pictures, *each) for each in ids.items()]
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
        if (place := differ(best, rival)) is not None:
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


def _picture(listing: Listing, place: int) -> str:
    return next(picture.file for picture in listing.pictures if picture.place == place)
