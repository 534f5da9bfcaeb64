"""Generates questions about a scene whose answer is one word and cannot be guessed.

Yes and no are drawn before the question is made, and a number before the kind of object to count.
The object that is asked about is described such that the words fit no other, and lies clearly in
the direction that is mentioned.
"""

from collections.abc import Callable

from rcnn_jax.data.datasets.draws import Draws
from rcnn_jax.data.datasets.shapes.captions import article, clear_relations, unique
from rcnn_jax.data.datasets.shapes.language import NUMBERS, RELATIONS, plural
from rcnn_jax.data.datasets.shapes.world import COLOURS, HELD_OUT, SHAPES, SIZES, Scene

ANSWERS = ("yes", "no", *NUMBERS, *COLOURS, *SHAPES, *SIZES)
"""All possible answers."""
_OPPOSITES = {
    "left": "right", "right": "left", "above": "below", "below": "above", "front": "behind",
    "behind": "front",
}  # fmt: skip

Pair = tuple[str, str]


def question(scene: Scene, draws: Draws) -> Pair:
    """Generates a question about a scene.

    Args:
        scene: Scene to ask about.
        draws: Random numbers of the example.

    Returns:
        The question, lower-case words without punctuation, and its answer.
    """
    while True:
        pair = draws.choice(_KINDS)(scene, draws)
        if pair is not None:
            return pair


def _how_many(scene: Scene, draws: Draws) -> Pair | None:
    """Asks for a number of objects."""
    if draws.below(6) == 0:
        return "how many shapes are there", NUMBERS[len(scene.objects)]
    values = [item.shape for item in scene.objects]
    things = [plural(noun) for noun in SHAPES]
    if draws.below(2):
        values = [item.colour for item in scene.objects]
        things = [f"{colour} shapes" for colour in COLOURS]
    numbers = [values.count(value) for value in range(len(things))]
    number = draws.choice(sorted(set(numbers)))
    thing = draws.choice([t for t, n in zip(things, numbers, strict=True) if n == number])
    return f"how many {thing} are there", NUMBERS[number]


def _what_colour(scene: Scene, draws: Draws) -> Pair | None:
    """Asks for the colour of an object."""
    index = draws.below(len(scene.objects))
    ways = unique(scene, index, without="colour")
    if not ways:
        return None
    return f"what colour is the {draws.choice(ways)}", COLOURS[scene.objects[index].colour]


def _which_shape(scene: Scene, draws: Draws) -> Pair | None:
    """Asks for the shape of an object."""
    index = draws.below(len(scene.objects))
    ways = unique(scene, index, without="shape")
    if not ways:
        return None
    return f"what is the {draws.choice(ways)}", SHAPES[scene.objects[index].shape]


def _what_size(scene: Scene, draws: Draws) -> Pair | None:
    """Asks for the size of an object."""
    size = draws.below(len(SIZES))
    indices = [index for index, item in enumerate(scene.objects) if item.size == size]
    ways = unique(scene, draws.choice(indices), without="size") if indices else []
    return (f"is the {draws.choice(ways)} small or large", SIZES[size]) if ways else None


def _is_there(scene: Scene, draws: Draws) -> Pair:
    """Asks for a shape and a colour that both occur in the scene, on one object or on two."""
    there = sorted({(item.shape, item.colour) for item in scene.objects})
    shapes, colours = ({pair[at] for pair in there} for at in (0, 1))
    yes = draws.below(2)
    pairs = there
    if not yes:
        pairs = sorted({(s, c) for s in shapes for c in colours} - set(there))
        if not pairs:
            # All shapes or all colours are equal, so one of the two must come from elsewhere.
            pairs = [(s, c) for s in shapes for c in range(len(COLOURS)) if c not in colours]
        # A pair that training never shows would reveal the answer.
        pairs = [pair for pair in pairs if scene.held_out or pair not in HELD_OUT] or [
            (s, c)
            for s in range(len(SHAPES))
            for c in range(len(COLOURS))
            if (s, c) not in HELD_OUT and (s, c) not in there
        ]
    shape, colour = draws.choice(pairs)
    return f"is there {article(f'{COLOURS[colour]} {SHAPES[shape]}')}", "yes" if yes else "no"


def _lies_it(scene: Scene, draws: Draws) -> Pair | None:
    """Asks whether an object lies where it does, or on the opposite side."""
    related = _related_pair(scene, draws)
    if related is None:
        return None
    a, kind, other = related
    ways = unique(scene, a)
    if not ways:
        return None
    yes = draws.below(2)
    relation = draws.choice(RELATIONS[kind if yes else _OPPOSITES[kind]])
    return f"is the {draws.choice(ways)} {relation} the {other}", "yes" if yes else "no"


def _what_lies(scene: Scene, draws: Draws) -> Pair | None:
    """Asks for the shape or the colour of the only object in some relation to another."""
    related = _related_pair(scene, draws)
    if related is None:
        return None
    a, kind, other = related
    relation = draws.choice(RELATIONS[kind])
    target = scene.objects[a]
    if draws.below(2):
        return f"what is {relation} the {other}", SHAPES[target.shape]
    return f"what colour is the shape {relation} the {other}", COLOURS[target.colour]


def _related_pair(scene: Scene, draws: Draws) -> tuple[int, str, str] | None:
    """Returns an object, a relation that no other object has, and words for what it relates to."""
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
    """Returns whether an object might be said to be in a relation, even if not clearly."""
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
"""Kinds of questions, repeated in proportion to how often they are tried."""
