"""Generates true captions of a scene, each with the objects that its words refer to."""

import dataclasses
import itertools
from collections.abc import Callable

from rcnn_jax.data.datasets.draws import Draws
from rcnn_jax.data.datasets.shapes.language import (
    NUMBERS,
    PLURAL_OPENINGS,
    RELATIONS,
    SINGULAR_OPENINGS,
    plural,
)
from rcnn_jax.data.datasets.shapes.world import COLOURS, SHAPES, SIZES, Object, Scene

CAPTIONS = 5
"""Number of captions of each scene."""
MOST_MENTIONS = 6
"""Largest number of pairs of a phrase and an object that it refers to, in one caption."""
MOST_WORDS = 18
"""Largest number of words of a caption."""
CLEAR = 8
"""Least distance in pixels between centres at which captions mention directions.

The direction that is mentioned is also the one of the larger difference.
"""

# (index of the first word, index of the last word, index of the object)
Mention = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Named:
    """A phrase for objects.

    Attributes:
        words: Words of the phrase, such as "a small star".
        means: Indices of the objects it refers to.
    """

    words: str
    means: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Caption:
    """A sentence about a scene.

    Attributes:
        text: Words, separated by single spaces.
        mentions: Which words refer to which objects, in the order of the words.
    """

    text: str
    mentions: tuple[Mention, ...]


Parts = list[str | Named]


def captions(scene: Scene, draws: Draws) -> list[Caption]:
    """Generates `CAPTIONS` different captions of a scene.

    Args:
        scene: Scene to describe.
        draws: Random numbers of the example.
    """
    by_text: dict[str, Caption] = {}
    while len(by_text) < CAPTIONS:
        parts = draws.choice(_KINDS)(scene, draws)
        if parts is not None:
            caption = _joined(parts)
            if caption.text.count(" ") < MOST_WORDS:
                by_text.setdefault(caption.text, caption)
    return list(by_text.values())


def article(words: str) -> str:
    """Puts "a" or "an" before words.

    Args:
        words: Words of a phrase without an article.

    Example:
        >>> from rcnn_jax.data.datasets.shapes.captions import article
        >>> article("orange star")
        'an orange star'
    """
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def described(own: Object, *, size: bool, colour: bool, shape: bool = True) -> str:
    """Returns words for an object, without an article.

    Args:
        own: Object to describe.
        size: Whether to mention its size.
        colour: Whether to mention its colour.
        shape: Whether to mention its shape instead of "shape".
    """
    words = [SIZES[own.size]] if size else []
    words += [COLOURS[own.colour]] if colour else []
    return " ".join([*words, SHAPES[own.shape] if shape else "shape"])


def unique(scene: Scene, place: int, *, without: str = "") -> list[str]:
    """Returns all descriptions of an object that fit no other object of the scene.

    Args:
        scene: Scene of the object.
        place: Index of the object.
        without: Property that must not be mentioned, "size", "colour" or "shape"; "" for none.
    """
    target = scene.objects[place]
    names = []
    for size, colour, shape in _WAYS:
        if {"size": size, "colour": colour, "shape": shape}.get(without):
            continue
        alike = sum(
            (not size or other.size == target.size)
            and (not colour or other.colour == target.colour)
            and (not shape or other.shape == target.shape)
            for other in scene.objects
        )
        if alike == 1:
            names.append(described(target, size=size, colour=colour, shape=shape))
    return names


def clear_relations(scene: Scene, a: int, b: int) -> list[str]:
    """Returns the relations of one object to another that are clear enough to be mentioned.

    Args:
        scene: Scene of the objects.
        a: Index of the object that is located.
        b: Index of the object that it is located from.

    Returns:
        Keys of `language.RELATIONS`.
    """
    one, other = scene.objects[a], scene.objects[b]
    right, down = one.x - other.x, one.y - other.y
    relations = []
    if abs(right) >= max(CLEAR, abs(down)):
        relations.append("right" if right > 0 else "left")
    if abs(down) >= max(CLEAR, abs(right)):
        relations.append("below" if down > 0 else "above")
    if scene.hides[a] == b:
        relations.append("front")
    if scene.hides[b] == a:
        relations.append("behind")
    return relations


# Which of size, colour and shape a phrase names: at least one, as "the shape" fits all objects.
_WAYS = tuple(way for way in itertools.product((False, True), repeat=3) if any(way))


def _joined(parts: Parts) -> Caption:
    """Joins parts to a caption, with the positions of its phrases."""
    words: list[str] = []
    mentions: list[Mention] = []
    for part in parts:
        text = part if isinstance(part, str) else part.words
        first = len(words)
        words += text.split()
        if not isinstance(part, str):
            mentions += [(first, len(words) - 1, place) for place in part.means]
    return Caption(" ".join(words), tuple(mentions))


def _any(scene: Scene, draws: Draws, place: int) -> Named:
    """Returns a phrase for an object with "a" or "an", most often with its colour."""
    size, colour = draws.below(5) < 2, draws.below(6) < 5
    words = described(scene.objects[place], size=size, colour=colour)
    return Named(article(words), (place,))


def _the(scene: Scene, draws: Draws, place: int, without: str = "") -> Named | None:
    """Returns a phrase for an object with "the", if some description fits no other object."""
    ways = unique(scene, place, without=without)
    return Named(f"the {draws.choice(ways)}", (place,)) if ways else None


def _either(scene: Scene, draws: Draws, place: int) -> Named:
    """Returns a phrase for an object with "the" or with "a" or "an"."""
    the = _the(scene, draws, place) if draws.below(2) else None
    return the or _any(scene, draws, place)


