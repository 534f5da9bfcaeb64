"""Fractional max-pooling: regions of mixed sizes that shrink an image by a non-integer factor.

Regions are drawn along each axis independently; a region of the image is the product of one region
of each axis. Sizes are static and only positions are random, so that everything runs inside jit.
Positions are computed with integers: no rounding of `alpha * (j + u)` can lose or gain a pixel.

References:
    Graham, Fractional max-pooling, arXiv:1412.6071, section 2; formulas as in the released
    SparseConvNet code.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, UInt32

from rcnn_jax.layers.pooling import max_along
from rcnn_jax.layers.randomness import example_keys

GENERATORS = ("pseudorandom", "random")
_MOST_PRODUCT = 2**31 - 1


def pseudorandom_bounds(
    total: int, parts: int, phase: int | Int[Array, ""]
) -> Int[Array, " bounds"]:
    """Splits `total` into `parts` increments of nearly equal size, in a regular order.

    Bound j is `floor((j + u) alpha) - floor(u alpha)` with `alpha = total / parts`, for any u with
    `floor(u total) = phase`: the remaining fraction of `u total` cannot carry any multiple of 1 /
    parts over an integer. A uniform u in (0, 1) is hence a uniform phase in 0..total - 1.

    Args:
        total: Sum of the increments, at least 0.
        parts: Number of increments, at least 1.
        phase: Integer from 0 to `max(total - 1, 0)`, which may be traced.

    Returns:
        Bounds `int32[parts + 1]` from 0 to `total`; each increment is floor(alpha) or one more.

    Example:
        >>> from rcnn_jax.layers.fractional_pooling import pseudorandom_bounds
        >>> pseudorandom_bounds(7, 4, phase=0).tolist(), pseudorandom_bounds(7, 4, phase=3).tolist()
        ([0, 1, 3, 5, 7], [0, 2, 4, 6, 7])
    """
    j = jnp.arange(parts + 1, dtype=jnp.int32)
    return (j * total + phase) // parts - jnp.asarray(phase, jnp.int32) // parts


def random_bounds(
    key: Key[Array, ""] | UInt32[Array, "2"], total: int, parts: int
) -> Int[Array, " bounds"]:
    """Splits `total` into `parts` increments of floor(alpha) or one more, in a random order.

    Args:
        key: Random key of the order.
        total: Sum of the increments, at least 0.
        parts: Number of increments, at least 1; alpha is `total / parts`.

    Returns:
        Bounds `int32[parts + 1]` from 0 to `total`.
    """
    small, larger = divmod(total, parts)
    increments = small + (jnp.arange(parts, dtype=jnp.int32) < larger).astype(jnp.int32)
    increments = jax.random.permutation(key, increments)
    return jnp.concatenate([jnp.zeros(1, jnp.int32), jnp.cumsum(increments, dtype=jnp.int32)])


def draw_regions(
    key: Key[Array, ""] | UInt32[Array, "2"],
    size: int,
    pooled: int,
    *,
    generator: str = "pseudorandom",
    overlapping: bool = True,
    window: int = 2,
) -> Int[Array, "pooled longest"]:
    """Draws the pooling regions of one axis.

    Overlapping regions all have length `window`, and their first pixels are the bounds that split
    `size - window` into `pooled - 1` increments. Disjoint regions lie between the bounds that split
    `size` into `pooled` increments. In both cases the regions start at the first pixel, end at the
    last, and cover all pixels in between.

    Args:
        key: Random key of the positions.
        size: Number of pixels along the axis.
        pooled: Number of regions.
        generator: Order of long and short increments, `"pseudorandom"` or `"random"`.
        overlapping: Whether neighbouring regions may share pixels.
        window: Length of overlapping regions in pixels.

    Returns:
        Pixels of each region, `int32[pooled, longest]`. A region shorter than the longest repeats
        its last pixel, which changes no maximum.

    Raises:
        ValueError: If the generator is unknown, or no such regions cover the axis.
    """
    if generator not in GENERATORS:
        raise ValueError(
            f'fractional pooling draws regions by one of {", ".join(GENERATORS)}, got "{generator}"'
        )
    total, parts = (size - window, pooled - 1) if overlapping else (size, pooled)
    _check_cover(size, pooled, window, overlapping)
    if parts == 0:  # a single window as long as the axis
        starts = jnp.zeros(1, jnp.int32)
        return starts[:, None] + jnp.arange(window, dtype=jnp.int32)[None]
    if generator == "random":
        bounds = random_bounds(key, total, parts)
    else:
        bounds = pseudorandom_bounds(total, parts, jax.random.randint(key, (), 0, max(total, 1)))
    if overlapping:
        return bounds[:, None] + jnp.arange(window, dtype=jnp.int32)[None]
    offsets = jnp.arange(-(-total // parts), dtype=jnp.int32)
    return jnp.minimum(bounds[:-1, None] + offsets[None], bounds[1:, None] - 1)


def _check_cover(size: int, pooled: int, window: int, overlapping: bool) -> None:
    """Raises an error if no regions of these sizes cover the axis."""
    if not 1 <= pooled <= size:
        raise ValueError(
            f"fractional pooling needs 1 to {size} regions on an axis of {size} pixels, got "
            f"{pooled}"
        )
    if size * (pooled + 1) > _MOST_PRODUCT:
        raise ValueError(f"fractional pooling: an axis of {size} pixels is too long")
    if not overlapping:
        return
    total, parts = size - window, pooled - 1
    if window < 1 or total < parts or -(-total // max(parts, 1)) > (window if parts else 0):
        raise ValueError(
            f"{pooled} windows of {window} pixels, each at least one further than the last, "
            f"cannot cover {size} pixels without gaps"
        )


def pool_regions(
    x: Float[Array, "batch *spatial channels"], regions: Sequence[Int[Array, "..."]]
) -> Float[Array, "batch *pooled channels"]:
    """Computes the largest value of each channel in each region.

    Args:
        x: Input `[batch, *spatial, channels]`.
        regions: Regions of each spatial axis as `draw_regions` returns them, integers `[pooled,
            longest]`, or `[batch, pooled, longest]` with different regions for each example.

    Returns:
        Maxima `[batch, *pooled, channels]` in the dtype of `x`. The first of tied values along an
        axis receives the gradient.

    Raises:
        ValueError: If the number of arrays of regions is not the number of spatial axes.
    """
    if len(regions) != x.ndim - 2:
        raise ValueError(
            f"pooling needs the regions of each of {x.ndim - 2} spatial axes, got {len(regions)}"
        )
    region_axes = tuple(0 if r.ndim == 3 else None for r in regions)
    return jax.vmap(_pool_example, (0, region_axes))(x, tuple(regions))


def _pool_example(x: Array, regions: tuple[Array, ...]) -> Array:
    """Computes `pool_regions` of one example `[*spatial, channels]`."""
    # The maximum over a product of intervals is a maximum along one axis after the other.
    for axis, members in enumerate(regions):
        gathered = jnp.take(x, members, axis=axis, mode="clip")
        x = max_along(gathered, axis + 1)
    return x


def fractional_max_pool(
    x: Float[Array, "batch *spatial channels"],
    pooled: Sequence[int],
    key: Key[Array, ""] | UInt32[Array, "2"],
    *,
    generator: str = "pseudorandom",
    overlapping: bool = True,
    window: int = 2,
    per_example: bool = False,
) -> Float[Array, "batch *pooled channels"]:
    """Max-pools to `pooled` regions along each axis, drawn anew from `key`.

    Args:
        x: Input `[batch, *spatial, channels]`.
        pooled: Number of regions along each spatial axis.
        key: Random key, the same on every device; axis i folds i in.
        generator: Order of long and short increments, `"pseudorandom"` or `"random"`.
        overlapping: Whether neighbouring regions may share pixels.
        window: Length of overlapping regions in pixels.
        per_example: Whether each example has separate regions, drawn from a key that belongs to the
            example. Otherwise one draw serves the whole batch on all devices, as in the released
            code.

    Returns:
        Maxima `[batch, *pooled, channels]` in the dtype of `x`.

    Raises:
        ValueError: If the generator is unknown, no such regions cover an axis, or `pooled` does not
            have one size for each spatial axis.

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.layers.fractional_pooling import fractional_max_pool
        >>> x = jnp.arange(4.0).reshape(1, 4, 1)
        >>> fractional_max_pool(x, (3,), jax.random.key(0)).ravel().tolist()
        [1.0, 2.0, 3.0]
    """
    sizes = x.shape[1:-1]
    if len(pooled) != len(sizes):
        raise ValueError(
            f"fractional pooling needs one output size for each axis of spatial shape {sizes}, got "
            f"{tuple(pooled)}"
        )

    def draw(own_key: Array) -> tuple[Array, ...]:
        return tuple(
            draw_regions(
                jax.random.fold_in(own_key, axis),
                size,
                parts,
                generator=generator,
                overlapping=overlapping,
                window=window,
            )
            for axis, (size, parts) in enumerate(zip(sizes, pooled, strict=True))
        )

    if per_example:
        return pool_regions(x, jax.vmap(draw)(example_keys(key, x.shape[0])))
    return pool_regions(x, draw(key))
