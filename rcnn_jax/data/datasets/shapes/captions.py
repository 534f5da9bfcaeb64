"""Sentences about a scene, all of them true, each with the objects that its words mean."""

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
"""Sentences about each scene."""
MOST_MENTIONS = 6
"""The most that a sentence has of pairs of a phrase and an object that it means."""
MOST_WORDS = 18
"""The most words that a sentence has."""
CLEAR = 8
"""Pixels that centres differ by, or nothing is said of what is left or above. The direction that
is said is also the one in which they differ most."""

# (first word, last word, object)
Mention = tuple[int, int, int]


@dataclasses.dataclass(frozen=True)
class Named:
    """Words for objects.

    Attributes:
        words: such as "a small star".
        means: places of the objects.
    """

    words: str
    means: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Caption:
    """A sentence.

    Attributes:
        text: its words, one space between.
        mentions: which words mean which objects, in the order of the words.
    """

    text: str
    mentions: tuple[Mention, ...]


Parts = list[str | Named]


def captions(scene: Scene, draws: Draws) -> list[Caption]:
    """`CAPTIONS` different sentences about a scene."""
    said: dict[str, Caption] = {}
    while len(said) < CAPTIONS:
        parts = draws.choice(_KINDS)(scene, draws)
        if parts is not None:
            caption = _joined(parts)
            if caption.text.count(" ") < MOST_WORDS:
                said.setdefault(caption.text, caption)
    return list(said.values())


