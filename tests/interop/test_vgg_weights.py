"""VGG weights have the right layout in whatever order, format and naming a file holds them."""

import functools
import types

import jax
import numpy as np
import pytest

from interop.vgg_states import expected, torch_state
from rcnn_jax.errors import UserError
from rcnn_jax.experiment import starting_weights
from rcnn_jax.interop import weights
from rcnn_jax.interop.backbone_names import NAMES
from rcnn_jax.models.vgg import VGG

pytestmark = pytest.mark.one_row

RNG = np.random.default_rng(0)
# 8 maps of 2x3 positions: with 48 units fc6 is square, and no shape says which way it lies.
SQUARE = 48
SHAPE = (1, 64, 96, 3)


def orders(names):
    """As saved, by name, backwards, with the head first, and at random."""
    names = list(names)
    yield names
    yield sorted(names)
    yield names[::-1]
    yield sorted(names, key=lambda name: name.startswith("features"))
    for _ in range(6):
        yield [str(name) for name in RNG.permutation(names)]


def assert_same(arrays, wanted):
    assert arrays.keys() == wanted.keys()
    for path, array in wanted.items():
        np.testing.assert_array_equal(arrays[path], array, strict=True)


@pytest.mark.parametrize("depth", [11, 13, 16, 19])
@pytest.mark.parametrize(("width", "hidden"), [(1, SQUARE), (2, 5)])
def test_every_order_gives_the_same_arrays(depth, width, hidden):
    state = torch_state(depth, width, hidden=hidden)
    wanted = expected(depth, state)
    for order in orders(state):
        shuffled = {name: state[name] for name in order}
        assert_same(weights.renamed(shuffled, (f"vgg{depth}",)).arrays, wanted)
        assert_same(weights.renamed(shuffled).arrays, wanted)


@pytest.mark.parametrize("naming", range(len(NAMES["vgg16"])))
def test_every_naming_gives_the_same_arrays(naming):
    """Of torchvision, Caffe, jcjohnson and timm, in whose files fc6 and fc7 are convolutions."""
    state = torch_state(16, hidden=SQUARE)
    wanted, theirs = expected(16, state), {}
    torch = {path: name for name, (path, _) in NAMES["vgg16"][0].items()}
    for name, (path, layout) in NAMES["vgg16"][naming].items():
        theirs[name] = state[torch[path]]
        if layout == "dense_as_convolution":
            grid = (2, 3) if path.startswith("params/fc6") else (1, 1)
            theirs[name] = theirs[name].reshape(len(theirs[name]), -1, *grid)
    for order in orders(theirs):
        assert_same(weights.renamed({name: theirs[name] for name in order}).arrays, wanted)


@pytest.mark.parametrize("kind", [".npz", ".safetensors", ".pt"])
def test_every_format_through_variables(tmp_path, kind):
    state, path = torch_state(11, hidden=SQUARE, classes=5), tmp_path / f"w{kind}"
    wanted = expected(11, state)
    model = VGG(classes=5, depth=11, width=1, hidden=SQUARE)
    for order in list(orders(state))[1:5]:
        shuffled = {name: state[name] for name in order}
        if kind == ".npz":
            np.savez(path, **shuffled)
        elif kind == ".safetensors":
            from safetensors.numpy import save_file

            save_file(shuffled, path)
        else:
            torch = pytest.importorskip("torch")
            torch.save({name: torch.from_numpy(a) for name, a in shuffled.items()}, path)
        found = weights.variables(path, model, SHAPE, "vgg11")["params"]
        for name, array in wanted.items():
            *parents, leaf = name.split("/")[1:]
            actual = functools.reduce(dict.__getitem__, parents, found)[leaf]
            np.testing.assert_array_equal(actual, array, strict=True)


@functools.cache
def shapes_of(model):
    init = functools.partial(model.init, train=False)
    return jax.eval_shape(init, jax.random.key(0), np.zeros(SHAPE, np.float32))["params"]


def taken(path, model, include=(".*",)):
    """What `config.init_from` takes for a model of its own."""
    config = types.SimpleNamespace(
        init_from=str(path),
        init_into="",
        init_include=include,
        data=types.SimpleNamespace(preprocess="to_float(255)"),
    )
    state = types.SimpleNamespace(params=shapes_of(model), model_state={})
    return starting_weights.read(config, state)


