"""What an encoder makes is held against what it promises."""

import numpy as np
import pytest

from rcnn_jax.data.encoders.base import EncodedSource
from rcnn_jax.data.sources import ArraySource
from rcnn_jax.data.spec import Feature

FEATURES = {"x": Feature((3,), "int32"), "label": Feature((), "int32", classes=2)}
WHOLE = {"x": np.arange(3, dtype=np.int64), "label": np.int32(1)}


@pytest.mark.parametrize(
    ("made", "says"),
    [
        # NumPy would repeat one number three times.
        ({"x": np.zeros(1, np.int32)}, r"int32\[1\] of feature 'x' of example 1.* int32\[3\]"),
        ({"x": np.zeros(4, np.int32)}, r"int32\[4\] of feature 'x' of example 1"),
        # NumPy would cut off what is behind the point.
        ({"x": np.full(3, 0.5)}, r"float64\[3\] of feature 'x' of example 1"),
        ({"label": np.int32(2)}, "made 2 of feature 'label' of example 1, allowed are 0 to 1"),
    ],
)
def test_another_shape_type_or_class_is_named(made, says):
    source = ArraySource({"n": np.arange(3)})
    encoded = EncodedSource(source, lambda e, i: WHOLE | (made if i else {}), FEATURES)
    batch = encoded.gather(np.array([0]))
    assert batch["x"].tolist() == [[0, 1, 2]]
    assert batch["x"].dtype == np.int32
    for read in (lambda: encoded[1], lambda: encoded.gather(np.arange(2)), encoded.in_memory):
        with pytest.raises(ValueError, match=says):
            read()
