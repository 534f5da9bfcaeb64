"""Wrappers around weights: keys of a checkpoint, and text before the names."""

import types

import numpy as np
import pytest

from interop.test_weights import SHAPE, STATE, TINY, written
from rcnn_jax.errors import UserError
from rcnn_jax.experiment import starting_weights
from rcnn_jax.interop import naming, torch_files, weights
from rcnn_jax.models.squeezenet import SqueezeNet
from rcnn_jax.training import parameters

pytestmark = pytest.mark.one_row

NET = SqueezeNet(4, **TINY)
PREFIXES = (
    "module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "net.",
    "backbone.", "encoder.", "model.backbone.cnn.", "state_dict/", "anything at all.",
)  # fmt: skip


def read(path):
    return weights.variables(path, NET, SHAPE, "squeezenet")["params"]


@pytest.fixture(scope="module")
def wanted(tmp_path_factory):
    return read(written(tmp_path_factory.mktemp("plain"), ".npz", STATE))


def assert_same(found, wanted):
    found, wanted = parameters.flatten(found), parameters.flatten(wanted)
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array)


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("kind", [".npz", ".safetensors"])
def test_a_common_prefix_is_removed(tmp_path, wanted, prefix, kind):
    named = {prefix + name: array for name, array in STATE.items()}
    assert_same(read(written(tmp_path, kind, named)), wanted)


def test_a_wrapper_in_the_middle_is_removed(tmp_path, wanted):
    """As DataParallel around a part of the network leaves it."""
    named = {name.replace("features.", "features.module."): a for name, a in STATE.items()}
    assert_same(read(written(tmp_path, ".npz", named)), wanted)


def test_our_own_names_behind_a_prefix(tmp_path, wanted):
    for prefix in ("cnn/", "params/cnn/", "model."):
        named = {prefix + name: array for name, array in parameters.flatten(wanted).items()}
        assert_same(read(written(tmp_path, ".npz", named)), wanted)


@pytest.mark.parametrize("prefix", ["model.", "module.", ""])
def test_what_stands_beside_a_prefix_is_named(tmp_path, prefix):
    named = {prefix + name: array for name, array in STATE.items()}
    named["loss_fn.weight"] = np.ones(3, np.float32)
    named["n_averaged"] = np.array(3)  # what torch's AveragedModel counts
    named[f"{prefix}aux.weight"] = np.ones(3, np.float32)
    path = written(tmp_path, ".npz", named)
    with pytest.raises(UserError) as error:
        read(path)
    shown = "aux.weight" if prefix == "module." else f"{prefix}aux.weight"
    assert str(error.value) == (
        f"the weights in {str(path)!r} do not fit: it has unexpected loss_fn.weight, {shown}."
    )


def test_two_networks_in_one_file(tmp_path, capsys):
    both = {f"{p}.{n}": a for p in ("student", "teacher") for n, a in STATE.items()}
    with pytest.raises(UserError, match=r"several networks .* behind 'student\.' and 'teacher\.'"):
        read(written(tmp_path, ".npz", both))
    averaged = {f"{p}.{n}": a for p in ("model_ema", "model") for n, a in STATE.items()}
    with pytest.raises(UserError, match=r"unexpected model_ema\.features\.0\.weight, .* 47 more\."):
        read(written(tmp_path, ".npz", averaged))
    assert "behind 'model.' are taken, and not those behind 'model_ema.'" in capsys.readouterr().err
    twice = STATE | {f"model.{name}": array for name, array in STATE.items()}
    with pytest.raises(UserError, match=r"unexpected model\.features\.0\.weight, "):
        read(written(tmp_path, ".npz", twice))


def test_names_for_the_same_array(tmp_path):
    ours = {"conv1/kernel": np.zeros((7, 7, 3, 3), np.float32)}
    with pytest.raises(UserError, match=r"both 'features\.0\.weight' and 'conv1/kernel' belong to"):
        read(written(tmp_path, ".npz", STATE | ours))


def test_beginnings_that_cannot_be_removed_are_shown(tmp_path):
    """No separator behind it, or another one for every part."""
    for change in (lambda name: f"net_{name}", lambda name: f"{name[:10]}x.{name}"):
        named = {change(name): array for name, array in STATE.items()}
        with pytest.raises(UserError) as error:
            read(written(tmp_path, ".npz", named))
        text = str(error.value)
        assert "it lacks params/" in text
        assert text.count("and 47 more") <= 2
        assert len(text) < 900
    named = {f"net_{name}": array for name, array in STATE.items()}
    with pytest.raises(UserError, match=r"such as net_features\.0\.\S+ for features\.0\.\S+: r"):
        read(written(tmp_path, ".npz", named))


# What follows needs no torch: tensors are arrays here, and files are read by other tests.


def chosen(content, warn=lambda text: None):
    def known(names):
        fits = naming.best(tuple(names), ("squeezenet",))
        return fits[0].known if fits else 0

    def is_array(value):
        return isinstance(value, np.ndarray)

    return torch_files.state_dict_in(content, is_array, known, warn)


OTHER = {"fc.weight": np.zeros(3), "fc.bias": np.zeros(3)}
MOMENTS = {"state": {0: {"exp_avg": np.zeros(3), "step": np.zeros(())}}, "param_groups": []}


