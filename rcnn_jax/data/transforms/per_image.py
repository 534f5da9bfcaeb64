"""Base classes of transforms: on a batch, on an example role by role, or on one image at a time."""

import abc
import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import numpy as np

from rcnn_jax.data.spec import ROLES
from rcnn_jax.data.transforms.geometry import HeightWidth, move_boxes

Batch = dict[str, Any]
Roles = Mapping[str, str]
# Roles of features that have pixels, and of those whose pixels are colours.
PIXELS = ("image", "frames", "label_map")
COLOURS = ("image", "frames")


@runtime_checkable
class Transform(Protocol):
    """A pure function of a batch and one key per example, traced inside jit.

    A batch whose features have roles (see `rcnn_jax.data.spec.Feature`) besides one `image` is
    passed only to transforms that declare how they treat these features, by one of two class
    attributes: `geometric = False` states that no pixel changes its place, and
    `knows = ("image", "label_map")` names the roles that the transform handles itself.
    `makes_views = True` states that the transform turns one image into several,
    `[batch, views, height, width, channels]`.
    """

    @property
    def random(self) -> bool:
        """Whether the transform needs keys."""
        ...

    def __call__(self, batch: Batch, keys: jax.Array | None) -> Batch:
        """Returns a new batch, in which features that are not transformed are passed on.

        Args:
            batch: Features `[batch, ...]`.
            keys: One key per example, `[batch]`; None for a transform that is not random.
        """
        ...


class PerExample(abc.ABC):
    """A transform that treats each example alone, by one pure function for each role.

    It draws once per example, so that the example's image, label map, boxes and frames move
    together. Features without a role stay in the batch unchanged. Subclasses are frozen dataclasses
    whose fields are the arguments in the text of a config. Derive from `PerImage`, `RandomPerImage`
    or `Geometric`.

    Attributes:
        name: Name of the transform in the text of a config.
        geometric: Whether pixels change their places. False: only images and frames are changed,
            while label maps and boxes remain valid. None: not declared, so that the transform
            accepts only examples with an `image` and no other feature with a role.
        knows: Roles that the transform handles. None: the roles that it has a method `on_...` for,
            or all roles if it is not geometric.
        makes_views: Whether it turns an image into several, `[views, height, width, channels]`.
    """

    name: ClassVar[str]
    geometric: ClassVar[bool | None] = None
    knows: ClassVar[tuple[str, ...] | None] = None
    makes_views: ClassVar[bool] = False

    @property
    @abc.abstractmethod
    def random(self) -> bool:
        """Whether the transform needs keys."""

    def given(self, batch: Batch, keys: jax.Array | None) -> Any:
        """Returns the values from which each example's draw is made.

        Args:
            batch: Features `[batch, ...]` of the whole batch.
            keys: One key per example, `[batch]`, or None.

        Returns:
            An array or a tree of arrays `[batch, ...]`: here the keys if the transform is random,
            else None.

        Raises:
            ValueError: If the transform is random and there are no keys.
        """
        del batch
        if self.random and keys is None:
            raise ValueError(f"{self.name} is random and needs one key per example, got none")
        return keys if self.random else None

    def draw(self, given: Any, size: Any) -> Any:
        """Draws the values that all functions of one example receive; here `given` itself.

        Args:
            given: The value that `given` returned for this example, usually its key.
            size: Height and width of the example's pixels; None if the transform is not geometric.
        """
        del size
        return given

    @abc.abstractmethod
    def on_image(self, image: jax.Array, drawn: Any) -> jax.Array:
        """Transforms an image.

        Args:
            image: Floating image `[height, width, channels]`.
            drawn: The values that `draw` returned for this example.
        """

    def on_frames(self, frames: jax.Array, drawn: Any) -> jax.Array:
        """Transforms each frame as an image.

        Args:
            frames: Floating frames `[time, height, width, channels]`.
            drawn: The values that `draw` returned for this example, shared by all frames.
        """
        return jax.vmap(self.on_image, in_axes=(0, None))(frames, drawn)

    def __call__(self, batch: Batch, keys: jax.Array | None, roles: Roles | None = None) -> Batch:
        """Transforms each example of a batch.

        Args:
            batch: Features `[batch, ...]`.
            keys: One key per example, `[batch]`; None if the transform is not random.
            roles: Mapping from feature to role; None if `image` is an image and no other feature
                has a role.

        Returns:
            The batch with its images, frames, label maps and boxes transformed.

        Raises:
            ValueError: If the batch has no feature to transform, or has one of a shape that does
                not fit the transform.
        """
        roles = {"image": "image"} if roles is None else roles
        changed = COLOURS if self.geometric is False else known_roles(self) or ("image",)
        here = {name: role for name, role in roles.items() if name in batch and role in changed}
        if not any(role in PIXELS for role in here.values()):
            wanted = next((name for name, role in roles.items() if role in COLOURS), "image")
            raise ValueError(
                f"{self.name} needs a feature {wanted!r}, the batch has {sorted(batch)}"
            )
        each = functools.partial(self._example, here)
        features = {name: batch[name] for name in here}
        return {**batch, **jax.vmap(each)(features, self.given(batch, keys))}

    def _example(self, roles: Roles, features: Batch, given: Any) -> Batch:
        pixels = {name: (role, features[name]) for name, role in roles.items() if role in PIXELS}
        before = _common_size(self.name, pixels) if self.geometric else None
        drawn = self.draw(given, before)
        moved: Batch = {
            name: self._on(role)(value, drawn) for name, (role, value) in pixels.items()
        }
        boxes = {name: role for name, role in roles.items() if role not in PIXELS}
        if boxes:
            after = {name: (role, moved[name]) for name, (role, _) in pixels.items()}
            move = functools.partial(self._move_boxes, before, _common_size(self.name, after))
            moved |= {name: move(role, features[name], drawn) for name, role in boxes.items()}
        return moved

    def _move_boxes(
        self, before: Any, after: HeightWidth, role: str, boxes: jax.Array, drawn: Any
    ) -> jax.Array:
        def move(in_pixels: jax.Array) -> jax.Array:
            return self._on("boxes")(in_pixels, drawn, before)

        return move_boxes(boxes, move, before, after, relative=role == "relative_boxes")

    def _on(self, role: str) -> Any:
        return getattr(self, f"on_{role}")


