"""Backbones: what each answers, what it sees, and that its weights are known by every name."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rcnn_jax.data.files.photographs import Fit
from rcnn_jax.data.transforms import chain as transforms
from rcnn_jax.errors import UsageError
from rcnn_jax.interop import backbones
from rcnn_jax.interop.backbone_names import NAMES
from rcnn_jax.training import parameters

KEY = np.zeros(2, np.uint32)
PIXEL = np.array([10, 20, 30], np.uint8)
SEEN = {
    "vgg16": (30 - 103.939, 20 - 116.779, 10 - 123.68),
    "squeezenet": (30 - 104, 20 - 117, 10 - 123),
    "vgg16_torchvision": (
        (10 / 255 - 0.485) / 0.229, (20 / 255 - 0.456) / 0.224, (30 / 255 - 0.406) / 0.225,
    ),
    "efficientnet_lite0": (-117 / 128, -107 / 128, -97 / 128),
}  # fmt: skip


def expected(model, side):
    call = functools.partial(model.init, train=False)
    variables = jax.eval_shape(call, KEY, jnp.zeros((1, side, side, 3)))
    return {
        f"params/{name}" if kind == "params" else f"model_state/{kind}/{name}"
        for kind, tree in variables.items()
        for name in parameters.flatten(tree)
    }


@pytest.mark.parametrize("name", list(backbones.BACKBONES))
def test_every_backbone_describes_a_picture_of_its_size(name):
    backbone = backbones.find(name)
    call = functools.partial(backbone.without_last_layer().init_with_output, train=False)
    y, _ = jax.eval_shape(call, KEY, jnp.zeros((2, *backbone.shape)))
    assert y.shape == (2, backbone.features)
    assert Fit(backbone.size, backbone.shorter, backbone.filter).size == backbone.size


@pytest.mark.parametrize("name", list(SEEN))
def test_pixels_are_what_the_weights_were_trained_on(name):
    chain = transforms.build(backbones.find(name).preprocess)
    image = np.broadcast_to(PIXEL, (1, 2, 2, 3))
    seen = np.asarray(chain({"image": image})["image"])
    np.testing.assert_allclose(seen, np.broadcast_to(SEEN[name], (1, 2, 2, 3)), rtol=1e-5)


@pytest.mark.parametrize("kind", list(NAMES))
def test_each_way_to_name_weights_names_all_of_them_once(kind):
    backbone = next(b for b in backbones.BACKBONES.values() if b.kind == kind)
    wanted = expected(backbone.make(classes=2), backbone.size)
    for names in NAMES[kind]:
        assert sorted(path for path, _ in names.values()) == sorted(wanted)


def test_an_unknown_one_is_said_with_the_nearest():
    with pytest.raises(UsageError, match="no backbone 'vgg_16': did you mean 'vgg16'"):
        backbones.find("vgg_16")
    with pytest.raises(UsageError, match="is a dict, no Backbone"):
        backbones.find("rcnn_jax.interop.backbones:BACKBONES")