def article(words: str) -> str:
    """Puts "a" or "an" before words."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def described(own: Object, *, size: bool, colour: bool, shape: bool = True) -> str:
    """What an object is called, without an article."""
    words = [SIZES[own.size]] if size else []
    words += [COLOURS[own.colour]] if colour else []
    return " ".join([*words, SHAPES[own.shape] if shape else "shape"])


def unique(scene: Scene, place: int, *, without: str = "") -> list[str]:
    """All ways to call an object that fit no other one of the scene.

    Args:
        scene: it belongs to.
        place: of the object.
        without: "size", "colour" or "shape": what must not be said.
    """
    own = scene.objects[place]
    found = []
    for size, colour, shape in _WAYS:
        if {"size": size, "colour": colour, "shape": shape}.get(without):
            continue
        alike = sum(
            (not size or other.size == own.size)
            and (not colour or other.colour == own.colour)
            and (not shape or other.shape == own.shape)
            for other in scene.objects
        )
        if alike == 1:
            found.append(described(own, size=size, colour=colour, shape=shape))
    return found


def clear_relations(scene: Scene, a: int, b: int) -> list[str]:
    """What can be said of where one object lies, seen from another one."""
    one, other = scene.objects[a], scene.objects[b]
    right, down = one.x - other.x, one.y - other.y
    found = []
    if abs(right) >= max(CLEAR, abs(down)):
        found.append("right" if right > 0 else "left")
    if abs(down) >= max(CLEAR, abs(right)):
        found.append("below" if down > 0 else "above")
    if scene.hides[a] == b:
        found.append("front")
    if scene.hides[b] == a:
        found.append("behind")
    return found


# Which of size, colour and shape are said; an object that is only called "the shape" is none.
_WAYS = tuple(way for way in itertools.product((False, True), repeat=3) if any(way))


def _joined(parts: Parts) -> Caption:
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
    """An object as "a" or "an", most often with its colour."""
    size, colour = draws.below(5) < 2, draws.below(6) < 5
    words = described(scene.objects[place], size=size, colour=colour)
    return Named(article(words), (place,))


def _the(scene: Scene, draws: Draws, place: int, without: str = "") -> Named | None:
    """An object as "the", where some words fit no other one."""
    ways = unique(scene, place, without=without)
    return Named(f"the {draws.choice(ways)}", (place,)) if ways else None


def _either(scene: Scene, draws: Draws, place: int) -> Named:
    the = _the(scene, draws, place) if draws.below(2) else None
    return the or _any(scene, draws, place)


def _several(scene: Scene, draws: Draws) -> Named | None:
    """All objects of a description that fits two or more."""
    objects = scene.objects
    own = draws.choice(objects)
    size, colour = draws.below(4) == 0, draws.below(2) == 0
    alike = tuple(
        place
        for place, other in enumerate(objects)
        if other.shape == own.shape
        and (not size or other.size == own.size)
        and (not colour or other.colour == own.colour)
    )
    if len(alike) < 2:
        return None
    *words, noun = described(own, size=size, colour=colour).split()
    return Named(" ".join([NUMBERS[len(alike)], *words, plural(noun)]), alike)


def _distinct(draws: Draws, scene: Scene, number: int, *but: int) -> list[int] | None:
    """Different objects, by place."""
    rest = [place for place in range(len(scene.objects)) if place not in but]
    if len(rest) < number:
        return None
    return [rest.pop(draws.below(len(rest))) for _ in range(number)]


def _list(scene: Scene, draws: Draws) -> Parts | None:
    """One object, two, three, or all of a kind and another one."""
    parts: list[Named] = []
    groups = _several(scene, draws) if draws.below(3) == 0 else None
    if groups is not None:
        parts.append(groups)
    singles = (1, 2, 2, 3, 3)[draws.below(5)] if groups is None else draws.below(2)
    places = _distinct(draws, scene, singles, *(groups.means if groups else ()))
    if places is None:
        return None
    parts += [_any(scene, draws, place) for place in places]
    if len({part.words for part in parts}) < len(parts):
        return None
    joints = {1: [()], 2: [("and",), ("with",)], 3: [("with", "and"), ("and", "with")]}
    joints = draws.choice(joints[len(parts)])
    openings = SINGULAR_OPENINGS if groups is None else PLURAL_OPENINGS
    opening = draws.choice(("", "", *openings))
    return [opening, parts[0], *itertools.chain(*zip(joints, parts[1:], strict=True))]


def _relation(scene: Scene, draws: Draws) -> Parts | None:
    """Where an object lies, seen from another one."""
    # What lies in front is rare and is said where there is any.
    if scene.pairs and draws.below(2):
        a, b = draws.choice(scene.pairs)[:: draws.choice((1, -1))]
        kinds = [kind for kind in clear_relations(scene, a, b) if kind in ("front", "behind")]
    else:
        a, b = _distinct(draws, scene, 2) or (0, 1)
        kinds = clear_relations(scene, a, b)
    if not kinds:
        return None
    said = draws.choice(RELATIONS[draws.choice(kinds)])
    form = draws.below(4)
    if form == 0:
        one, other = _any(scene, draws, a), _either(scene, draws, b)
        parts = [draws.choice(("", "", *SINGULAR_OPENINGS)), one, said, other]
    elif form < 3:
        one, other = _either(scene, draws, a), _either(scene, draws, b)
        parts = [one, "is", said, other]
    else:
        one, other = _any(scene, draws, a), _either(scene, draws, b)
        parts = [said, other, draws.choice(("is", "there is")), one]
    return None if _alike(one, other) else parts


def _two_relations(scene: Scene, draws: Draws) -> Parts | None:
    """Where an object lies, seen from two others."""
    places = _distinct(draws, scene, 3) or [0, 1, 2]
    kinds = [clear_relations(scene, places[0], other) for other in places[1:]]
    if not all(kinds):
        return None
    named = [_either(scene, draws, place) for place in places]
    if any(_alike(*pair) for pair in itertools.combinations(named, 2)):
        return None
    says = [draws.choice(RELATIONS[draws.choice(own)]) for own in kinds]
    link = draws.choice(("is", ""))
    return [named[0], link, says[0], named[1], "and", says[1], named[2]]


def _alike(one: Named, other: Named) -> bool:
    """Whether two phrases have the same words but for the article."""
    return one.words.split()[1:] == other.words.split()[1:]


def _quality(scene: Scene, draws: Draws) -> Parts | None:
    """What colour, size or shape one object or two have."""
    places = _distinct(draws, scene, 1 + draws.below(2)) or [0]
    parts: Parts = []
    for place in places:
        own = scene.objects[place]
        what, value = draws.choice(
            (
                ("colour", COLOURS[own.colour]),
                ("size", SIZES[own.size]),
                ("shape", article(SHAPES[own.shape])),
            )
        )
        named = _the(scene, draws, place, without=what)
        if named is None:
            return None
        parts += [*(["and"] if parts else []), named, "is", value]
    return parts


def _count(scene: Scene, draws: Draws) -> Parts | None:
    """How many objects there are in all, or of a colour or a shape."""
    objects = scene.objects
    everything = tuple(range(len(objects)))
    if draws.below(8) == 0:
        opening = draws.choice(PLURAL_OPENINGS)
        return [opening, Named(f"{NUMBERS[len(objects)]} shapes", everything)]
    own, what = draws.choice(objects), draws.choice(("colour", "shape"))
    alike = tuple(p for p in everything if getattr(objects[p], what) == getattr(own, what))
    number, noun = NUMBERS[len(alike)], SHAPES[own.shape]
    if what == "colour":
        value = COLOURS[own.colour]
    else:
        value = article(noun) if len(alike) == 1 else plural(noun)
    among = f"{number} of the {NUMBERS[len(objects)]} shapes"
    if len(alike) == 1:
        return [Named(among, alike), "is", value]
    return [Named(draws.choice((among, f"{number} shapes")), alike), "are", value]


_KINDS: tuple[Callable[[Scene, Draws], Parts | None], ...] = (
    *[_list] * 5, *[_relation] * 6, *[_two_relations] * 2, *[_quality] * 2, _count,
)  # fmt: skip
"""Kinds of sentences, as often as they are tried."""
