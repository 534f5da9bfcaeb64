"""Decides who trained the weights in a file, and thereby which pixels they expect.

The same network was trained by its authors on mean-free pixels up to 255 with blue first, and by
torchvision on standardized pixels with red first. The weights of one on the pixels of the other
compute features without meaning and without an error. In this order, these decide:

- the names in the file, where only one maker's weights have them (`conv1/w`);
- the first layer, where its values are published. The size of its filters tells nothing: those of
  the authors' VGG and of torchvision's are of the same order;
- the hash in the name of the file, such as `vgg16-397923af.pth`, or in its content;
- the statement of the user, `--weights_from=caffe`, which must not contradict the others.

torchvision's names for VGG also occur in conversions of the authors' weights. A file with these
names about which nothing else is known is taken for torchvision's if the backbone is torchvision's,
and refused otherwise.
"""

import hashlib
import re
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rcnn_jax.data.transforms import chain, channels, normalization
from rcnn_jax.errors import UsageError, UserError
from rcnn_jax.interop import naming
from rcnn_jax.interop.backbone_names import NAMES
from rcnn_jax.interop.backbones import BACKBONES, Backbone

_WORDS = {
    "caffe": "the network's authors (Caffe)",
    "tensorflow": "the network's authors (TensorFlow)",
    "caffe with red first": "the network's authors (Caffe), converted to pixels with red first",
}
# First digits of the SHA-256 of released files, which are also part of their names.
_HASHES = {
    "8a719046": "torchvision", "bbd30ac9": "torchvision", "19584684": "torchvision",
    "c768596a": "torchvision", "397923af": "torchvision", "dcbb9e9d": "torchvision",
    "b66bff10": "torchvision", "a815701f": "torchvision", "b8a52dc0": "torchvision",
    "f364aa15": "torchvision", "00b39a1b": "caffe", "d01eb7cb": "caffe",
    "88682ab5": "caffe with red first", "57934424": "tensorflow", "0aa007d2": "tensorflow",
    "37913777": "timm",
}  # fmt: skip
_HASH = re.compile(r"(?<![0-9a-z])[0-9a-f]{8,64}(?![0-9a-z])")


class _Values(NamedTuple):
    """First values of the bias of a first layer as published, and the corner of its first filter.

    The corner, `kernel[0, 0, 0, 0]`, tells whether the file is for pixels with blue or red first;
    its filters may have been turned around, its biases stay.
    """

    maker: str
    path: str
    bias: tuple[float, ...]
    corner: float | None = None
    corner_with_red_first: float | None = None


_VGG_START, _LITE_START = "params/features/conv1_1/bias", "params/stem_norm/bias"
_FIRST_LAYERS = {
    "vgg16": (
        _Values(
            "caffe", _VGG_START,
            (0.734298, 0.093404, 0.067757, 0.886297, 0.259945, 0.664267, -0.015829, 0.324907),
            0.429471, 0.480015,
        ),
        _Values(
            "torchvision", _VGG_START,
            (0.4034, 0.3778, 0.4644, -0.3228, 0.3940, -0.3953, 0.3951, -0.5496),
        ),
    ),
    "vgg19": (
        _Values(
            "caffe", _VGG_START,
            (0.730178, 0.064936, 0.034288, 0.826039, 0.257803, 0.548677, -0.012439, 0.347899),
            0.341195, 0.394167,
        ),
    ),
    "efficientnet_lite0": (
        _Values(
            "tensorflow", _LITE_START,
            (2.791613, 3.339123, 2.825701, 0.207987, 2.703278, 2.948189, 0.896718, 1.739755),
        ),
    ),
}  # fmt: skip
# Half precision keeps 8 to 11 bits, and some values were published with 4 digits.
_RELATIVE, _ABSOLUTE = 4e-3, 6e-5


class _Evidence(NamedTuple):
    """Who trained weights, and what says so."""

    maker: str
    why: str


