"""Names that other frameworks give to the weights of VGG, SqueezeNet and EfficientNet-Lite0.

Each network has one or more naming schemes. A scheme maps the name in the file to a path of this
package and the layout to convert from; see `rcnn_jax.interop.weights.layout_of`. The names are
those of torchvision, of the released Caffe models as arrays `LAYER/w` and `LAYER/b`, of jcjohnson's
conversion of the Caffe models of VGG to torch, of the torch package efficientnet_lite_pytorch, and
of timm. `MAKERS` says whose weights have these names, which decides the pixels that they expect.
"""

from collections.abc import Iterator

from rcnn_jax.models import efficientnet_lite, vgg

Names = dict[str, tuple[str, str]]


def _layer(theirs: str, ours: str, layout: str = "convolution", caffe: bool = False) -> Names:
    """Returns names of the kernel and bias of a layer."""
    weight, bias = (
        (f"{theirs}/w", f"{theirs}/b") if caffe else (f"{theirs}.weight", f"{theirs}.bias")
    )
    return {weight: (f"params/{ours}/kernel", layout), bias: (f"params/{ours}/bias", "same")}


def _vgg(depth: int) -> tuple[Names, ...]:
    """Returns the schemes of torchvision, Caffe, jcjohnson and timm for a VGG."""
    torch, caffe, index = Names(), Names(), 0
    for block in vgg.convolution_names(depth):
        for name in block:
            torch |= _layer(f"features.{index}", f"features/{name}")
            caffe |= _layer(name, f"features/{name}", caffe=True)
            index += 2  # a convolution and its relu
        index += 1  # the pool
    converted, timm = dict(torch), dict(torch)
    for name, layout, place, moved in (
        ("fc6", "dense_of_maps", 0, 1), ("fc7", "dense", 3, 4), ("fc8", "dense", 6, 6)
    ):  # fmt: skip
        torch |= _layer(f"classifier.{place}", name, layout)
        caffe |= _layer(name, name, layout, caffe=True)
        converted |= _layer(f"classifier.{moved}", name, layout)
    timm |= _layer("pre_logits.fc1", "fc6", "dense_as_convolution")
    timm |= _layer("pre_logits.fc2", "fc7", "dense_as_convolution")
    return torch, caffe, converted, timm | _layer("head.fc", "fc8", "dense")


def _squeezenet(places: tuple[int, ...]) -> tuple[Names, ...]:
    """Returns the schemes for a SqueezeNet whose fire modules have these indices in torchvision."""
    torch, caffe = _layer("features.0", "conv1"), _layer("conv1", "conv1", caffe=True)
    for number, index in enumerate(places, start=2):
        for part, released in (
            ("squeeze", "conv1x1_1"), ("expand1x1", "conv1x1_2"), ("expand3x3", "conv3x3_2")
        ):  # fmt: skip
            ours = f"fire{number}_{part}"
            torch |= _layer(f"features.{index}.{part}", ours)
            caffe |= _layer(f"fire{number}/{released}", ours, caffe=True)
    torch |= _layer("classifier.1", "conv10")
    return torch, caffe | _layer("conv_final", "conv10", caffe=True)


def _filtered(convolution: str, norm: str, ours: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yields names of a convolution without bias and of its normalization."""
    yield f"{convolution}.weight", (f"params/{ours}/kernel", "convolution")
    for theirs, path in (
        ("weight", "params/{}/scale"),
        ("bias", "params/{}/bias"),
        ("running_mean", "model_state/batch_stats/{}/mean"),
        ("running_var", "model_state/batch_stats/{}/var"),
    ):
        yield f"{norm}.{theirs}", (path.format(f"{ours}_norm"), "same")


def _efficientnet_lite0_of_timm() -> Names:
    """Returns the scheme of timm, whose stages are counted instead of blocks."""
    names = Names(_filtered("conv_stem", "bn1", "stem"))
    number = 0
    for stage, (repeats, _, _, widening, _) in enumerate(efficientnet_lite.STAGES):
        for place in range(repeats):
            number += 1
            theirs, ours = f"blocks.{stage}.{place}.", f"block{number}_"
            layers = (("conv_pw", "expand"), ("conv_dw", "depthwise"), ("conv_pwl", "project"))
            if widening == 1:  # Without the first layer, the last one has its name.
                layers = (("conv_dw", "depthwise"), ("conv_pw", "project"))
            for norm, (layer, step) in enumerate(layers, start=1):
                names |= _filtered(f"{theirs}{layer}", f"{theirs}bn{norm}", f"{ours}{step}")
    names |= _filtered("conv_head", "bn2", "last")
    return names | _layer("classifier", "head", "dense")


def _efficientnet_lite0() -> Names:
    """Returns the scheme of efficientnet_lite_pytorch."""
    names = Names(_filtered("_conv_stem", "_bn0", "stem"))
    number = 0
    for repeats, _, _, widening, _ in efficientnet_lite.STAGES:
        for _ in range(repeats):
            theirs, ours = f"_blocks.{number}.", f"block{number + 1}_"
            number += 1
            if widening != 1:
                names |= _filtered(f"{theirs}_expand_conv", f"{theirs}_bn0", f"{ours}expand")
            names |= _filtered(f"{theirs}_depthwise_conv", f"{theirs}_bn1", f"{ours}depthwise")
            names |= _filtered(f"{theirs}_project_conv", f"{theirs}_bn2", f"{ours}project")
    names |= _filtered("_conv_head", "_bn1", "last")
    return names | _layer("_fc", "head", "dense")


NAMES: dict[str, tuple[Names, ...]] = {
    **{f"vgg{depth}": _vgg(depth) for depth in vgg.CONVOLUTIONS},
    "squeezenet": _squeezenet((3, 4, 5, 7, 8, 9, 10, 12)),
    "squeezenet_1_1": _squeezenet((3, 4, 6, 7, 9, 10, 11, 12)),
    "efficientnet_lite0": (_efficientnet_lite0(), _efficientnet_lite0_of_timm()),
}
"""Naming schemes of the weights of each preset in `rcnn_jax/models`."""

_VGG_MAKERS = (("torchvision", "caffe"), ("caffe",), ("caffe",), ("torchvision",))
MAKERS: dict[str, tuple[tuple[str, ...], ...]] = {
    **{f"vgg{depth}": _VGG_MAKERS for depth in vgg.CONVOLUTIONS},
    "squeezenet": (("torchvision",), ("caffe",)),
    "squeezenet_1_1": (("torchvision",), ("caffe",)),
    # timm gives the same names to weights of its own and to those of TensorFlow's authors.
    "efficientnet_lite0": (("tensorflow",), ("timm", "tensorflow")),
}
"""For each scheme in `NAMES`, who trained the weights that are spread under these names.

The owner of the names comes first, then others. `caffe` are the authors of VGG and SqueezeNet, who
released them for Caffe, and `tensorflow` those of EfficientNet-Lite.
"""
