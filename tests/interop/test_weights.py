"""Weight files: every format gives the same arrays, and what does not fit is named."""

import functools
import pickle
import re
import sys

import jax
import numpy as np
import pytest

from rcnn_jax.errors import UserError
from rcnn_jax.interop import weights
from rcnn_jax.interop.backbone_names import NAMES
from rcnn_jax.models.squeezenet import SqueezeNet

RNG = np.random.default_rng(0)
TINY = {"squeezes": (2,) * 8, "stem_features": 3, "stem_padding": 3}
SHAPE = (1, 8, 8, 3)


def state(classes=4):
    """Weights of a narrow SqueezeNet by torchvision's names and in its layout."""
    net = SqueezeNet(classes, **TINY)
    shapes = jax.eval_shape(
        functools.partial(net.init, train=False), np.zeros(2, np.uint32), np.zeros(SHAPE, "f4")
    )["params"]
    found = {}
    for name, (path, layout) in NAMES["squeezenet"][0].items():
        _, layer, leaf = path.split("/")
        size = shapes[layer][leaf].shape
        size = (size[3], size[2], *size[:2]) if layout == "convolution" and len(size) == 4 else size
        found[name] = RNG.normal(size=size).astype(np.float32)
    return found


STATE = state()


def written(folder, kind, arrays):
    path = folder / f"weights{kind}"
    if kind == ".npz":
        np.savez(path, **arrays)
    elif kind == ".safetensors":
        from safetensors.numpy import save_file

        # Some releases write the memory of strided views as it lies.
        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
    else:
        torch = pytest.importorskip("torch")
        tensors = {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        # Strides of another order, as some people's files have them.
        tensors = {
            name: t.to(memory_format=torch.channels_last) if t.ndim == 4 else t
            for name, t in tensors.items()
        }
        torch.save({"state_dict": {f"module.{n}": t for n, t in tensors.items()}}, path)
    return path


@pytest.mark.parametrize("kind", weights.SUFFIXES)
def test_every_format_gives_the_same_arrays(tmp_path, kind):
    found = weights.read(written(tmp_path, kind, STATE))
    assert list(found) == list(STATE) or set(found) == set(STATE)
    for name, array in STATE.items():
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_variables_of_a_net_with_and_without_its_last_layer(tmp_path):
    path = written(tmp_path, ".npz", STATE)
    whole = weights.variables(path, SqueezeNet(4, **TINY), SHAPE, "squeezenet")
    cut = weights.variables(path, SqueezeNet(0, **TINY), SHAPE, "squeezenet")
    kernel = whole["params"]["fire2_expand3x3"]["kernel"]
    theirs = STATE["features.3.expand3x3.weight"]
    assert kernel.shape == (3, 3, 2, 8)
    for place in np.ndindex(kernel.shape):
        row, column, channel, feature = place
        assert kernel[place] == theirs[feature, channel, row, column]
    assert whole["params"].keys() - cut["params"].keys() == {"conv10"}


def test_our_own_names_stand_for_themselves(tmp_path):
    arrays = weights.renamed(STATE).arrays
    short = {name.removeprefix("params/"): array for name, array in arrays.items()}
    path = written(tmp_path, ".npz", short)
    again = weights.renamed(weights.read(path)).arrays
    assert again.keys() == arrays.keys()
    cut = weights.variables(path, SqueezeNet(0, **TINY), SHAPE, "squeezenet")
    np.testing.assert_array_equal(cut["params"]["conv1"]["bias"], short["conv1/bias"])


def test_the_names_of_the_net_are_told_from_those_of_its_relatives():
    whole = {name: np.zeros((2, 2, 1, 1), "f4") for name in NAMES["vgg19"][0]}
    arrays = weights.renamed(whole).arrays
    assert "params/features/conv5_4/kernel" in arrays
    assert "params/fc8/bias" in arrays


def test_what_does_not_fit_is_listed_by_name(tmp_path):
    arrays = dict(STATE)
    for name in list(arrays)[:7]:
        del arrays[name]
    arrays["features.10.squeeze.weight"] = np.zeros((2, 16, 2, 2), np.float32)
    arrays["ema.decay"] = np.zeros(3, np.float32)
    arrays["features.12.squeeze.bias"] = np.full(2, np.nan, np.float32)
    path = written(tmp_path, ".npz", arrays)
    with pytest.raises(UserError) as error:
        weights.variables(path, SqueezeNet(0, **TINY), SHAPE, "squeezenet")
    text = str(error.value)
    assert "it lacks params/conv1/bias, params/conv1/kernel" in text
    assert re.search(r"it lacks (params/\w+/\w+, ){4}params/\w+/\w+ and 2 more;", text)
    assert "it has unexpected ema.decay;" in text
    assert (
        "features.10.squeeze.weight for params/fire8_squeeze/kernel has 2x2x16x2 and should have "
        "1x1x16x2" in text
    )
    assert "not finite are features.12.squeeze.bias." in text


def test_a_last_layer_of_another_net_is_no_excuse(tmp_path):
    """What is left over must be the layer that was left out, not just anything."""
    arrays = STATE | {
        "classifier.1.weight": STATE["classifier.1.weight"],
        "head.weight": np.ones(3),
    }
    path = written(tmp_path, ".npz", arrays)
    with pytest.raises(UserError, match=r"unexpected head\.weight\."):
        weights.variables(path, SqueezeNet(0, **TINY), SHAPE, "squeezenet")


@pytest.mark.parametrize("kind", weights.SUFFIXES)
@pytest.mark.parametrize("content", [b"", b"not a file of weights", None])
def test_a_damaged_file_ends_in_one_sentence(tmp_path, kind, content):
    if kind in (".pt", ".pth"):
        pytest.importorskip("torch")
    path = written(tmp_path, kind, STATE)
    path.write_bytes(path.read_bytes()[:-700] if content is None else content)
    with pytest.raises(UserError, match="cannot be read: "):
        weights.read(path)


@pytest.mark.parametrize(
    ("name", "package", "says"),
    [
        ("w.pth", "torch", r"needs torch .*numpy\.savez"),
        ("w.safetensors", "safetensors", r"pip install 'rcnn-jax\[weights\]'"),
    ],
)
def test_a_package_that_is_not_installed_is_named(tmp_path, monkeypatch, name, package, says):
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(UserError, match=says):
        weights.read(tmp_path / name)


class Acts:
    def __reduce__(self):
        return (open, ("acted", "w"))


def test_nothing_in_a_file_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch = pytest.importorskip("torch")
    torch.save({"weight": torch.zeros(2), "x": Acts()}, "a.pth")
    np.savez("b.npz", x=np.array([Acts()], object), allow_pickle=True)
    (tmp_path / "c.pth").write_bytes(pickle.dumps({"x": Acts()}))
    for name in ("a.pth", "b.npz", "c.pth"):
        with pytest.raises(UserError, match="cannot be read"):
            weights.read(tmp_path / name)
    assert not (tmp_path / "acted").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.npz", None, "there is no weight file"),
        ("weights.caffemodel", b"x", r"read from \.npz, \.safetensors, \.pt, .* files, got"),
        ("empty.npz", {}, "holds no weights"),
    ],
)
def test_other_mistakes(tmp_path, name, content, message):
    path = tmp_path / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.savez(path, **content)
    with pytest.raises(UserError, match=message):
        weights.read(path)


def test_what_is_no_state_dict(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    torch.save({"epoch": 3, "w": torch.zeros(2)}, tmp_path / "run.pt")
    for name, message in (("list.pt", "holds a list"), ("run.pt", "'epoch' is no tensor")):
        with pytest.raises(UserError, match=message):
            weights.read(tmp_path / name)


def test_half_precision_becomes_float32_and_counters_are_left_out(tmp_path):
    torch = pytest.importorskip("torch")
    tensors = {
        "w": torch.tensor([1.5, -2.0], dtype=torch.bfloat16),
        "n.num_batches_tracked": torch.tensor(3),
    }
    torch.save(tensors, tmp_path / "w.pt")
    from safetensors.torch import save_file

    save_file(tensors, tmp_path / "w.safetensors")
    for name in ("w.pt", "w.safetensors"):
        found = weights.read(tmp_path / name)
        np.testing.assert_array_equal(found["w"], np.array([1.5, -2], np.float32), strict=True)
        assert list(found) == ["w"]