def check(
    path: Path,
    found: Mapping[str, np.ndarray],
    fit: naming.Fit,
    name: str,
    backbone: Backbone,
    said: str | None = None,
) -> None:
    """Raises an error if weights are not those that a backbone expects.

    Args:
        path: File of the weights.
        found: Arrays by the names in the file.
        fit: How these names fit, from `rcnn_jax.interop.weights.fitting`.
        name: Name of the backbone, for messages.
        backbone: The backbone.
        said: Maker of the weights as the user states it; None if nothing is stated.

    Raises:
        UsageError: `said` is no maker of weights of this network.
        UserError: The weights are those of another network or maker, or it cannot be decided; the
            message names the backbone that takes them.
    """
    makers = {other.maker for other in BACKBONES.values() if other.kind == backbone.kind}
    makers = sorted((makers | {backbone.maker}) - {""})
    if said and said not in makers:
        known = " or ".join(makers) if makers else "nothing"
        raise UsageError(f"--weights_from={said}: weights for {name} come from {known}.")
    if backbone.kind not in NAMES or not backbone.maker:
        return
    _check_kind(path, found, fit, name, backbone)
    # A file goes without evidence if its names are the maker's own, or if there is no other maker.
    is_own = fit.makers[0] == backbone.maker if fit.makers else len(makers) == 1
    evidence = _evidence(path, found, fit, backbone.kind)
    if evidence is None and not said and not is_own:
        evidence = _by_content_hash(path)
    if evidence is not None and said and said != evidence.maker:
        raise UserError(
            f"--weights_from={said} contradicts {str(path)!r}: {evidence.why}, and its weights are "
            f"those of {_words(evidence.maker)}."
        )
    maker = evidence.maker if evidence is not None else said
    if maker == backbone.maker or (not maker and is_own):
        return
    if maker:
        why = f" ({evidence.why})" if evidence is not None else ""
        raise UserError(
            f"the weights in {str(path)!r} are those of {_words(maker)}{why}, and expect "
            f"other pixels than --backbone={name} gives: {_right(backbone.kind, [maker])}."
        )
    ways = [
        f"{_right(backbone.kind, [other])} if they are those of {_words(other)}"
        for other in makers
        if other != backbone.maker
    ]
    ways.append(f"--weights_from={backbone.maker} if they are those of {_words(backbone.maker)}")
    raise UserError(
        f"nothing in {str(path)!r} tells which pixels its weights expect, since there are weights "
        f"of {_and([_words(maker) for maker in fit.makers or makers])} by these names: "
        f"{' or '.join(ways)}."
    )


def doubt(
    path: Path, found: Mapping[str, np.ndarray], fit: naming.Fit, preprocess: str
) -> str | None:
    """Says whether pixels are prepared otherwise than the weights in a file expect.

    Args:
        path: File of the weights.
        found: Arrays by the names in the file.
        fit: How these names fit, from `rcnn_jax.interop.weights.fitting`.
        preprocess: Text of the transforms of the images, `config.data.preprocess`.

    Returns:
        A sentence without a full stop, or None if the pixels are those of a maker whose weights
        these can be, or it cannot be decided.
    """
    if not fit.kind:
        return None
    evidence = _evidence(path, found, fit, fit.kind)
    makers = (evidence.maker,) if evidence is not None else fit.makers
    ways = [b.preprocess for b in BACKBONES.values() if b.kind == fit.kind and b.maker in makers]
    pixels = _pixels(preprocess)
    if not ways or pixels is None:
        return None
    for way in ways:
        expected = _pixels(way)
        if expected is not None and np.abs(pixels - expected).max() < 0.1 * np.ptp(expected):
            return None
    return (
        f"the weights in {str(path)!r} were trained by {' or '.join(map(_words, makers))} "
        f"on pixels that {' or '.join(map(repr, dict.fromkeys(ways)))} makes, and "
        f"config.data.preprocess={preprocess!r} makes others"
    )


def of_name(name: str) -> str:
    """Returns the maker of a released file by the hash in its name; empty if it has none.

    Args:
        name: Name of the file.

    Example:
        >>> from rcnn_jax.interop.makers import of_name
        >>> of_name("vgg16-397923af.pth"), of_name("vgg16.pth")
        ('torchvision', '')
    """
    hashes = [_HASHES.get(digits[:8], "") for digits in _HASH.findall(name.lower())]
    return next(filter(None, hashes), "")


