"""Questions about a scene whose answer is one word and cannot be guessed from the question.

Yes and no are drawn before the question is made, and a number before the thing to be counted.
What is asked about is described so that it fits one object, and lies clearly where it is said to.
"""

from collections.abc import Callable

from rcnn_jax.data.datasets.draws import Draws
from rcnn_jax.data.datasets.shapes.captions import article, clear_relations, unique
from rcnn_jax.data.datasets.shapes.language import NUMBERS, RELATIONS, plural
from rcnn_jax.data.datasets.shapes.world import COLOURS, HELD_OUT, SHAPES, SIZES, Scene

ANSWERS = ("yes", "no", *NUMBERS, *COLOURS, *SHAPES, *SIZES)
"""Every answer that there is."""
_OPPOSITES = {
    "left": "right", "right": "left", "above": "below", "below": "above", "front": "behind",
    "behind": "front",
}  # fmt: skip

Pair = tuple[str, str]


def question(scene: Scene, draws: Draws) -> Pair:
    """A question about a scene, lower-case words without punctuation, and its answer."""
    while True:
        found = draws.choice(_KINDS)(scene, draws)
        if found is not None:
            return found


def _how_many(scene: Scene, draws: Draws) -> Pair | None:
    if draws.below(6) == 0:
        return "how many shapes are there", NUMBERS[len(scene.objects)]
    values = [own.shape for own in scene.objects]
    things = [plural(noun) for noun in SHAPES]
    if draws.below(2):
        values = [own.colour for own in scene.objects]
        things = [f"{colour} shapes" for colour in COLOURS]
    numbers = [values.count(value) for value in range(len(things))]
    number = draws.choice(sorted(set(numbers)))
    thing = draws.choice([t for t, n in zip(things, numbers, strict=True) if n == number])
    return f"how many {thing} are there", NUMBERS[number]


def _what_colour(scene: Scene, draws: Draws) -> Pair | None:
    place = draws.below(len(scene.objects))
    ways = unique(scene, place, without="colour")
    if not ways:
        return None
    return f"what colour is the {draws.choice(ways)}", COLOURS[scene.objects[place].colour]


def _which_shape(scene: Scene, draws: Draws) -> Pair | None:
    place = draws.below(len(scene.objects))
    ways = unique(scene, place, without="shape")
    if not ways:
        return None
    return f"what is the {draws.choice(ways)}", SHAPES[scene.objects[place].shape]


def _what_size(scene: Scene, draws: Draws) -> Pair | None:
    size = draws.below(len(SIZES))
    places = [place for place, own in enumerate(scene.objects) if own.size == size]
    ways = unique(scene, draws.choice(places), without="size") if places else []
    return (f"is the {draws.choice(ways)} small or large", SIZES[size]) if ways else None


def _is_there(scene: Scene, draws: Draws) -> Pair:
    """Asks for a shape of a colour that are both there, together or apart."""
    there = sorted({(own.shape, own.colour) for own in scene.objects})
    shapes, colours = ({pair[at] for pair in there} for at in (0, 1))
    yes = draws.below(2)
    pairs = there
    if not yes:
        pairs = sorted({(s, c) for s in shapes for c in colours} - set(there))
        if not pairs:
            # All shapes or all colours are alike: one of the two has to be foreign.
            pairs = [(s, c) for s in shapes for c in range(len(COLOURS)) if c not in colours]
        # What training never shows would be answered by that alone.
        pairs = [pair for pair in pairs if scene.held_out or pair not in HELD_OUT] or [
            (s, c)
            for s in range(len(SHAPES))
            for c in range(len(COLOURS))
            if (s, c) not in HELD_OUT and (s, c) not in there
        ]
    shape, colour = draws.choice(pairs)
    return f"is there {article(f'{COLOURS[colour]} {SHAPES[shape]}')}", "yes" if yes else "no"


def _lies_it(scene: Scene, draws: Draws) -> Pair | None:
    """Asks whether an object lies where it does, or on the other side."""
    asked = _related_pair(scene, draws)
    if asked is None:
        return None
    a, kind, other = asked
    ways = unique(scene, a)
    if not ways:
        return None
    yes = draws.below(2)
    said = draws.choice(RELATIONS[kind if yes else _OPPOSITES[kind]])
    return f"is the {draws.choice(ways)} {said} the {other}", "yes" if yes else "no"


def _what_lies(scene: Scene, draws: Draws) -> Pair | None:
    """Asks for the shape or the colour of the only object that lies somewhere."""
    asked = _related_pair(scene, draws)
    if asked is None:
        return None
    a, kind, other = asked
    said = draws.choice(RELATIONS[kind])
    own = scene.objects[a]
    if draws.below(2):
        return f"what is {said} the {other}", SHAPES[own.shape]
    return f"what colour is the shape {said} the {other}", COLOURS[own.colour]


def _related_pair(scene: Scene, draws: Draws) -> tuple[int, str, str] | None:
    """An object, how it lies, and words for what it is seen from; nothing else lies so."""
    count = len(scene.objects)
    a, b = (
        draws.choice(scene.pairs)[:: draws.choice((1, -1))]
        if scene.pairs and draws.below(3) == 0
        else (draws.below(count), draws.below(count))
    )
    kinds = clear_relations(scene, a, b) if a != b else []
    ways = unique(scene, b)
    if not kinds or not ways:
        return None
    kind = draws.choice(kinds)
    if any(_may_lie(scene, c, kind, b) for c in range(count) if c not in (a, b)):
        return None
    return a, kind, draws.choice(ways)


def _may_lie(scene: Scene, a: int, kind: str, b: int) -> bool:
    """Whether somebody might say so, if not clearly."""
    one, other = scene.objects[a], scene.objects[b]
    if kind == "front":
        return scene.hides[a] == b
    if kind == "behind":
        return scene.hides[b] == a
    ahead = {
        "left": other.x - one.x,
        "right": one.x - other.x,
        "above": other.y - one.y,
        "below": one.y - other.y,
    }
    return ahead[kind] > 0


_KINDS: tuple[Callable[[Scene, Draws], Pair | None], ...] = (
    *[_how_many] * 4, *[_what_colour] * 4, *[_which_shape] * 3, _what_size, *[_is_there] * 3,
    *[_lies_it] * 12, *[_what_lies] * 20,
)  # fmt: skip
"""Kinds of questions, as often as they are tried."""
