"""Pooling: windows, values and gradients against loops."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from layers.oracles import max_pool as slow_max_pool
from rcnn_jax.layers.pooling import avg_pool, global_max_pool, max_pool, pool_padding

RNG = np.random.default_rng(0)

CASES = [
    ((8, 8), (3, 3), (2, 2), "CEIL"),
    ((7, 5), (3, 3), (2, 2), "CEIL"),
    ((7, 5), (3, 3), (2, 2), "SAME"),
    ((7, 6), (2, 3), (1, 2), "VALID"),
    ((9, 9), (2, 2), (4, 4), "VALID"),
    ((5, 5), (3, 3), (1, 1), "SAME"),
    ((6, 7), (3, 2), (3, 2), ((1, 1), (0, 1))),
    ((11,), (4,), (3,), "CEIL"),
    ((1, 2), (3, 3), (2, 2), "CEIL"),
    ((5, 4), (2, 1), (3, 3), "CEIL"),
]


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
@pytest.mark.parametrize(("sizes", "window", "strides", "padding"), CASES)
def test_max_pool_and_its_gradient(sizes, window, strides, padding, ties, x64):
    shape = (2, *sizes, 3)
    x = RNG.integers(0, 3, shape).astype(float) if ties else RNG.normal(size=shape)
    pads = pool_padding(sizes, window, strides, padding)
    expected, source = slow_max_pool(x, window, strides, pads)
    gradient = RNG.normal(size=expected.shape)

    @jax.jit
    def both(x, gradient):
        y, pull_back = jax.vjp(lambda x: max_pool(x, window, strides, padding), x)
        return y, pull_back(gradient)[0]

    y, by_x = both(x, gradient)
    np.testing.assert_array_equal(y, expected)
    scattered = np.zeros(shape)
    for index in np.ndindex(*expected.shape):
        scattered[source[index]] += gradient[index]
    np.testing.assert_allclose(by_x, scattered, atol=1e-12)


@pytest.mark.parametrize(("size", "pooled"), [(32, 16), (16, 8), (24, 12), (12, 6), (8, 4), (4, 2)])
def test_sizes_of_the_paper_have_the_windows_of_same(size, pooled):
    ceil = pool_padding((size, size), (3, 3), (2, 2), "CEIL")
    assert ceil == pool_padding((size, size), (3, 3), (2, 2), "SAME") == ((0, 1), (0, 1))
    assert max_pool(jnp.zeros((1, size, size, 1)), (3, 3), (2, 2), "CEIL").shape[1] == pooled


def test_ceil_starts_at_the_first_pixel_on_odd_sizes():
    assert pool_padding((7,), (3,), (2,), "CEIL") == ((0, 0),)
    assert pool_padding((7,), (3,), (2,), "SAME") == ((1, 1),)


def windows_of(size, window, stride, padding):
    """Places of each window in ceil mode, or with padding on both sides, found one by one."""
    if padding == "CEIL":
        first, end = 0, size
    else:
        first, end = -padding, size + padding
    found = []
    for start in range(first, size + window + stride, stride):
        if padding == "CEIL":
            if start >= size or (found and found[-1].stop >= end):
                break
        elif start + window > end:
            break
        found.append(range(start, start + window))
    return found


LINE = np.array([3.0, -1.0, 2.0, -5.0, 4.0, 0.5, -2.0], np.float32)
LINES = [
    *((n, w, s, "CEIL") for n in (1, 4, 5, 7) for w in (1, 2, 3) for s in (2, 3, 4)),
    *((7, w, s, 1) for w, s in ((2, 3), (3, 2))),
]


@functools.cache
def pooled_lines():
    """Pools a line for each case of `LINES`, and pulls ones back."""

    def on_line(line, window, stride, padding):
        pads = padding if padding == "CEIL" else ((padding, padding),)
        results = {}
        for name, pool in (
            ("max", max_pool),
            ("mean", avg_pool),
            ("counted", functools.partial(avg_pool, count_padding=True)),
        ):
            y, pull_back = jax.vjp(lambda x, pool=pool: pool(x, (window,), (stride,), pads), line)
            weights = jnp.arange(1.0, y.size + 1).reshape(y.shape)
            results[name] = y.ravel(), pull_back(weights)[0].ravel()
        return results

    @jax.jit
    def all_lines(line):
        return [on_line(line[:, :size], *rest) for size, *rest in LINES]

    return jax.device_get(all_lines(LINE[None, :, None]))


@pytest.mark.one_row
def test_windows_in_ceil_mode_begin_inside():
    """Values and gradients of each window against a loop; one beyond the input does not exist."""
    for (size, window, stride, padding), results in zip(LINES, pooled_lines(), strict=True):
        kept = windows_of(size, window, stride, padding)
        inside = [[place for place in one if 0 <= place < size] for one in kept]
        expected = {name: ([], np.zeros(size)) for name in ("max", "mean", "counted")}
        for number, (one, places) in enumerate(zip(kept, inside, strict=True), start=1):
            best = max(places, key=lambda place: LINE[place])
            expected["max"][0].append(LINE[best])
            expected["max"][1][best] += number
            # Padding counts as pixels where that is asked for; what lies beyond the end never.
            for name, count in (
                ("mean", len(places)),
                ("counted", len(places) if padding == "CEIL" else len(one)),
            ):
                expected[name][0].append(LINE[places].sum() / count)
                expected[name][1][places] += number / count
        for name, (values, gradient) in expected.items():
            case = f"{name} of {size}, window {window}, stride {stride}, {padding}"
            np.testing.assert_allclose(results[name][0], values, rtol=1e-6, err_msg=case)
            np.testing.assert_allclose(results[name][1], gradient, rtol=1e-6, err_msg=case)


@pytest.mark.one_row
def test_ceil_mode_is_that_of_torch():
    torch = pytest.importorskip("torch")
    pools = torch.nn.functional
    for (size, window, stride, padding), results in zip(LINES, pooled_lines(), strict=True):
        if padding == "CEIL" and window > size:
            continue  # torch takes no window that is larger than the input
        options = {"padding": 0, "ceil_mode": True} if padding == "CEIL" else {"padding": padding}
        for name, pool in (
            ("max", pools.max_pool1d),
            ("mean", functools.partial(pools.avg_pool1d, count_include_pad=False)),
            ("counted", functools.partial(pools.avg_pool1d, count_include_pad=True)),
        ):
            line = torch.tensor(LINE[None, None, :size], requires_grad=True)
            values = pool(line, window, stride, **options)
            values.backward(torch.arange(1.0, values.numel() + 1).reshape(values.shape))
            case = f"{name} of {size}, window {window}, stride {stride}, {padding}"
            for ours, theirs in zip(results[name], (values.detach(), line.grad), strict=True):
                theirs = theirs.numpy().ravel()
                np.testing.assert_allclose(ours, theirs, rtol=1e-6, err_msg=case)


def test_max_pool_lets_nan_through():
    x = jnp.zeros((1, 4, 4, 1)).at[0, 1, 1, 0].set(jnp.nan)
    assert jnp.isnan(max_pool(x, (2, 2), (2, 2))[0, 0, 0, 0])
    y = jax.vjp(lambda x: max_pool(x, (2, 2), (2, 2)), x)[0]
    assert jnp.isnan(y[0, 0, 0, 0])


def test_average_divides_by_the_pixels_inside():
    x = jnp.arange(5.0).reshape(1, 5, 1)
    inside = avg_pool(x, (3,), (2,), "SAME")
    np.testing.assert_allclose(inside[0, :, 0], [0.5, 2.0, 3.5])
    counted = avg_pool(x, (3,), (2,), "SAME", count_padding=True)
    np.testing.assert_allclose(counted[0, :, 0], [1 / 3, 2.0, 7 / 3], rtol=1e-6)
    np.testing.assert_allclose(avg_pool(x, (2,), (2,))[0, :, 0], [0.5, 2.5])


def test_the_gradient_of_a_global_maximum_is_never_lost():
    """Each channel of each example hands its gradient to exactly one position."""
    x = jnp.asarray(RNG.normal(size=(16, 5, 5, 8)))
    gradient = jax.jit(jax.grad(lambda z: global_max_pool(jnp.sin(z) * 3).sum()))(x)
    assert ((gradient != 0).sum((1, 2)) == 1).all()


def test_a_tied_global_maximum_gives_its_gradient_to_the_first():
    x = jnp.zeros((1, 2, 2, 1)).at[0, 0, 1, 0].set(1.0).at[0, 1, 0, 0].set(1.0)
    gradient = jax.grad(lambda x: global_max_pool(x).sum())(x)
    np.testing.assert_array_equal(gradient[0, :, :, 0], [[0, 1], [0, 0]])


def test_global_max():
    x = jnp.asarray(RNG.normal(size=(2, 3, 4, 5)))
    np.testing.assert_array_equal(global_max_pool(x), np.asarray(x).max((1, 2)))


@pytest.mark.parametrize(
    ("window", "strides", "padding", "message"),
    [
        ((3,), (2, 2), "CEIL", "one window and one stride"),
        ((0, 3), (2, 2), "CEIL", "at least 1"),
        ((3, 3), (2, 2), "FULL", '"SAME", "CEIL" or "VALID", got "FULL"'),
        ((9, 9), (2, 2), "VALID", "no pooling window"),
        ((3, 3), (2, 2), ((0, -1), (0, 0)), "pair of numbers >= 0"),
        ((2, 2), (2, 2), ((0, 0), (2, 0)), "without a pixel .* pad by less than the window"),
        ((2, 2), (2, 2), ((0, 2), (0, 0)), "without a pixel .* pad by less than the window"),
    ],
)
def test_impossible_arguments(window, strides, padding, message):
    with pytest.raises(ValueError, match=message):
        max_pool(jnp.zeros((1, 8, 8, 1)), window, strides, padding)