class PerImage(PerExample):
    """A transform that treats each image alone, without randomness.

    If it declares `geometric`, it also serves several images of an example, and frames.
    """

    @property
    def random(self) -> bool:
        """False: the transform needs no keys."""
        return False

    @abc.abstractmethod
    def apply(self, image: jax.Array) -> jax.Array:
        """Transforms an image.

        Args:
            image: Floating image `[height, width, channels]`.
        """

    def on_image(self, image: jax.Array, drawn: Any) -> jax.Array:
        """Transforms an image by `apply`.

        Args:
            image: Floating image `[height, width, channels]`.
            drawn: Not used.
        """
        del drawn
        return self.apply(image)


class RandomPerImage(PerExample):
    """A transform that treats each image alone, with one key per example.

    All images and frames of an example share its key.
    """

    @property
    def random(self) -> bool:
        """True: the transform needs keys."""
        return True

    @abc.abstractmethod
    def apply(self, image: jax.Array, key: jax.Array) -> jax.Array:
        """Transforms an image.

        Args:
            image: Floating image `[height, width, channels]`.
            key: Random key of the example.
        """

    def on_image(self, image: jax.Array, drawn: Any) -> jax.Array:
        """Transforms an image by `apply`.

        Args:
            image: Floating image `[height, width, channels]`.
            drawn: Random key of the example.
        """
        return self.apply(image, drawn)


class Geometric(PerExample):
    """A transform that moves pixels, and moves the features of an example together.

    A subclass defines `on_image` and, for each further role that it handles, the method of that
    role. It is random if it defines `draw`::

        @dataclasses.dataclass(frozen=True)
        class UpsideDown(Geometric):
            name: ClassVar[str] = "upside_down"

            def draw(self, given, size):
                return jax.random.bernoulli(given)

            def on_image(self, image, drawn):
                return jnp.where(drawn, image[::-1], image)

            def on_label_map(self, labels, drawn):
                return jnp.where(drawn, labels[::-1], labels)

            def on_boxes(self, boxes, drawn, size):
                y0, x0, y1, x1 = boxes.T
                turned = jnp.stack([size[0] - y1, x0, size[0] - y0, x1], axis=1)
                return jnp.where(drawn, turned, boxes)

    `on_label_map` takes integers `[height, width]` or `[height, width, 1]`. `on_boxes` takes
    floating boxes `[boxes, 4]` in pixels, and the height and width before the transform. The caller
    clips the boxes that it returns at the border and restores absent boxes. All images, frames and
    label maps of an example must have the same height and width.
    """

    geometric: ClassVar[bool | None] = True

    @property
    def random(self) -> bool:
        """Whether the transform needs keys, which is true if it defines `draw`."""
        return type(self).draw is not PerExample.draw


