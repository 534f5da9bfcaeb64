"""The net for scenes: what it keeps of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.models.grid_net import GridNet

NET = GridNet(0, features=(4, 8), units=6, hidden=16)


def _answers(images: np.ndarray) -> np.ndarray:
    variables = jax.jit(lambda key, x: NET.init(key, x, train=False))(
        jax.random.key(0), jnp.asarray(images)
    )
    return np.asarray(jax.jit(lambda v, x: NET.apply(v, x, train=False))(variables, images))


def test_it_tells_apart_how_many_there_are_and_where() -> None:
    images = np.zeros((4, 32, 32, 3), np.float32)
    images[:3, 4:8, 4:8] = 1.0
    images[1, 20:24, 20:24] = 1.0  # a second one
    images[2] = np.roll(images[2], (8, 16), axis=(0, 1))  # the same one elsewhere
    images[3] = images[0]
    answers = _answers(images)
    # The rows of a product may be summed in different orders. The longest way to an answer is by
    # sums of 27, 36, 8, 256 and 24 terms, together 351 roundings of 2**-24, on numbers below 5.
    np.testing.assert_allclose(answers[0], answers[3], rtol=0, atol=1e-4)
    for other in (1, 2):
        assert np.abs(answers[0] - answers[other]).max() > 1e-3


def test_the_parameters_do_not_depend_on_the_size_of_the_image() -> None:
    def shapes(side: int) -> list[tuple[int, ...]]:
        made = jax.eval_shape(
            lambda: NET.init(jax.random.key(0), jnp.zeros((1, side, side, 3)), train=False)
        )
        return [leaf.shape for leaf in jax.tree.leaves(made["params"])]

    assert shapes(32) == shapes(48)
    assert (4 * 6, 16) in shapes(32)


@pytest.mark.parametrize("wrong", [{"features": ()}, {"units": 0}, {"hidden": 0}])
def test_impossible_sizes(wrong: dict) -> None:
    net = GridNet(2, **wrong)
    with pytest.raises(ValueError, match="at least 1 layer, 1 map, 1 hidden unit"):
        net.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)), train=False)
    with pytest.raises(ValueError, match=r"got shape \(8, 8, 3\)"):
        GridNet(2).init(jax.random.key(0), jnp.zeros((8, 8, 3)), train=False)