def _evidence(
    path: Path, found: Mapping[str, np.ndarray], fit: naming.Fit, kind: str
) -> _Evidence | None:
    """Returns who trained weights, as far as names and values tell."""
    if len(fit.makers) == 1:
        used = next(name for name in found if name.removeprefix(fit.prefix) in fit.names)
        return _Evidence(fit.makers[0], f"its arrays have names such as {used!r}")
    by_values = _by_first_layer(found, fit, kind)
    if by_values is not None:
        return by_values
    by_name = of_name(path.name)
    if by_name:
        return _Evidence(by_name, "its name has the hash of a released file")
    return None


def _by_first_layer(
    found: Mapping[str, np.ndarray], fit: naming.Fit, kind: str
) -> _Evidence | None:
    theirs = {ours: name for name, (ours, _) in fit.names.items()}

    def array(ours: str) -> np.ndarray:
        names = (theirs.get(ours, ours), ours.removeprefix("params/"))
        known = (found[fit.prefix + name] for name in names if fit.prefix + name in found)
        return np.ravel(next(known, np.empty(0))).astype(np.float64)

    for values in _FIRST_LAYERS.get(kind, ()):
        bias = array(values.path)[: len(values.bias)]
        if len(bias) < len(values.bias) or not _equal(bias, values.bias):
            continue
        maker = values.maker
        if values.corner is not None:
            # The first number of the filters is the same in every layout.
            corner = array(values.path.replace("/bias", "/kernel"))[:1]
            if not corner.size:
                continue
            if _equal(corner, values.corner_with_red_first):
                maker = f"{maker} with red first"
            elif not _equal(corner, values.corner):
                continue  # filters for pixels of yet another size
        return _Evidence(maker, "its first layer has the values of a released file")
    return None


def _equal(found: np.ndarray, published: Any) -> bool:
    return np.allclose(found, published, rtol=_RELATIVE, atol=_ABSOLUTE)


def _by_content_hash(path: Path) -> _Evidence | None:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    maker = _HASHES.get(digest[:8])
    return None if maker is None else _Evidence(maker, "its SHA-256 is that of a released file")


def _check_kind(
    path: Path, found: Collection[str], fit: naming.Fit, name: str, backbone: Backbone
) -> None:
    """Raises an error if all names in a file are those of another network."""
    other = next(iter(naming.best(found, NAMES)), naming.Fit())
    whole = other.known == len(found) and other.kind != backbone.kind
    if whole and other.rank > fit.rank:
        raise UserError(
            f"{str(path)!r} holds the weights of {other.kind}, and not those that "
            f"--backbone={name} takes: {_right(other.kind, other.makers)}."
        )


def _right(kind: str, makers: Collection[str]) -> str:
    """Says which backbones take weights of these makers for a network."""
    names = [
        f"--backbone={name}"
        for name, backbone in BACKBONES.items()
        if backbone.kind == kind and backbone.maker in makers
    ]
    return " or ".join(names) if names else "there is no backbone that takes them"


def _words(maker: str) -> str:
    return _WORDS.get(maker, maker)


def _and(words: Collection[str]) -> str:
    return " and ".join(words)


def _pixels(preprocess: str) -> np.ndarray | None:
    """Returns two colours as a chain prepares them; None if more than a formula decides that."""
    known: tuple[Callable, ...] = (
        normalization.ToFloat, channels.Normalize, channels.ReverseChannels
    )  # fmt: skip
    transforms = chain.parse(preprocess)
    if any(
        isinstance(transform, chain.Fitted)
        or type(transform).__module__.split(".")[0] != "rcnn_jax"
        for transform in transforms
    ):
        return None
    steps = chain.Chain(tuple(step for step in transforms if isinstance(step, known)))
    colours = np.array([[[[240, 120, 20], [10, 60, 200]]]], np.uint8)
    return np.asarray(steps({"image": colours})["image"])
