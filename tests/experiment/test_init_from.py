"""Weights of a file into a part of a larger model: what fits, and what is said of the rest."""

import functools
import types

import flax.linen as nn
import jax
import numpy as np
import pytest

from rcnn_jax.errors import UsageError, UserError
from rcnn_jax.models.efficientnet_lite import EfficientNetLite
from rcnn_jax.training import initial
from rcnn_jax.training.checkpoints import reading

pytestmark = pytest.mark.one_row

RNG = np.random.default_rng(0)
TINY = {"stages": ((1, 3, 1, 1, 4),), "stem": 4, "head": 6}


class Larger(nn.Module):
    """A backbone and a layer of its own."""

    @nn.compact
    def __call__(self, x, *, train):
        x = EfficientNetLite(0, **TINY, name="backbone")(x, train=train)
        return nn.Dense(2, name="own")(x)


def shapes(model):
    x = np.zeros((1, 8, 8, 3), np.float32)
    return jax.eval_shape(functools.partial(model.init, train=False), jax.random.key(0), x)


@functools.cache
def state():
    """What is read of a training state: parameters and statistics."""
    variables = dict(shapes(Larger()))
    return types.SimpleNamespace(params=variables.pop("params"), model_state=variables)


@functools.cache
def found():
    """By the paths of the backbone alone, its last layer among them."""
    flat = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes(EfficientNetLite(3, **TINY))):
        name = "/".join(key.key for key in path)
        name = name if name.startswith("params/") else f"model_state/{name}"
        flat[name] = RNG.normal(size=leaf.shape).astype(np.float32)
    return flat


def test_a_part_takes_its_weights_and_statistics():
    chosen = initial.read_for(state(), found(), "w.pth", (".*",), "backbone")
    expected = {
        name.replace("params/", "params/backbone/").replace(
            "batch_stats/", "batch_stats/backbone/"
        ): array
        for name, array in found().items()
        if "/head/" not in name
    }
    assert chosen.keys() == expected.keys()
    assert {name.split("/")[0] for name in chosen} == {"params", "model_state"}
    for name, array in expected.items():
        np.testing.assert_array_equal(chosen[name], array)


def test_patterns_are_those_of_the_whole_model():
    chosen = initial.read_for(state(), found(), "w.pth", ("backbone/stem.*",), "backbone")
    assert set(chosen) == {
        "params/backbone/stem/kernel",
        "params/backbone/stem_norm/scale",
        "params/backbone/stem_norm/bias",
        "model_state/batch_stats/backbone/stem_norm/mean",
        "model_state/batch_stats/backbone/stem_norm/var",
    }
    with pytest.raises(UsageError, match=r"init_include.*'own/.*' matches the whole path of no"):
        initial.read_for(state(), found(), "w.pth", ("own/.*",), "backbone")


def test_what_does_not_fit_is_said():
    with pytest.raises(UsageError, match=r"init_into='backbon' is no part .*mean 'backbone'\?"):
        initial.read_for(state(), found(), "w.pth", (".*",), "backbon")
    fits = r"'w\.pth' does not fit: it has no backbone/block1.*: --config\.init_into=backbone\."
    with pytest.raises(UserError, match=fits):
        initial.read_for(state(), found(), "w.pth", (".*",))
    with pytest.raises(UserError, match=r"does not fit.* is to be taken in config\.init_include"):
        initial.read_for(state(), {"params/other/kernel": np.zeros(3)}, "w.pth", (".*",))
    other = found() | {"params/stem/kernel": np.zeros((3, 3, 3, 8), np.float32)}
    with pytest.raises(UserError, match=r"backbone/stem/kernel has shape \(3, 3, 3, 8\) there"):
        initial.read_for(state(), other, "w.pth", (".*",), "backbone")


def without_statistics():
    return {name: array for name, array in found().items() if name.startswith("params/")}