def known_roles(transform: Any) -> tuple[str, ...] | None:
    """Returns the roles that a transform handles.

    Args:
        transform: A transform or its class.

    Returns:
        The roles; None if the transform declares nothing.
    """
    knows, geometric = getattr(transform, "knows", None), getattr(transform, "geometric", None)
    if knows is not None:
        return tuple(knows)
    if geometric is None:
        return None
    if not geometric:
        return tuple(ROLES)
    methods = {role: f"on_{role.removeprefix('relative_')}" for role in ROLES}
    return tuple(role for role, method in methods.items() if hasattr(transform, method))


@dataclasses.dataclass(frozen=True)
class Fitted(PerImage):
    """A transform with arrays computed from the training images.

    Attributes:
        arrays: Mapping from name to array as `fit` returned it; empty before `bind`.
        asset_names: Names of the arrays.
    """

    arrays: Mapping[str, np.ndarray] = dataclasses.field(
        default_factory=dict, repr=False, compare=False, kw_only=True
    )
    asset_names: ClassVar[tuple[str, ...]]

    @abc.abstractmethod
    def fit(self, blocks: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
        """Computes the arrays in one pass over the training images.

        Args:
            blocks: Training images, float64 `[examples, height, width, channels]` per block.

        Returns:
            Mapping from each name in `asset_names` to an array.
        """

    def bind(self, assets: Mapping[str, np.ndarray]) -> "Fitted":
        """Returns the same transform with its arrays.

        Args:
            assets: Arrays that `fit` returned, possibly among others.

        Raises:
            ValueError: If an array is missing.
        """
        missing = [name for name in self.asset_names if name not in assets]
        if missing:
            raise ValueError(
                f"{self.name} needs the fitted asset {missing[0]!r}, there are "
                f"{sorted(assets) or 'none'}: fit it on the training split first"
            )
        return dataclasses.replace(self, arrays={name: assets[name] for name in self.asset_names})


def check_image(name: str, image: jax.Array) -> None:
    """Raises `ValueError` unless an image has three axes, `[height, width, channels]`.

    Args:
        name: Name of the transform, for the message.
        image: The image.

    Raises:
        ValueError: If the image does not have three axes.
    """
    if image.ndim != 3:
        raise ValueError(
            f"{name} takes images [height, width, channels], got shape {list(image.shape)}"
        )


def pixel_size(role: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Returns the height and width of one example of an image, of frames or of a label map.

    Args:
        role: `image`, `frames` or `label_map`.
        shape: Shape of the example without a batch axis.

    Example:
        >>> from rcnn_jax.data.transforms.per_image import pixel_size
        >>> pixel_size("frames", (10, 32, 48, 3))
        (32, 48)
    """
    return shape[:2] if role == "label_map" else shape[-3:-1]


def _common_size(name: str, pixels: Mapping[str, tuple[str, Any]]) -> HeightWidth:
    """Returns the height and width that the images, frames and label maps of one example share.

    Args:
        name: Name of the transform that moves them together, for messages.
        pixels: Mapping from feature to (role, value of one example).

    Raises:
        ValueError: If they differ in height or width, or an image does not have three axes.
    """
    sizes = {}
    for feature, (role, value) in pixels.items():
        if role == "image":
            check_image(name, value)
        sizes[feature] = pixel_size(role, value.shape)
    first, *others = sizes
    for other in others:
        if sizes[other] != sizes[first]:
            of_first, of_other = ("x".join(map(str, sizes[each])) for each in (first, other))
            raise ValueError(
                f"{name} moves {first!r} and {other!r} together, but one is {of_first} and the "
                f"other {of_other}: give them one size"
            )
    height, width = sizes[first]
    return height, width
