"""What a config names is built with arguments that are there and of their type."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import pytest

from rcnn_jax import importing
from rcnn_jax.errors import UsageError


@dataclasses.dataclass
class Net:
    classes: int
    scale: float = 1.0
    norm: str | None = None
    sizes: Sequence[int] = (3, 3)
    pairs: tuple[tuple[str, float], ...] = ()
    wide: bool = False
    remat: bool | str = False
    other: Any = None
    dtype: "str" = "float32"


def preset(classes: int, scale: float = 2.0, **attributes: Any) -> Net:
    return Net(classes=classes, scale=scale, **attributes)


def bare(classes, **attributes):
    return Net(classes, **attributes)


NAME = f"{__name__}:"


def build(name="Net", **keys):
    return importing.build({"name": NAME + name, "classes": 3} | keys, "config.model")


@pytest.mark.parametrize(
    "keys",
    [
        {"scale": 2},
        {"scale": 0.5, "norm": None},
        {"norm": "batch", "sizes": [5, 5]},
        {"sizes": (), "pairs": (("a", 1), ("b", 0.5))},
        {"wide": True, "remat": "chunks"},
        {"remat": True, "other": {"any": object}},
        {"dtype": "bfloat16"},
    ],
)
def test_values_of_their_type_are_taken(keys):
    made = build(**keys)
    assert all(getattr(made, key) == value for key, value in keys.items())
    assert isinstance(made.scale, float)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"classes": "ten"}, "config.model.classes='ten': .*:Net takes a value of type int"),
        ({"classes": 2.0}, "classes=2.0"),
        ({"classes": True}, "classes=True"),
        ({"scale": "half"}, "scale='half'.*float"),
        ({"scale": False}, "scale=False"),
        ({"norm": 3}, r"norm=3.*str \| None"),
        ({"sizes": 3}, r"sizes=3.*Sequence\[int\]"),
        ({"sizes": "33"}, "sizes='33'"),
        ({"sizes": (3, "3")}, "sizes="),
        ({"wide": 1}, "wide=1.*bool"),
        ({"remat": 1.0}, "remat=1.0"),
        ({"dtype": None}, "dtype=None"),
        ({"size": 3}, "no argument 'size': did you mean 'sizes'"),
    ],
)
def test_others_are_refused_in_one_sentence(keys, message):
    with pytest.raises(UsageError, match=message):
        build(**keys)


def test_a_preset_takes_what_its_class_takes():
    assert build("preset", norm="layer") == Net(classes=3, scale=2.0, norm="layer")
    given = importing.build(
        {"name": NAME + "preset", "classes": 3}, "config.model", dtype="x", no=1
    )
    assert given.dtype == "x"
    with pytest.raises(UsageError, match="no argument 'nrom': did you mean 'norm'"):
        build("preset", nrom="layer")
    with pytest.raises(UsageError, match="scale='a'"):
        build("preset", scale="a")
    # Without an annotation nothing is known of what it hands on.
    with pytest.raises(UsageError, match="no argument 'norm'"):
        build("bare", norm="layer")
