"""The features of a batch that a transform changes together, and what it must declare to do so.

The roles themselves are documented at `rcnn_jax.data.spec.Feature`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp

from rcnn_jax.data.spec import ROLES, Feature
from rcnn_jax.data.transforms.per_image import PIXELS, Batch, PerExample, known_roles, pixel_size


def roles_of(features: Mapping[str, Feature]) -> dict[str, str]:
    """Returns the role of each feature that has one.

    Args:
        features: Mapping from names to `Feature`s.

    Returns:
        Mapping from feature to role. A feature `image` has the role `image` without stating it.

    Example:
        >>> from rcnn_jax.data.roles import roles_of
        >>> from rcnn_jax.data.spec import Feature
        >>> image, label = Feature((8, 8, 3), "uint8"), Feature((), "int32", 10)
        >>> roles_of({"image": image, "label": label})
        {'image': 'image'}
    """
    stated = {name: feature.role for name, feature in features.items()}
    if stated.get("image") == "":
        stated["image"] = "image"
    return {name: role for name, role in stated.items() if role}


def by_role(transform: Any) -> Callable[..., Batch] | None:
    """Returns the call of a transform that takes roles.

    Args:
        transform: A `Transform`.

    Returns:
        The transform itself if it inherits the call of `PerExample`, which takes roles as a third
        argument; `None` if it defines one that takes the whole batch.
    """
    inherited = type(transform).__call__ is PerExample.__call__
    return transform if isinstance(transform, PerExample) and inherited else None


def check_known(
    transform: Any, roles: Iterable[tuple[str, str]], shipped: Mapping[str, Any]
) -> None:
    """Checks that a transform declares what it does to features besides an image.

    Args:
        transform: A `Transform`.
        roles: Pairs `(feature, role)`.
        shipped: Mapping from name to class of the transforms that an error message suggests.

    Raises:
        ValueError: If the transform declares nothing, or does not know one of the roles.
    """
    known, name = known_roles(transform), _name(transform)
    for feature, role in roles:
        if role not in ROLES or (feature, role) == ("image", "image"):
            continue
        if known is None:
            raise ValueError(
                f"{name} does not say what it does to the feature {feature!r}, whose role is "
                f"{role!r}: a transform that moves no pixel declares `geometric = False`, one that "
                "moves pixels derives from rcnn_jax.data.transforms.per_image:Geometric and has a "
                f"method on_{role.removeprefix('relative_')}, and one that changes the whole batch "
                f"by itself declares `knows = ('image', {role!r})`"
            )
        if role not in known:
            able = [other for other, made in shipped.items() if role in (known_roles(made) or ())]
            raise ValueError(
                f"{name} does not know the role {role!r} of the feature {feature!r}, only "
                f"{', '.join(known) or 'an image'}; {role!r} is known to {', '.join(able)}"
            )


def check_untied(transform: Any, roles: Mapping[str, str], batch: Batch) -> None:
    """Checks that no feature without a role seems to belong to pixels that are moved.

    A transform that takes the whole batch is not checked.

    Args:
        transform: A `Transform`.
        roles: Mapping from feature to role.
        batch: Features `[batch, ...]` before the first transform.

    Raises:
        ValueError: If there is such a feature. For a transform that does not declare whether it
            moves pixels, only if there is one that looks like a label map.
    """
    moves = getattr(transform, "geometric", None)
    pixels = [name for name, role in roles.items() if role in PIXELS and name in batch]
    if by_role(transform) is None or moves is False or not pixels:
        return
    sizes = [pixel_size(roles[name], batch[name].shape[1:]) for name in pixels]
    for name in sorted(set(batch) - set(roles)):
        value = batch[name]
        role = _role_by_look(name, value, sizes)
        if not role or (moves is None and role != "label_map"):
            continue
        does = "moves pixels" if moves else "does not say whether it moves pixels"
        declares = "" if moves else ", and the transform `geometric = False` if it moves none"
        raise ValueError(
            f"{_name(transform)} {does}, and the feature {name!r} of {value.dtype} "
            f"{list(value.shape[1:])} has no role, though by its looks it belongs to "
            f"{pixels[0]!r}: the data set states one, as in Feature(..., role={role!r}), or "
            f"role='none' where it does not belong there{declares}; what nothing reads is left "
            "out by config.data.features"
        )


def _name(transform: Any) -> str:
    return getattr(transform, "name", type(transform).__name__)


def _role_by_look(name: str, value: Any, sizes: Sequence[tuple[int, ...]]) -> str:
    """Guesses the role of a feature `[batch, ...]` that states none; `""` for no role."""
    shape = value.shape[1:]
    if len(shape) in (2, 3) and shape[:2] in sizes:
        flat = len(shape) == 2 or shape[2] == 1
        return "label_map" if flat and jnp.issubdtype(value.dtype, jnp.integer) else "image"
    return "boxes" if len(shape) == 2 and shape[1] == 4 and "box" in name.lower() else ""