@pytest.mark.parametrize(
    "content",
    [
        STATE,
        *({key: STATE, "epoch": 3, "loss": 0.4} for key in (
            "state_dict", "model", "model_state_dict", "net", "network", "module", "params", "ema",
            "weights", "backbone", "whatever",
        )),
        {"state_dict": STATE, "optimizer": MOMENTS},
        {"optimizer_states": [MOMENTS], "whatever": STATE, "loss": np.zeros(())},
        {"model": {"state_dict": STATE}, "epoch": 1},
        {"state": {"network": {"weights": STATE}}},
        # The names decide before the keys.
        {"state_dict": OTHER, "other": STATE},
        {"head": OTHER, "body": STATE},
        {"ema": STATE, "state_dict": OTHER},
        {"model": {"backbone": STATE, "head": OTHER}},
    ],
)  # fmt: skip
def test_the_state_dict_of_a_checkpoint_is_found(content):
    warned = []
    assert chosen(content, warned.append) is STATE
    assert not warned


@pytest.mark.parametrize(
    ("content", "taken", "left"),
    [
        ({"state_dict_ema": {}, "state_dict": {}}, "['state_dict']", "['state_dict_ema']"),
        ({"params_ema": {}, "params": {}}, "['params']", "['params_ema']"),
        ({"model": {}, "model_ema": {}, "ema": {}}, "['model']", "['model_ema'], ['ema']"),
        ({"ema": {"model": {}}, "student": {}}, "['student']", "['ema']['model']"),
        ({"teacher": {}, "state_dict": {}}, "['state_dict']", "['teacher']"),
    ],
)
def test_of_weights_and_their_average_the_plain_ones_are_taken(content, taken, left):
    def filled(value):
        return {key: filled(v) for key, v in value.items()} if value else dict(STATE)

    content, warned = {key: filled(value) for key, value in content.items()}, []
    found = chosen(content | {"epoch": 3}, warned.append)
    assert found is content[taken[2:-2]]
    assert warned == [f"holds several sets of weights: {taken} is taken, and not {left}"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([np.zeros(2)], "it holds a list and no state dict"),
        ({}, "an empty dict"),
        ({"epoch": 3}, "'epoch' is no tensor"),
        ({"epoch": 3, "w": np.zeros(2)}, "'epoch' is no tensor"),
        ({"epoch": 3, **STATE, "optimizer": MOMENTS}, "'epoch' is no tensor"),
        (
            {"a": dict(STATE), "b": dict(STATE)},
            r"fit, \['a'\], \['b'\]: .*checkpoint\['a'\], ",
        ),
        (
            {"gan": OTHER, "critic": OTHER},
            r"several .*, \['gan'\], \['critic'\]: save the one",
        ),
        ({f"net{n}": OTHER for n in range(9)}, r"\['net4'\] and 4 more: "),
    ],
)
def test_what_is_no_state_dict_or_several(content, says):
    with pytest.raises(ValueError, match=says):
        chosen(content)


def test_through_a_file_of_torch(tmp_path, wanted, capsys):
    torch = pytest.importorskip("torch")
    tensors = {f"module.model.{name}": torch.from_numpy(a) for name, a in STATE.items()}
    tensors["module.model.n.num_batches_tracked"] = torch.tensor(3)
    others = {name: tensor + 1 for name, tensor in tensors.items()}
    for name in ("w.pth", "w.pth.tar", "w.ckpt", "w.PT", "w.bin"):
        torch.save({"epoch": 3, "state_dict_ema": others, "state_dict": tensors}, tmp_path / name)
        assert_same(read(tmp_path / name), wanted)
        warning = capsys.readouterr().err
        assert f"{name}' holds several sets of weights: ['state_dict'] is taken" in warning
        assert warning.count("\n") == 1


def start(path, into, shapes):
    config = types.SimpleNamespace(
        init_from=str(path), init_into=into, init_include=(".*",),
        data=types.SimpleNamespace(preprocess="reverse_channels"),
    )  # fmt: skip
    state = types.SimpleNamespace(params=shapes, model_state={})
    return starting_weights.read(config, state)


@pytest.mark.parametrize("into", ["", "cnn"])
def test_a_run_starts_from_weights_behind_a_prefix(tmp_path, wanted, into, capsys):
    """By torch's names and by our own; and is told that its pixels are not torchvision's."""
    shapes = {into: wanted} if into else wanted
    own = parameters.flatten(wanted)
    for named in (STATE, own):
        named = {f"whole.model.{name}": array for name, array in named.items()}
        named["loss_fn.weight"] = np.ones(3, np.float32)
        taken = start(written(tmp_path, ".npz", named), into, shapes)
        assert taken.keys() == {f"params/{into}/{name}".replace("//", "/") for name in own}
        for name, array in own.items():
            np.testing.assert_array_equal(taken[f"params/{into}/{name}".replace("//", "/")], array)
        told = "were trained by torchvision on pixels that" in capsys.readouterr().err
        assert told == ("whole.model.features.0.weight" in named)


def test_a_run_that_lacks_weights_is_told_a_few_names(tmp_path):
    named = {f"layer{n}.weight": np.zeros(2, np.float32) for n in range(60)}
    path = written(tmp_path, ".npz", named)
    with pytest.raises(
        UserError, match=r"init_from=.* does not fit: it has no conv1/bias"
    ) as error:
        start(path, "", {"conv1": {"bias": np.zeros(3), "kernel": np.zeros((3, 3))}})
    assert "layer4.weight and 55 more" in str(error.value)
    assert "layer5" not in str(error.value)
