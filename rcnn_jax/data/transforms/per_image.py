"""The forms of a transform: on a batch, on an example role by role, or on one image at a time."""

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
# Features that have pixels, and those whose pixels are colours.
PIXELS = ("image", "frames", "label_map")
COLOURS = ("image", "frames")


@runtime_checkable
class Transform(Protocol):
    """A pure function of a batch and one key per example, traced inside jit.

    A batch whose features have roles (`spec.Feature.role`) besides one `image` is handed only to
    transforms that declare what they do to those, by one of two class attributes: `geometric =
    False` says that no pixel changes its place, `knows = ("image", "label_map")` names the roles
    that the transform takes care of itself. `makes_views = True` says that it turns one image into
    several, [batch, views, height, width, channels].
    """

    @property
    def random(self) -> bool:
        """Whether it needs keys."""
        ...

    def __call__(self, batch: Batch, keys: jax.Array | None) -> Batch:
        """Returns a new batch; what it does not change it passes on."""
        ...


class PerExample(abc.ABC):
    """A transform that treats each example alone, by one pure function for each role.

    It draws once for an example, so that its image, label map, boxes and frames move together.
    Everything without a role stays in the batch as it is. Subclasses are frozen dataclasses whose
    fields are the arguments in the config's text. Derive from `PerImage`, `RandomPerImage` or
    `Geometric`.

    Attributes:
        name: in the config's text.
        geometric: whether pixels change their places. False: only images and frames are changed,
            label maps and boxes stay true. None: not declared, so that the transform is for
            examples with an `image` and no other feature with a role.
        knows: the roles that it takes along; None: those that it has a method `on_...` for, or all
            where it is not geometric.
        makes_views: whether it turns an image into several, `[views, height, width, channels]`.
    """

    name: ClassVar[str]
    geometric: ClassVar[bool | None] = None
    knows: ClassVar[tuple[str, ...] | None] = None
    makes_views: ClassVar[bool] = False

    @property
    @abc.abstractmethod
    def random(self) -> bool:
        """Whether it needs keys."""

    def given(self, batch: Batch, keys: jax.Array | None) -> Any:
        """What each example's draw is made from, an array or a tree of arrays `[batch, ...]`.

        Args:
            batch: the whole batch.
            keys: one key per example, or None.

        Returns:
            The keys of a random transform, None for another.

        Raises:
            ValueError: if there are none where they are needed.
        """
        del batch
        if self.random and keys is None:
            raise ValueError(f"{self.name} is random and needs one key per example, got none")
        return keys if self.random else None

    def draw(self, given: Any, size: Any) -> Any:
        """Draws what all functions of one example are handed; here, what it is made from.

        Args:
            given: what `given` returned for this example, usually its key.
            size: height and width of the example's pixels; None where it is not geometric.
        """
        del size
        return given

    @abc.abstractmethod
    def on_image(self, image: jax.Array, drawn: Any) -> jax.Array:
        """Changes a floating image, [height, width, channels]."""

    def on_frames(self, frames: jax.Array, drawn: Any) -> jax.Array:
        """Changes floating [time, height, width, channels], each frame as an image is."""
        return jax.vmap(self.on_image, in_axes=(0, None))(frames, drawn)

    def __call__(self, batch: Batch, keys: jax.Array | None, roles: Roles | None = None) -> Batch:
        """Applies it to each example.

        Args:
            batch: features [batch, ...].
            keys: one key per example, [batch]; None where it is not random.
            roles: feature to role; None: `image` alone is an image.

        Returns:
            The batch with its images, frames, label maps and boxes changed.

        Raises:
            ValueError: if the batch has nothing to change, or has it in other shapes than the
                transform is for.
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

    One that declares `geometric` serves several images of an example, and frames, too.
    """

    @property
    def random(self) -> bool:
        """It needs no keys."""
        return False

    @abc.abstractmethod
    def apply(self, image: jax.Array) -> jax.Array:
        """Takes a floating image, [height, width, channels]."""

    def on_image(self, image: jax.Array, drawn: Any) -> jax.Array:
        """See `apply`."""
        del drawn
        return self.apply(image)


class RandomPerImage(PerExample):
    """As `PerImage`, with a key for each example, which all its images and frames share."""

    @property
    def random(self) -> bool:
        """It needs keys."""
        return True

    @abc.abstractmethod
    def apply(self, image: jax.Array, key: jax.Array) -> jax.Array:
        """Takes a floating image, [height, width, channels], and its example's key."""

    def on_image(self, image: jax.Array, drawn: Any) -> jax.Array:
        """See `apply`."""
        return self.apply(image, drawn)


class Geometric(PerExample):
    """A transform that moves pixels, and the features of an example together.

    A subclass writes `on_image` and, for each further role that it knows, a method of that name.
    Without `draw` it is not random::

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

    `on_label_map` takes integers [height, width] or [height, width, 1]. `on_boxes` takes floating
    [boxes, 4] in pixels, and the height and width before the transform; what it returns is cut at
    the border, and absent boxes are put back, by the caller. All images, frames and label maps of
    an example must have one height and width.
    """

    geometric: ClassVar[bool | None] = True

    @property
    def random(self) -> bool:
        """It needs keys where it draws."""
        return type(self).draw is not PerExample.draw


def known_roles(transform: Any) -> tuple[str, ...] | None:
    """The roles that a transform takes along.

    Args:
        transform: a transform or its class.

    Returns:
        Roles; None where it declares nothing.
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
        arrays: what `fit` returned; empty until `bind`.
        asset_names: the names in it.
    """

    arrays: Mapping[str, np.ndarray] = dataclasses.field(
        default_factory=dict, repr=False, compare=False, kw_only=True
    )
    asset_names: ClassVar[tuple[str, ...]]

    @abc.abstractmethod
    def fit(self, blocks: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
        """Computes the arrays in one pass over float64 [examples, height, width, channels]."""

    def bind(self, assets: Mapping[str, np.ndarray]) -> "Fitted":
        """The same transform with its arrays.

        Raises:
            ValueError: if one is missing.
        """
        missing = [name for name in self.asset_names if name not in assets]
        if missing:
            raise ValueError(
                f"{self.name} needs the fitted asset {missing[0]!r}, there are "
                f"{sorted(assets) or 'none'}: fit it on the training split first"
            )
        return dataclasses.replace(self, arrays={name: assets[name] for name in self.asset_names})


def check_image(name: str, image: jax.Array) -> None:
    """Raises `ValueError` unless the image is [height, width, channels]."""
    if image.ndim != 3:
        raise ValueError(
            f"{name} takes images [height, width, channels], got shape {list(image.shape)}"
        )


def pixel_size(role: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Height and width of one example of an image, of frames or of a label map."""
    return shape[:2] if role == "label_map" else shape[-3:-1]


def _common_size(name: str, pixels: Mapping[str, tuple[str, Any]]) -> HeightWidth:
    """The height and width that the images, frames and label maps of one example share.

    Args:
        name: of the transform that moves them together.
        pixels: feature to (role, value of one example).

    Raises:
        ValueError: if they differ, or an image has other than three axes.
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
