"""What others call the weights of VGG, SqueezeNet and EfficientNet-Lite0.

Each net has one or more ways to name its weights: name in the file to our path and the layout that
turns it into ours, see `rcnn_jax.interop.weights.layout_of`. Names are those of torchvision, of the
released Caffe models as arrays `LAYER/w` and `LAYER/b`, and of the torch package
efficientnet_lite_pytorch.
"""

from collections.abc import Iterator

from rcnn_jax.models import efficientnet_lite, vgg

Names = dict[str, tuple[str, str]]


def _layer(theirs: str, ours: str, layout: str = "convolution", caffe: bool = False) -> Names:
    """Kernel and bias of a layer."""
    weight, bias = (
        (f"{theirs}/w", f"{theirs}/b") if caffe else (f"{theirs}.weight", f"{theirs}.bias")
    )
    return {weight: (f"params/{ours}/kernel", layout), bias: (f"params/{ours}/bias", "same")}


def _vgg(depth: int) -> tuple[Names, ...]:
    torch, caffe, place = Names(), Names(), 0
    for block in vgg.convolution_names(depth):
        for name in block:
            torch |= _layer(f"features.{place}", f"features/{name}")
            caffe |= _layer(name, f"features/{name}", caffe=True)
            place += 2  # a convolution and its relu
        place += 1  # the pool
    for number, (place, name) in enumerate(((0, "fc6"), (3, "fc7"), (6, "fc8"))):
        layout = "dense" if number else "dense_of_maps"
        torch |= _layer(f"classifier.{place}", name, layout)
        caffe |= _layer(name, name, layout, caffe=True)
    return torch, caffe


def _squeezenet(places: tuple[int, ...]) -> tuple[Names, ...]:
    """By the places of the fire modules in torchvision's list of layers."""
    torch, caffe = _layer("features.0", "conv1"), _layer("conv1", "conv1", caffe=True)
    for number, place in enumerate(places, start=2):
        for part, released in (
            ("squeeze", "conv1x1_1"), ("expand1x1", "conv1x1_2"), ("expand3x3", "conv3x3_2")
        ):  # fmt: skip
            ours = f"fire{number}_{part}"
            torch |= _layer(f"features.{place}.{part}", ours)
            caffe |= _layer(f"fire{number}/{released}", ours, caffe=True)
    torch |= _layer("classifier.1", "conv10")
    return torch, caffe | _layer("conv_final", "conv10", caffe=True)


def _filtered(convolution: str, norm: str, ours: str) -> Iterator[tuple[str, tuple[str, str]]]:
    """A convolution without bias and its normalization."""
    yield f"{convolution}.weight", (f"params/{ours}/kernel", "convolution")
    for theirs, path in (
        ("weight", "params/{}/scale"),
        ("bias", "params/{}/bias"),
        ("running_mean", "model_state/batch_stats/{}/mean"),
        ("running_var", "model_state/batch_stats/{}/var"),
    ):
        yield f"{norm}.{theirs}", (path.format(f"{ours}_norm"), "same")


def _efficientnet_lite0() -> Names:
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
    "efficientnet_lite0": (_efficientnet_lite0(),),
}
"""By the preset in `rcnn_jax/models`, the ways to name its weights."""