def _several(scene: Scene, draws: Draws) -> Named | None:
    """Returns a phrase for all objects of a description that fits two or more."""
    objects = scene.objects
    example = draws.choice(objects)
    size, colour = draws.below(4) == 0, draws.below(2) == 0
    alike = tuple(
        index
        for index, other in enumerate(objects)
        if other.shape == example.shape
        and (not size or other.size == example.size)
        and (not colour or other.colour == example.colour)
    )
    if len(alike) < 2:
        return None
    *words, noun = described(example, size=size, colour=colour).split()
    return Named(" ".join([NUMBERS[len(alike)], *words, plural(noun)]), alike)


def _distinct(draws: Draws, scene: Scene, number: int, *but: int) -> list[int] | None:
    """Returns indices of different random objects; None if there are not enough."""
    rest = [index for index in range(len(scene.objects)) if index not in but]
    if len(rest) < number:
        return None
    return [rest.pop(draws.below(len(rest))) for _ in range(number)]


def _list(scene: Scene, draws: Draws) -> Parts | None:
    """Lists one object, two, three, or all of one kind and another one."""
    parts: list[Named] = []
    groups = _several(scene, draws) if draws.below(3) == 0 else None
    if groups is not None:
        parts.append(groups)
    singles = (1, 2, 2, 3, 3)[draws.below(5)] if groups is None else draws.below(2)
    indices = _distinct(draws, scene, singles, *(groups.means if groups else ()))
    if indices is None:
        return None
    parts += [_any(scene, draws, index) for index in indices]
    if len({part.words for part in parts}) < len(parts):
        return None
    joints = {1: [()], 2: [("and",), ("with",)], 3: [("with", "and"), ("and", "with")]}
    joints = draws.choice(joints[len(parts)])
    openings = SINGULAR_OPENINGS if groups is None else PLURAL_OPENINGS
    opening = draws.choice(("", "", *openings))
    return [opening, parts[0], *itertools.chain(*zip(joints, parts[1:], strict=True))]


def _relation(scene: Scene, draws: Draws) -> Parts | None:
    """Tells where one object lies relative to another."""
    # Objects in front of others are rare, so that captions mention them more often.
    if scene.pairs and draws.below(2):
        a, b = draws.choice(scene.pairs)[:: draws.choice((1, -1))]
        kinds = [kind for kind in clear_relations(scene, a, b) if kind in ("front", "behind")]
    else:
        a, b = _distinct(draws, scene, 2) or (0, 1)
        kinds = clear_relations(scene, a, b)
    if not kinds:
        return None
    phrase = draws.choice(RELATIONS[draws.choice(kinds)])
    form = draws.below(4)
    if form == 0:
        one, other = _any(scene, draws, a), _either(scene, draws, b)
        parts = [draws.choice(("", "", *SINGULAR_OPENINGS)), one, phrase, other]
    elif form < 3:
        one, other = _either(scene, draws, a), _either(scene, draws, b)
        parts = [one, "is", phrase, other]
    else:
        one, other = _any(scene, draws, a), _either(scene, draws, b)
        parts = [phrase, other, draws.choice(("is", "there is")), one]
    return None if _alike(one, other) else parts


def _two_relations(scene: Scene, draws: Draws) -> Parts | None:
    """Tells where one object lies relative to two others."""
    indices = _distinct(draws, scene, 3) or [0, 1, 2]
    kinds = [clear_relations(scene, indices[0], other) for other in indices[1:]]
    if not all(kinds):
        return None
    named = [_either(scene, draws, index) for index in indices]
    if any(_alike(*pair) for pair in itertools.combinations(named, 2)):
        return None
    phrases = [draws.choice(RELATIONS[draws.choice(options)]) for options in kinds]
    link = draws.choice(("is", ""))
    return [named[0], link, phrases[0], named[1], "and", phrases[1], named[2]]


def _alike(one: Named, other: Named) -> bool:
    """Returns whether two phrases have the same words except for the article."""
    return one.words.split()[1:] == other.words.split()[1:]


def _quality(scene: Scene, draws: Draws) -> Parts | None:
    """Tells the colour, size or shape of one or two objects."""
    indices = _distinct(draws, scene, 1 + draws.below(2)) or [0]
    parts: Parts = []
    for index in indices:
        target = scene.objects[index]
        what, value = draws.choice(
            (
                ("colour", COLOURS[target.colour]),
                ("size", SIZES[target.size]),
                ("shape", article(SHAPES[target.shape])),
            )
        )
        named = _the(scene, draws, index, without=what)
        if named is None:
            return None
        parts += [*(["and"] if parts else []), named, "is", value]
    return parts


def _count(scene: Scene, draws: Draws) -> Parts | None:
    """Tells the number of objects in total, or of one colour or shape."""
    objects = scene.objects
    everything = tuple(range(len(objects)))
    if draws.below(8) == 0:
        opening = draws.choice(PLURAL_OPENINGS)
        return [opening, Named(f"{NUMBERS[len(objects)]} shapes", everything)]
    example, what = draws.choice(objects), draws.choice(("colour", "shape"))
    alike = tuple(p for p in everything if getattr(objects[p], what) == getattr(example, what))
    number, noun = NUMBERS[len(alike)], SHAPES[example.shape]
    if what == "colour":
        value = COLOURS[example.colour]
    else:
        value = article(noun) if len(alike) == 1 else plural(noun)
    among = f"{number} of the {NUMBERS[len(objects)]} shapes"
    if len(alike) == 1:
        return [Named(among, alike), "is", value]
    return [Named(draws.choice((among, f"{number} shapes")), alike), "are", value]


_KINDS: tuple[Callable[[Scene, Draws], Parts | None], ...] = (
    *[_list] * 5, *[_relation] * 6, *[_two_relations] * 2, *[_quality] * 2, _count,
)  # fmt: skip
"""Kinds of captions, repeated in proportion to how often they are tried."""