def test_weights_without_their_statistics_are_refused():
    says = (
        r"'w\.npz' has the parameters of layers without .*model_state/batch_stats/backbone/.*more"
    )
    with pytest.raises(UserError, match=says):
        initial.read_for(state(), without_statistics(), "w.npz", (".*",), "backbone")
    name = "model_state/batch_stats/stem_norm/mean"
    with pytest.raises(UserError, match=r"stem_norm/mean has shape \(9,\) there and \(4,\) here"):
        initial.read_for(state(), found() | {name: np.zeros(9)}, "w.npz", (".*",), "backbone")


def test_who_names_the_parameters_may_collect_statistics_anew(capsys):
    chosen = initial.read_for(state(), without_statistics(), "w.npz", ("backbone/.*",), "backbone")
    assert {name.split("/")[0] for name in chosen} == {"params"}
    warning = capsys.readouterr().err
    assert "warning: config.init_from='w.npz' has the parameters of layers without" in warning
    assert "backbone/stem_norm/mean" in warning or "more)" in warning
    # Layers that are left out need none.
    initial.read_for(state(), without_statistics(), "w.npz", ("backbone/stem/kernel",), "backbone")
    assert not capsys.readouterr().err


def test_statistics_of_a_normalization_without_parameters():
    """They come with the part of the model that is around it, if all of that is taken."""
    statistics = {"norm": {"mean": np.zeros(3), "var": np.ones(3)}}
    flat = {"params": {"net": {"dense": {"kernel": np.zeros((3, 3))}}, "own": np.zeros(1)}}
    part = types.SimpleNamespace(**flat, model_state={"batch_stats": {"net": statistics}})
    theirs = {
        "params/net/dense/kernel": np.ones((3, 3)),
        "model_state/batch_stats/net/norm/mean": np.ones(3),
        "model_state/batch_stats/net/norm/var": np.ones(3),
    }
    chosen = initial.read_for(part, theirs, "w.npz", ("net/.*",))
    assert chosen.keys() == theirs.keys()
    del theirs["model_state/batch_stats/net/norm/var"]
    with pytest.raises(UserError, match="model_state/batch_stats/net/norm/var"):
        initial.read_for(part, theirs | {"params/own": np.ones(1)}, "w.npz", (".*",))


FORK = """
import flax.linen as nn


class Backbone(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(5, name="head")(x.reshape(len(x), -1))


class Larger(nn.Module):
    classes: int = 10

    @nn.compact
    def __call__(self, x, *, train):
        return nn.Dense(self.classes, name="own")(Backbone(name="backbone")(x))


def get_config():
    return {
        "model": {"name": "fork:Larger"},
        "data": {"name": "digits", "preprocess": "to_float(16)", "residency": "memory"},
        "optimizer": {"groups": (("backbone/.*", 0.0),)},
        "steps": 1, "batch_size": 8, "evaluation_batch_size": 360,
        "init_from": "theirs.safetensors", "init_into": "backbone",
    }
"""


def test_a_run_starts_from_the_weights_of_another_framework(door, tmp_path):
    """By another's names and in its layout, frozen, so that they are there after a step."""
    from safetensors.numpy import save_file

    (tmp_path / "fork.py").write_text(FORK)
    theirs = {
        "_fc.weight": RNG.normal(size=(5, 64)).astype(np.float32),
        "_fc.bias": RNG.normal(size=5).astype(np.float32),
    }
    save_file(theirs, tmp_path / "theirs.safetensors")
    result = door("train", "--config=fork.py", "--workdir=run")
    assert result.returncode == 0, result.stderr
    there = reading.read_variables(tmp_path / "run" / "checkpoints", [])
    np.testing.assert_array_equal(there["params/backbone/head/kernel"], theirs["_fc.weight"].T)
    np.testing.assert_array_equal(there["params/backbone/head/bias"], theirs["_fc.bias"])
    result = door("train", "--config=fork.py", "--workdir=other", "--config.init_into=own")
    assert result.returncode == 1
    assert "'theirs.safetensors' does not fit: it has no own/bias" in result.stderr
    assert not (tmp_path / "other").exists()
