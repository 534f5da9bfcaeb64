"""Chains of transforms, written in configs as text: `subtract_pixel_mean|random_crop(24)|flip`.

A chain runs inside jit on the device, on a batch and one key per example. Arguments are literals;
nothing is evaluated. A name is one of `TRANSFORMS` or an import path (`my_fork.aug:mixup(0.2)`) to
any callable that, given the arguments, returns a `Transform`.

Features of an example that belong together, such as an image and its label map, are changed
together, by their roles (see `rcnn_jax.data.spec.Feature`). A transform that does not know a role
is rejected.
"""

import ast
import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rcnn_jax.configuration import importing
from rcnn_jax.data import roles
from rcnn_jax.data.roles import roles_of
from rcnn_jax.data.sources import Source
from rcnn_jax.data.spec import Feature
from rcnn_jax.data.transforms import channels, crops, normalization
from rcnn_jax.data.transforms.per_image import COLOURS, Batch, Fitted, Transform
from rcnn_jax.errors import did_you_mean

TRANSFORMS: dict[str, Any] = {
    transform.name: transform
    for transform in (
        normalization.ToFloat,
        normalization.SubtractPixelMean,
        normalization.Standardize,
        normalization.GcnZca,
        channels.Normalize,
        channels.ReverseChannels,
        crops.RandomCrop,
        crops.PadCrop,
        crops.Flip,
        crops.AlternatingFlip,
        crops.Cutout,
        crops.RandomAffine,
        crops.CenterCrop,
        crops.NineCrop,
        crops.Resize,
    )
}
_STAGE = re.compile(r"(?P<name>[\w.]+(?::\w+)?)(?P<arguments>\(.*\))?", re.DOTALL)
# A bar inside brackets or quotes is not a separator.
_TOKEN = re.compile(r"""'[^']*'|"[^"]*"|[()\[\]{}|]|[^'"()\[\]{}|]+|.""", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Chain:
    """Transforms applied one after the other.

    Attributes:
        transforms: The transforms; fitted ones are bound to their arrays.
        dtype: Dtype to which integer images and frames are converted before the first transform;
            floating ones keep theirs. Integer boxes are converted to it too, or to float32 if it is
            narrower than that.
        roles: Pairs (feature, role) of the features that have a role.

    Raises:
        ValueError: If a transform does not know a role.
    """

    transforms: tuple[Transform, ...]
    dtype: str = "float32"
    roles: tuple[tuple[str, str], ...] = (("image", "image"),)

    def __post_init__(self) -> None:
        for transform in self.transforms:
            roles.check_known(transform, self.roles, TRANSFORMS)

    @property
    def random(self) -> bool:
        """Whether the chain needs keys."""
        return any(transform.random for transform in self.transforms)

    @property
    def makes_views(self) -> bool:
        """Whether it turns one image into several, `[batch, views, height, width, channels]`."""
        return any(getattr(transform, "makes_views", False) for transform in self.transforms)

    def __call__(self, batch: Batch, keys: jax.Array | None = None) -> Batch:
        """Transforms the features that have roles, such as `image`.

        Args:
            batch: Features `[batch, ...]` with images `[batch, height, width, channels]` or other
                features that have roles. Labels, `mask` and the rest pass through unchanged, unless
                a fork's transform changes them.
            keys: One key per example, `[batch]`, into which the n-th transform folds n, from 0;
                None if no transform is random.

        Returns:
            The transformed batch.

        Raises:
            ValueError: If a random transform gets no keys, images do not fit a transform, or a
                transform moves pixels while a feature without a role seems to be tied to them.
        """
        of = dict(self.roles)
        for transform in self.transforms:
            roles.check_untied(transform, of, batch)
        batch = {name: self._floating(of.get(name), value) for name, value in batch.items()}
        for position, transform in enumerate(self.transforms):
            folded = None
            if transform.random and keys is not None:
                folded = jax.vmap(jax.random.fold_in, in_axes=(0, None))(keys, position)
            by_role = roles.by_role(transform)
            batch = transform(batch, folded) if by_role is None else by_role(batch, folded, of)
            if not isinstance(batch, Mapping):
                name = getattr(transform, "name", type(transform).__name__)
                raise ValueError(
                    f"the transform {name} returned {type(batch).__name__}, expected is a batch: a "
                    "dict of arrays"
                )
        return batch

    def _floating(self, role: str | None, value: Any) -> Any:
        if role in (*COLOURS, "boxes") and not jnp.issubdtype(value.dtype, jnp.floating):
            dtype = jnp.promote_types(self.dtype, jnp.float32) if role == "boxes" else self.dtype
            return jnp.asarray(value).astype(dtype)
        return value


def parse(text: str) -> tuple[Transform, ...]:
    """Parses the text of a chain.

    Args:
        text: Transforms separated by `|`, such as `random_crop(24)|flip`; `""` is the empty chain.

    Returns:
        The transforms in order; fitted ones are not bound to their arrays.

    Raises:
        ValueError: If a name is unknown (the message suggests the nearest), arguments are not
            literals or do not fit, or a fork cannot be imported.

    Example:
        >>> from rcnn_jax.data.transforms.chain import parse
        >>> parse("pad_crop(4, mode='zeros')|flip")
        (PadCrop(pad=4, mode='zeros', void=-1), Flip())
    """
    return tuple(_parse_stage(stage.strip(), text) for stage in _stages(text) if text.strip())


def without_fitted(text: str) -> tuple[str, tuple[Fitted, ...]]:
    """Separates the transforms of a chain that are fitted on data from the others.

    Args:
        text: Text of the chain; see `parse`.

    Returns:
        The text of the chain without fitted transforms, and the fitted transforms.

    Raises:
        ValueError: If the text is not a chain; see `parse`.

    Example:
        >>> from rcnn_jax.data.transforms.chain import without_fitted
        >>> text, fitted = without_fitted("standardize|random_crop(24)|flip")
        >>> text, [transform.name for transform in fitted]
        ('random_crop(24)|flip', ['standardize'])
    """
    stages = [stage.strip() for stage in _stages(text) if text.strip()]
    made = [_parse_stage(stage, text) for stage in stages]
    kept = [
        s for s, transform in zip(stages, made, strict=True) if not isinstance(transform, Fitted)
    ]
    return "|".join(kept), tuple(t for t in made if isinstance(t, Fitted))


def _stages(text: str) -> list[str]:
    stages, depth = [""], 0
    for token in _TOKEN.findall(text):
        depth += (token in tuple("([{")) - (token in tuple(")]}"))
        if token == "|" and depth == 0:
            stages.append("")
        else:
            stages[-1] += token
    return stages


def _parse_stage(stage: str, text: str) -> Transform:
    match = _STAGE.fullmatch(stage)
    if match is None:
        raise ValueError(
            f"transform {stage!r} in {text!r} is not understood; write name, name(1, 'two') or "
            "my_fork.module:name(3)"
        )
    name = match["name"]
    if ":" in name:
        make: Any = importing.resolve(name, "transform")
    elif name in TRANSFORMS:
        make = TRANSFORMS[name]
    else:
        raise ValueError(
            f"there is no transform {name!r} (in {text!r}), only {', '.join(TRANSFORMS)}"
            f"{did_you_mean(name, TRANSFORMS)}"
        )
    if not callable(make):
        raise ValueError(f"transform {name!r} in {text!r} cannot be called")
    positional, named = _literals(match["arguments"] or "()", stage, text)
    signature = _signature(make)
    try:
        signature.bind(*positional, **named)
        transform: Any = make(*positional, **named)
    except TypeError as error:
        raise ValueError(f"{stage!r} in {text!r}: {error}; it is {name}{signature}") from error
    if not isinstance(transform, Transform):
        raise ValueError(
            f"{stage!r} in {text!r} gives a {type(transform).__name__}, which is no transform "
            "(callable with an attribute `random`)"
        )
    return transform


def _signature(make: Callable[..., Any]) -> inspect.Signature:
    """Returns the signature of a transform's arguments without types, which messages show."""
    parameters = inspect.signature(make).parameters.values()
    return inspect.Signature(
        [p.replace(annotation=p.empty) for p in parameters if p.name != "arrays"]
    )


def _literals(arguments: str, stage: str, text: str) -> tuple[list[Any], dict[str, Any]]:
    try:
        call = ast.parse(f"f{arguments}", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError("one pair of brackets at most")
        positional = [ast.literal_eval(argument) for argument in call.args]
        named = {str(word.arg): ast.literal_eval(word.value) for word in call.keywords if word.arg}
        if len(named) < len(call.keywords):
            raise ValueError("no ** here")
    except (ValueError, SyntaxError, TypeError) as error:
        raise ValueError(
            f"the arguments of {stage!r} in {text!r} must be plain numbers, texts, tuples or lists"
        ) from error
    return positional, named


def build(
    text: str,
    assets: Mapping[str, np.ndarray] | None = None,
    dtype: str = "float32",
    roles: Mapping[str, str] | None = None,
) -> Chain:
    """Builds the chain that the text of a config describes.

    Args:
        text: Transforms separated by `|`; see the module's docstring.
        assets: Arrays of the fitted transforms, from `fit_all` or read from the workdir by
            `rcnn_jax.data.assets.load`.
        dtype: Dtype to which integer images are converted.
        roles: Mapping from feature to role, see `rcnn_jax.data.roles.roles_of`; None if `image` is
            an image and no other feature has a role.

    Raises:
        ValueError: If the text is not a chain (see `parse`), a fitted array is missing, or a
            transform does not know a role.

    Example:
        >>> import numpy as np
        >>> from rcnn_jax.data.transforms import chain
        >>> prepare = chain.build("to_float(255)|center_crop(24)")
        >>> prepare.random
        False
        >>> batch = {"image": np.full((2, 32, 32, 3), 255, np.uint8), "label": np.array([3, 5])}
        >>> batch = prepare(batch)
        >>> batch["image"].shape, batch["label"].tolist()
        ((2, 24, 24, 3), [3, 5])
    """
    transforms = parse(text)
    bound = [t.bind(assets or {}) if isinstance(t, Fitted) else t for t in transforms]
    return Chain(tuple(bound), dtype, tuple(({"image": "image"} | dict(roles or {})).items()))


def fit_all(texts: Sequence[str], source: Source, block_size: int = 1000) -> dict[str, np.ndarray]:
    """Fits every transform of the chains that needs it.

    Args:
        texts: All chains of an experiment, usually the training and the evaluation chain.
        source: The TRAINING split; any other would leak into the evaluation.
        block_size: Number of examples held as float64 at a time.

    Returns:
        Mapping from names to the arrays of all fitted transforms; empty if no transform is fitted.

    Raises:
        ValueError: If a fitted transform follows a random one, or two chains fit the same transform
            differently, so that their arrays would have the same names.
    """
    assets: dict[str, np.ndarray] = {}
    ways: dict[str, str] = {}
    for text in texts:
        prefix: tuple[Transform, ...] = ()
        for transform in parse(text):
            if isinstance(transform, Fitted):
                way = repr((*prefix, transform))
                if Chain(prefix).random:
                    raise ValueError(
                        f"{transform.name} must stand before the random transforms in {text!r}"
                    )
                if ways.setdefault(transform.name, way) != way:
                    raise ValueError(
                        f"the chains {list(texts)} prepare {transform.name} in different ways"
                    )
                if not set(transform.asset_names) <= set(assets):
                    assets.update(transform.fit(blocks(source, Chain(prefix), block_size)))
                transform = transform.bind(assets)
            prefix = (*prefix, transform)
    return assets


def blocks(source: Source, prefix: Chain, block_size: int = 1000) -> Iterator[np.ndarray]:
    """Yields the images of a source as they leave a chain, one block at a time.

    Args:
        source: Source with a feature `image`, or one other feature that is an image or frames;
            damaged records are left out.
        prefix: Chain without randomness.
        block_size: Number of images per block.

    Yields:
        Images float64 `[examples, height, width, channels]`; each of several frames is an image.

    Raises:
        ValueError: If there are no images, or several of which none is called `image`.
    """
    name, role = _fitted_on(source.features)
    alone = dataclasses.replace(prefix, roles=((name, role),))
    if role == "frames":
        block_size = max(1, block_size // (source.features[name].shape[0] or 1))
    for start in range(0, len(source), block_size):
        rows = np.arange(start, min(start + block_size, len(source)))
        batch = source.gather(rows)
        images = batch[name]
        if "mask" in batch:  # Records that could not be read are left out of the fit.
            images = images[batch["mask"] > 0]
            if not len(images):
                continue
        images = np.asarray(alone({name: images})[name] if prefix.transforms else images)
        yield images.reshape(-1, *images.shape[-3:]).astype(np.float64)


def _fitted_on(features: Mapping[str, Feature]) -> tuple[str, str]:
    """Returns the feature whose pixels transforms are fitted on, and its role."""
    for role in COLOURS:
        names = [name for name, stated in roles_of(features).items() if stated == role]
        if len(names) > 1 and "image" not in names:
            raise ValueError(
                f"transforms are fitted on the feature 'image', but the training split has "
                f"{' and '.join(map(repr, names))}: call one of them so"
            )
        if names:
            return "image" if "image" in names else names[0], role
    raise ValueError(f"the training split has no feature 'image', only {sorted(features)}")
