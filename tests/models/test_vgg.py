"""VGG: the published totals, its structure against loops and torch, and what is impossible."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from layers import oracles
from rcnn_jax.interop import weights
from rcnn_jax.models import vgg

RNG = np.random.default_rng(0)
KEY = np.zeros(2, np.uint32)
TINY = {"depth": 11, "width": 2, "hidden": 6}


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize(
    ("make", "features", "without_last", "whole"),
    [
        (vgg.vgg11, 9_220_480, 128_766_336, 132_863_336),
        (vgg.vgg13, 9_404_992, 128_950_848, 133_047_848),
        (vgg.vgg16, 14_714_688, 134_260_544, 138_357_544),
        (vgg.vgg19, 20_024_384, 139_570_240, 143_667_240),
    ],
)
def test_published_totals(make, features, without_last, whole):
    def made(classes):
        call = functools.partial(make(classes=classes).init_with_output, train=False)
        return jax.eval_shape(call, KEY, jnp.zeros((1, 224, 224, 3)))

    logits, variables = made(1000)
    described, cut = made(0)
    assert (logits.shape, described.shape) == ((1, 1000), (1, 4096))
    assert count(variables) == whole
    assert count(cut) == without_last
    assert count(variables["params"]["features"]) == features


def random_state(sizes=((7, 5),), classes=5):
    """Weights by torchvision's names; the first dense layer reads maps of `sizes` pixels."""
    (rows, columns), state, maps, place = sizes[0], {}, 3, 0
    for block, convolutions in enumerate(vgg.CONVOLUTIONS[11]):
        for _ in range(convolutions):
            out = 2 * (1, 2, 4, 8, 8)[block]
            state[f"features.{place}.weight"] = RNG.normal(size=(out, maps, 3, 3)) / 3
            state[f"features.{place}.bias"] = RNG.normal(size=out) / 3
            maps, place = out, place + 2
        place += 1
    for place, (units, inputs) in zip(
        (0, 3, 6), ((6, maps * rows * columns), (6, 6), (classes, 6)), strict=True
    ):
        state[f"classifier.{place}.weight"] = RNG.normal(size=(units, inputs)) / 2
        state[f"classifier.{place}.bias"] = RNG.normal(size=units) / 2
    return state


def ours(state):
    """The same as parameters."""
    tree = {}
    for path, array in weights.renamed(state, ("vgg11",)).arrays.items():
        *parents, leaf = path.removeprefix("params/").split("/")
        functools.reduce(lambda place, name: place.setdefault(name, {}), parents, tree)[leaf] = (
            array
        )
    return tree


def by_loops(params, x, last):
    for block, convolutions in enumerate(vgg.CONVOLUTIONS[11], start=1):
        for number in range(1, convolutions + 1):
            layer = params["features"][f"conv{block}_{number}"]
            x = oracles.relu(oracles.conv(x, layer["kernel"]) + layer["bias"])
        pads = [(0, n % 2) for n in x.shape[1:3]]
        x, _ = oracles.max_pool(x, (2, 2), (2, 2), pads)
    x = x.reshape(len(x), -1)
    for name in ("fc6", "fc7"):
        x = oracles.relu(x @ params[name]["kernel"] + params[name]["bias"])
    return x @ params["fc8"]["kernel"] + params["fc8"]["bias"] if last else x


def test_the_net_is_its_definition(x64):
    params, x = ours(random_state(((2, 1),))), RNG.normal(size=(2, 37, 32, 3))
    calls = [
        functools.partial(vgg.VGG(classes, **TINY, param_dtype="float64").apply, train=False)
        for classes in (5, 0)
    ]
    whole, cut = jax.jit(lambda v, x: [call(v, x) for call in calls])({"params": params}, x)
    np.testing.assert_allclose(whole, by_loops(params, x, True), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(cut, by_loops(params, x, False), rtol=1e-9, atol=1e-12)
    assert cut.min() == 0 < cut.max()


def test_weights_of_torch_compute_what_they_do_there(x64):
    """With 2x2 maps before the first dense layer, which torch reads map by map."""
    torch = pytest.importorskip("torch")
    state, x = random_state(((2, 2),)), RNG.normal(size=(2, 64, 64, 3))
    theirs = {name: torch.from_numpy(value) for name, value in state.items()}
    y = torch.from_numpy(x.transpose(0, 3, 1, 2).copy())
    place = 0
    for convolutions in vgg.CONVOLUTIONS[11]:
        for _ in range(convolutions):
            weight, bias = (theirs[f"features.{place}.{part}"] for part in ("weight", "bias"))
            y = torch.relu(torch.nn.functional.conv2d(y, weight, bias, padding=1))
            place += 2
        y, place = torch.nn.functional.max_pool2d(y, 2, 2), place + 1
    y = y.flatten(1)
    for place in (0, 3, 6):
        y = y if place == 0 else torch.relu(y)
        weight, bias = (theirs[f"classifier.{place}.{part}"] for part in ("weight", "bias"))
        y = torch.nn.functional.linear(y, weight, bias)
    net = vgg.VGG(5, **TINY, param_dtype="float64")
    logits = jax.jit(functools.partial(net.apply, train=False))({"params": ours(state)}, x)
    np.testing.assert_allclose(logits, y.numpy(), rtol=1e-9, atol=1e-12)


def test_the_first_dense_layer_reads_place_by_place():
    """Columns `[map, row, column]` of 3 maps of 2x2 become rows `[row, column, map]`."""
    theirs = np.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2)
    turned = weights.layout_of(theirs.reshape(2, -1), "dense_of_maps", 3)
    assert turned.shape == (12, 2)
    for unit, m, row, column in np.ndindex(theirs.shape):
        assert turned[(row * 2 + column) * 3 + m, unit] == theirs[unit, m, row, column]


@pytest.mark.parametrize(
    ("attributes", "shape", "message"),
    [
        ({}, (8, 8, 3), r"got shape \(8, 8, 3\)"),
        ({"depth": 12}, (1, 8, 8, 3), "11, 13, 16, 19 layers.*depth=12"),
        ({"width": 0}, (1, 8, 8, 3), "width=0"),
        ({"hidden": 0}, (1, 8, 8, 3), "hidden=0"),
        ({"classes": -1}, (1, 8, 8, 3), "classes=-1"),
        ({"dropout": 2.0}, (1, 8, 8, 3), r"\[0, 1\], got 2.0"),
    ],
)
def test_impossible_models(attributes, shape, message):
    model = vgg.VGG(**({"classes": 3} | TINY | attributes))
    keys = {"params": KEY, "dropout": KEY}
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(functools.partial(model.init, train=True), keys, jnp.zeros(shape))
