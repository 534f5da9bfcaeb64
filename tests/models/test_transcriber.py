"""The transcriber: padding, layouts by hand, gradients, devices and types, counts."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from layers import oracles
from layers.recurrent import oracles as recurrent_oracles
from rcnn_jax.layers.randomness import DATA_AXIS
from rcnn_jax.layers.recurrent.cell import cell_by_name
from rcnn_jax.models import transcriber
from rcnn_jax.models.transcriber import Transcriber, grcnn_released_code
from rcnn_jax.summary.layer_table import summarize
from rcnn_jax.summary.listing import parse_input

pytestmark = pytest.mark.one_row

RNG = np.random.default_rng(0)
BATCH, HEIGHT, WIDTH, CLASSES, HIDDEN = 4, 5, 9, 4, 3
LENGTHS = np.array([9, 4, 0, 7], np.int32)
X = RNG.normal(size=(BATCH, HEIGHT, WIDTH, 1))
KEY = np.array([0, 3], np.uint32)
MODELS = {
    "conv": {
        "front_end": "conv", "features": (4,), "pools": ((2, 2),), "cell": "elman",
        "direction": "forward",
    },
    "rcl": {
        "front_end": "rcl", "features": (4, 5), "pools": ((3, 2), (2, 1)), "steps": 1,
        "cell": "elman", "direction": "forward",
    },
    "grcnn": {
        "front_end": "grcnn", "features": (4, 3, 5), "pools": ((2, 2), (2, 1)), "steps": 1,
        "tie_weights": False, "cell": "elman", "direction": "forward",
    },
    "none": {"front_end": "none", "stack": 3, "stride": 2, "layers": 2, "dropout": 0.2},
}  # fmt: skip
every_model = pytest.mark.parametrize("name", list(MODELS))


def build(name, **attributes):
    shared = {"classes": CLASSES, "hidden": HIDDEN, "layers": 1, "momentum": 0.5}
    return Transcriber(**{**shared, **MODELS[name], **attributes})


@functools.cache
def filled(name):
    """Variables with random numbers everywhere, in double precision; variances are positive."""
    shapes = jax.eval_shape(functools.partial(build(name).init, train=False), jax.random.key(0), X)
    rng = np.random.default_rng(1)
    drawn = jax.tree.map(lambda s: 0.5 * rng.normal(size=s.shape), shapes)
    return drawn | jax.tree.map(np.abs, {k: v for k, v in drawn.items() if k == "batch_stats"})


def loss_of(model, variables, x, lengths, key):
    """A scalar that all mask logits of a training pass go into; logits and statistics beside it."""
    collections = [name for name in variables if name != "params"]
    logits, updated = model.apply(
        variables, x, train=True, lengths=lengths, rngs={"dropout": key}, mutable=collections
    )
    row, time, label = jnp.meshgrid(*map(jnp.arange, logits.shape), indexing="ij")
    return jnp.vdot(logits, jnp.sin(row + 3.0 * time + 7.0 * label)), (logits, updated)


@functools.cache
def graded(name):
    """Of variables and images, dropout on; compiled once a model and width."""
    loss = functools.partial(loss_of, build(name, param_dtype="float64"))
    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))


@functools.cache
def evaluation(name, dtype=None):
    return jax.jit(functools.partial(build(name, dtype=dtype).apply, train=False))


@every_model
def test_nothing_beyond_the_width_has_an_effect(name, x64):
    """In training: logits, gradients and batch statistics of wider images that hold junk."""
    model, variables = build(name), filled(name)
    (value, (logits, updated)), gradients = graded(name)(variables, X, LENGTHS, KEY)
    wide = np.full((BATCH, HEIGHT, WIDTH + 4, 1), 1e3)
    inside = (np.arange(WIDTH)[None] < LENGTHS[:, None])[:, None, :, None]
    wide[:, :, :WIDTH] = np.where(inside, X, -1e3)
    found = graded(name)(variables, wide, LENGTHS, KEY)
    (same_value, (same_logits, same_updated)), (same_gradients, by_wide) = found
    close = functools.partial(np.testing.assert_allclose, rtol=1e-9, atol=1e-12)
    close(same_value, value)
    close(same_logits[:, : logits.shape[1]], logits)
    jax.tree.map(close, (same_updated, same_gradients), (updated, gradients[0]))
    close(by_wide[:, :, :WIDTH], gradients[1])
    inside = np.broadcast_to(inside, X.shape)
    assert (gradients[1][inside] != 0).mean() > 0.5
    for beyond in (by_wide[:, :, WIDTH:], gradients[1][~inside], same_logits[:, logits.shape[1] :]):
        np.testing.assert_array_equal(beyond, 0)
    for row, length in enumerate(model.output_lengths(LENGTHS)):
        assert np.abs(logits[row, :length]).min(initial=1) > 0
        np.testing.assert_array_equal(logits[row, length:], 0)


@every_model
def test_an_image_gives_alone_what_it_gives_in_a_batch(name, x64):
    logits = evaluation(name)(filled(name), X, lengths=LENGTHS)
    alone = evaluation(name)(filled(name), X[3:, :, :7])  # no lengths: all that is there
    assert alone.shape[1] == build(name).output_lengths(7)
    np.testing.assert_allclose(alone[0], logits[3, : alone.shape[1]], rtol=1e-9, atol=1e-12)


def head_of(variables, x):
    return x @ variables["params"]["head"]["kernel"] + variables["params"]["head"]["bias"]


def recurrent_of(model, variables, x):
    cell = cell_by_name(model.cell, HIDDEN)
    for layer in variables["params"]["recurrent"].values():
        zero = {part: np.zeros((len(x), n)) for part, n in cell.carry_features().items()}
        ways = ("forward", "backward") if "forward" in layer else ("",)
        runs = [
            recurrent_oracles.run(
                cell, layer[way] if way else layer, x, zero, reverse=way == "backward"
            )[0]
            for way in ways
        ]
        x = np.concatenate(runs, axis=-1)
    return x


def test_frames_side_by_side_are_read_by_recurrent_layers(x64):
    model, variables = build("none"), filled("none")
    frames = X[:1, :, :, 0].swapaxes(1, 2)
    padded = np.pad(frames, ((0, 0), (0, 2), (0, 0)))
    stacked = [padded[0, t : t + 3].ravel() for t in (0, 2, 4, 6, 8)]
    expected = head_of(variables, recurrent_of(model, variables, np.array(stacked)[None]))
    for x in (frames, X[:1]):  # frames, or the columns of an image
        np.testing.assert_allclose(evaluation("none")(variables, x), expected, rtol=1e-9)
    with_past = build("none", stack=3, stride=1)
    one = with_past._stacked(jnp.asarray(frames))
    np.testing.assert_array_equal(one[0, 0], np.r_[np.zeros(HEIGHT), frames[0, :2].ravel()])
    np.testing.assert_array_equal(one[0, 4], frames[0, 3:6].ravel())


def test_grcnn_by_its_equations(x64):
    """Gates, untied weights, pools padded on both sides and columns read in pairs."""
    model, variables = build("grcnn"), filled("grcnn")
    params, statistics = variables["params"], variables["batch_stats"]
    own = params["conv"]
    x = oracles.relu(oracles.conv(X[:2], own["kernel"]) + own["norm"]["bias"])
    x, _ = oracles.max_pool(x, (2, 2), (2, 2), ((0, 1), (0, 1)))

    def normal(layer, place, z, call):
        p, s = (tree[layer][f"norm{place}"] for tree in (params, statistics))
        return oracles.batch_norm(
            z, p["scale"][call], p["bias"][call], s["mean"][call], s["var"][call]
        )

    own, n = params["rcl1"], functools.partial(normal, "rcl1")
    f, g = oracles.conv(x, own["kernel"]), oracles.conv(x, own["gate_kernel"])
    start = oracles.relu(n("_feedforward", f, 0))
    gate = n("_gate_feedforward", g, 0)
    gate = gate + n("_gate_recurrent", oracles.conv(start, own["recurrent_gate_kernel"][0]), 0)
    recurrent = n("_recurrent", oracles.conv(start, own["recurrent_kernel"][0]), 0)
    product = n("_product", recurrent / (1 + np.exp(-gate)), 0)
    x = oracles.relu(n("_feedforward", f, 1) + product)
    x, _ = oracles.max_pool(x, (2, 2), (2, 1), ((0, 1), (1, 1)))
    columns = x.swapaxes(1, 2).reshape(2, x.shape[2], -1)
    assert columns.shape == (2, 6, 2 * 3)
    pairs = np.concatenate([columns[:, :-1], columns[:, 1:]], axis=-1)
    x = oracles.relu(normal("columns", "", pairs @ params["columns"]["kernel"][0], 0))
    expected = head_of(variables, recurrent_of(model, variables, x))
    found = evaluation("grcnn")(variables, X[:2])
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@every_model
def test_gradients_are_whole_and_those_of_finite_differences(name, x64):
    variables = filled(name)
    (_, (_, updated)), (gradient, _) = graded(name)(variables, X, LENGTHS, KEY)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient["params"]):
        assert np.abs(leaf).max() > 1e-9, path
    for new, old in zip(
        jax.tree.leaves(updated), jax.tree.leaves(variables.get("batch_stats")), strict=True
    ):
        assert np.abs(new - old).min() > 0
    rng = np.random.default_rng(2)
    direction = jax.tree.map(lambda p: rng.normal(size=p.shape), variables["params"])
    ahead, behind = (
        graded(name)(
            variables
            | {"params": jax.tree.map(lambda p, d, s=s: p + s * d, variables["params"], direction)},
            X, LENGTHS, KEY,
        )[0][0]
        for s in (1e-8, -1e-8)
    )  # fmt: skip
    slope = sum(jax.tree.leaves(jax.tree.map(np.vdot, gradient["params"], direction)))
    np.testing.assert_allclose((ahead - behind) / 2e-8, slope, rtol=1e-5)


def test_four_devices_compute_what_one_does(x64):
    """Batch statistics too, though each device holds an image of another width."""
    model, variables = build("rcl", param_dtype="float64"), filled("rcl")
    four = jax.pmap(
        functools.partial(loss_of, model),
        axis_name=DATA_AXIS, in_axes=(None, 0, 0, None),
    )  # fmt: skip
    _, (logits, updated) = four(variables, X[:, None], LENGTHS[:, None], KEY)
    (_, (whole, together)), _ = graded("rcl")(variables, X, LENGTHS, KEY)
    np.testing.assert_allclose(logits[:, 0], whole, rtol=1e-9, atol=1e-12)
    jax.tree.map(
        lambda many, one: np.testing.assert_allclose(many[2], one, rtol=1e-9), updated, together
    )


def test_bfloat16_keeps_parameters_and_logits_wide():
    variables = jax.tree.map(np.float32, filled("conv"))
    x = X.astype(np.float32)
    exact, rounded = (
        evaluation("conv", d)(variables, x, lengths=LENGTHS) for d in (None, "bfloat16")
    )
    assert rounded.dtype == exact.dtype == jnp.float32
    distance = np.linalg.norm(rounded - exact) / np.linalg.norm(exact)
    assert 0 < distance < 0.05
    shapes = jax.eval_shape(
        functools.partial(build("conv", dtype="bfloat16").init, train=False), KEY, x
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"front_end": "grcnn"},
        {"front_end": "rcl", "features": (8,), "pools": ((4, 3),)},
        {"front_end": "none", "stack": 1, "stride": 4},
        {"front_end": "none", "stack": 5, "stride": 2},
    ],
)
def test_output_lengths_are_those_of_the_logits(attributes):
    model = Transcriber(2, **attributes, hidden=1, layers=1, cell="elman", direction="forward")
    widths = np.arange(14)
    found = model.output_lengths(widths)
    assert found[0] == 0
    for width in (1, 2, 7):
        x = jax.ShapeDtypeStruct((1, 3, width, 1), jnp.float32)
        init = functools.partial(model.init_with_output, train=False)
        logits, _ = jax.eval_shape(init, jax.random.key(0), x)
        assert logits.shape == (1, found[width], 2)
        assert model.output_lengths(width) == found[width]
    np.testing.assert_array_equal(jax.jit(model.output_lengths)(widths), found)


def test_parameters_of_the_known_layouts():
    """On grey images of 32x100; the released layout gives 26 columns, as there."""
    x = parse_input(transcriber.EXAMPLE_INPUT)
    k = (64, 64, 128, 256, 512)
    found = summarize(grcnn_released_code(37), x)
    assert found.output == ((1, 26, 37),)
    gated = 0
    for before, after in itertools.pairwise(k[:4]):
        feedforward, recurrent = 10 * before * after, 5 * 10 * after**2
        # Scales and offsets of six normalizations at t = 0 and, of four more places, at t = 1..5.
        gated += feedforward + recurrent + 2 * after * (6 + 4 * 5)
    columns = 2 * 2 * k[3] * k[4] + 2 * k[4]
    lstm = 2 * 4 * 512 * (512 + 512 + 1) + 2 * 4 * 512 * (1024 + 512 + 1)
    assert found.parameters == 9 * 64 + 64 + gated + columns + lstm + (1024 + 1) * 37
    plain = summarize(Transcriber(10), x)
    assert plain.output == ((1, 25, 10),)
    conv = sum(9 * a * b + 2 * b for a, b in ((1, 32), (32, 64), (64, 128)))
    lstm = 2 * 4 * 128 * (4 * 128 + 128 + 1) + 2 * 4 * 128 * (256 + 128 + 1)
    assert plain.parameters == conv + lstm + 257 * 10
    recurrent = sum(9 * b * b + 3 * 2 * b for b in (64, 128))  # and an affine for t = 1..3
    assert summarize(Transcriber(10, "rcl"), x).parameters == plain.parameters + recurrent


@pytest.mark.parametrize(
    ("attributes", "shape", "says"),
    [
        ({"front_end": "vgg"}, X.shape, "front_end is one of conv, rcl, grcnn, none, got 'vgg'"),
        ({"direction": "both"}, X.shape, "direction is one of forward, bidirectional"),
        ({"classes": 0}, X.shape, "needs classes of at least 1, got 0"),
        ({"stride": 2}, X.shape, "front_end='none' alone, got stack=1 and stride=2 with 'conv'"),
        ({"front_end": "none", "pools": ((2, 2),)}, X.shape, "front_end='none' has no pools"),
        ({"features": (8, 8)}, X.shape, "a pool a stage, got features=.8, 8. and pools="),
        ({"features": ()}, X.shape, "a pool a stage, got features=.. and pools="),
        ({"pools": ((2, 0),) * 3}, X.shape, "each at least 1, got"),
        ({"pools": ((2,),) * 3}, X.shape, "pairs of strides .height, width."),
        ({"front_end": "grcnn", "pools": ((2, 3),) * 4}, X.shape, "each 1 or 2, got"),
        ({"front_end": "grcnn", "features": (8,) * 4}, X.shape, "one stage more than pools"),
        (
            {"front_end": "grcnn", "features": (8, 8), "pools": ((2, 2),)},
            (1, 2, 2, 1),
            "has only 1 to read: images are too narrow",
        ),
        ({"cell": "jordan"}, X.shape, "CTC reads one answer a step"),
        ({}, (2, 3), r"got float32 of shape \(2, 3\)"),
        ({}, (2, 0, 3, 1), r"got float32 of shape \(2, 0, 3, 1\)"),
    ],
)
def test_a_mistake_is_named(attributes, shape, says):
    model = Transcriber(**{"classes": 3, **attributes})
    with pytest.raises(ValueError, match=says):
        jax.eval_shape(
            functools.partial(model.init, train=False),
            jax.random.key(0),
            jax.ShapeDtypeStruct(shape, jnp.float32),
        )


def test_integers_and_widths_beyond_the_image_are_refused():
    model = build("conv")
    with pytest.raises(ValueError, match="got uint8 of shape"):
        model.init(jax.random.key(0), jnp.zeros(X.shape, jnp.uint8), train=False)
    with pytest.raises(ValueError, match=r"must lie in 0\.\.9, .* got 10"):
        model.init(jax.random.key(0), jnp.asarray(X), train=False, lengths=LENGTHS + 1)