def test_a_run_starts_from_parts_of_a_file(tmp_path):
    """With another number of classes, without the last layer, and without the whole head."""
    state = torch_state(13, hidden=SQUARE)
    wanted, path = expected(13, state), tmp_path / "w.npz"
    model = VGG(classes=7, depth=13, width=1, hidden=SQUARE)
    trunk = {name: array for name, array in wanted.items() if "/fc8/" not in name}
    features = {name: array for name, array in trunk.items() if "/fc" not in name}
    for order in list(orders(state))[1:4]:
        np.savez(path, **{name: state[name] for name in order})
        assert_same(taken(path, model, ("features/.*", "fc[67]/.*")), trunk)
        np.savez(path, **{name: state[name] for name in order if "classifier.6" not in name})
        assert_same(taken(path, model, ("features/.*", "fc[67]/.*")), trunk)
        assert_same(taken(path, VGG(0, depth=13, width=1, hidden=SQUARE)), trunk)
        np.savez(path, **{name: state[name] for name in order if "features" in name})
        assert_same(taken(path, model, ("features/.*",)), features)


def test_a_head_without_the_convolution_before_it(tmp_path):
    """Its number of maps is that of the bias; without that it is unknown, though shapes may fit."""
    state = torch_state(11, hidden=SQUARE)
    wanted = expected(11, state)["params/fc6/kernel"]
    del state["features.18.weight"]
    found = weights.renamed(state).arrays["params/fc6/kernel"]
    np.testing.assert_array_equal(found, wanted)
    del state["features.18.bias"]
    with pytest.raises(UserError, match=r"'classifier\.0\.weight' in 'w' .*'features\.18\.weight'"):
        weights.renamed(state, origin="w")


def test_a_head_for_other_maps_is_never_taken_as_it_lies(tmp_path):
    """A kernel that was saved as inputs by units has the shape of ours, but not its order."""
    state = torch_state(11, hidden=6)
    state["classifier.0.weight"] = state["classifier.0.weight"].T.copy()  # 48x6
    np.savez(tmp_path / "w.npz", **state)
    model = VGG(classes=4, depth=11, width=1, hidden=6)
    with pytest.raises(UserError, match=r"classifier\.0\.weight for params/fc6/kernel has 6x48"):
        weights.variables(tmp_path / "w.npz", model, SHAPE, "vgg11")


def test_converted_arrays_can_be_saved_again(tmp_path):
    """Some releases of safetensors write the memory of transposed views as it lies."""
    from safetensors.numpy import load_file, save_file

    arrays = weights.renamed(torch_state(11)).arrays
    assert all(array.flags.c_contiguous for array in arrays.values())
    save_file(arrays, tmp_path / "w.safetensors")
    assert_same(load_file(tmp_path / "w.safetensors"), arrays)


def test_the_answers_of_torch(tmp_path):
    torch = pytest.importorskip("torch")
    from torch import nn

    layers, before = [], 3
    for maps in (2, 0, 4, 0, 8, 8, 0, 16, 16, 0, 16, 16, 0):
        if maps:
            layers += [nn.Conv2d(before, maps, 3, padding=1), nn.ReLU()]
            before = maps
        else:
            layers.append(nn.MaxPool2d(2, 2))
    net = nn.Module()
    net.features = nn.Sequential(*layers)
    net.classifier = nn.Sequential(
        nn.Linear(16 * 6, 96), nn.ReLU(), nn.Dropout(), nn.Linear(96, 96), nn.ReLU(), nn.Dropout(),
        nn.Linear(96, 5),
    )  # fmt: skip
    net.eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(3)
        x = torch.randn(2, 3, 64, 96)
        wanted = net.classifier(net.features(x).flatten(1)).numpy()
    state = {name: value.numpy() for name, value in net.state_dict().items()}
    np.savez(tmp_path / "w.npz", **{name: state[name] for name in sorted(state)})
    model = VGG(classes=5, depth=11, width=2, hidden=96)
    found = weights.variables(tmp_path / "w.npz", model, SHAPE, "vgg11")
    call = jax.jit(functools.partial(model.apply, train=False))
    answers = call(found, x.numpy().transpose(0, 2, 3, 1))
    np.testing.assert_allclose(answers, wanted, atol=1e-4 * np.abs(wanted).max())
