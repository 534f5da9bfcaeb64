"""The text of `python -m rcnn_jax.summary`."""

import inspect
import re
import textwrap
from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rcnn_jax import configuration, importing
from rcnn_jax.data import sources, transforms
from rcnn_jax.data.per_image import Fitted
from rcnn_jax.errors import UsageError
from rcnn_jax.inspection import model_names
from rcnn_jax.inspection.layer_table import Summary, shape_text, summarize, total
from rcnn_jax.tables import parameter_table, table

_USAGE = f"""\
Parameters are those for 10 classes and, unless said, an input of {model_names.USUAL_INPUT}.
The name of a file in rcnn_jax/models stands for its module: --model=resnet.
The layers of one:

    python -m rcnn_jax.summary --model=rcnn --input=24x24x3 --config.model.features=64
    python -m rcnn_jax.summary --model=my_fork.models:Mine
    python -m rcnn_jax.summary --config=configs/rcnn_cifar10.py"""


def parse_input(text: str) -> jax.ShapeDtypeStruct:
    """Reads the shape of one example.

    Args:
        text: `HxWxC` for images, `TxF` for sequences of vectors, `T:int` for sequences of
            integers such as words; any number of axes.

    Returns:
        Shape and type of a batch of one, float32 or int32.

    Raises:
        UsageError: It is none of these.
    """
    match = re.fullmatch(r"(\d+(?:x\d+)*)(:int)?", text)
    sizes = [int(n) for n in match[1].split("x")] if match else []
    if match is None or min(sizes) < 1:
        raise UsageError(
            f"--input={text}: an input is written HxWxC for images (32x32x3), TxF for sequences of "
            "vectors (50x300) or T:int for sequences of integers (20:int), each size at least 1."
        )
    return jax.ShapeDtypeStruct((1, *sizes), jnp.int32 if match[2] else jnp.float32)


def configured_input(config: Any) -> jax.ShapeDtypeStruct:
    """What the training transforms of a config make of an image of its data set.

    Text has no size before it is encoded: a model that reads it is shown with its example input.

    No data are read. Transforms of the package that are fitted on data leave the shape alone; a
    fork's may not.

    Args:
        config: A complete config.

    Returns:
        Shape and type of a batch of one.

    Raises:
        UsageError: That cannot be told without the data, or the transforms do not fit.
    """
    # Here, so that a model by name needs nothing of what trains it.
    from rcnn_jax.experiment import PRECISIONS, added_columns, chains

    def unknown(why: str) -> UsageError:
        return UsageError(f"the size of the input cannot be told, {why}: give it by --input.")

    if config.encoder.name:
        return parse_input(model_names.example_input(config.model.name))
    if config.data.name.startswith("tfds:"):
        raise unknown(f"{config.data.name!r} must be opened for it")
    try:
        features = sources.load_spec(config.data.name).features
        kept = config.data.features or features
        features = {name: feature for name, feature in features.items() if name in kept}
        feature = features.get("image", features.get(config.task.get("inputs", "inputs")))
        steps = transforms.parse(chains(config)[0])
    except ValueError as error:
        raise UsageError(str(error)) from error
    if feature is None or None in feature.shape:
        raise unknown(f"the data set {config.data.name!r} has no images or inputs of one size")
    if "image" not in features:
        return jax.ShapeDtypeStruct((1, *feature.shape), jnp.dtype(feature.dtype))  # as it is read
    shipped = tuple(transforms.TRANSFORMS.values())
    for step in steps:
        if isinstance(step, Fitted) and not isinstance(step, shipped):
            raise unknown(f"the transform {step.name!r} must be fitted for it")
    dtype = "float64" if PRECISIONS[config.precision][0] == "float64" else "float32"
    shapeless = tuple(s for s in steps if not isinstance(s, Fitted))
    batch = {
        name: jax.ShapeDtypeStruct(
            (1, *feature.shape), jax.dtypes.canonicalize_dtype(feature.dtype)
        )
        for name, feature in features.items()
        if None not in feature.shape
    }

    def apply(batch: dict[str, jax.Array]) -> jax.Array:
        chain = transforms.Chain(shapeless, dtype, tuple(transforms.roles_of(features).items()))
        added = {k: jnp.zeros(1, dtype) for k, dtype in added_columns(config).items()}
        return chain({**batch, **added}, jax.random.split(jax.random.key(0), 1))["image"]

    try:
        return jax.eval_shape(apply, batch)
    except ValueError as error:
        raise UsageError(f"config.data: {error}.") from error


def configured_model(config: Any) -> nn.Module:
    """The model that a config names, in the precision it states.

    Sizes that an encoder finds in the data are the usual ones, unless the config states them.

    Args:
        config: A complete config.

    Raises:
        UsageError: It cannot be made.
    """
    from rcnn_jax.experiment import PRECISIONS, configure_jax, make_encoder

    configure_jax(config)
    dtype, param_dtype = PRECISIONS[config.precision]
    given: dict[str, Any] = {"dtype": dtype, "param_dtype": param_dtype}
    encoder = make_encoder(config)
    if encoder is not None:
        given |= {**model_names.USUAL_SIZES, **encoder.for_model}
    model = importing.build(config.model, "config.model", **given)
    if not isinstance(model, nn.Module):
        raise UsageError(
            f"config.model.name={config.model.name!r} gives a {type(model).__name__}, not a Linen "
            "module."
        )
    return model


def report(
    *,
    model: str | None = None,
    config: str | None = None,
    given_input: str | None = None,
    classes: int | None = None,
    depth: int = 1,
    parameters: bool = False,
    overrides: Sequence[tuple[str, str]] = (),
    width: int = 80,
) -> str:
    """What the command answers.

    Args:
        model: Short name or import path of a model.
        config: A config, as `rcnn_jax.train` takes it, instead of a model.
        given_input: See `parse_input`; None: the model's or the config's own.
        classes: Of a model by name that takes them; None: 10.
        depth: Levels of layers with rows of their own.
        parameters: Show every array of parameters instead of layers.
        overrides: Pairs (dotted key, value as typed).
        width: Characters of a line, for the list of models.

    Returns:
        A table of layers or of parameters; without model and config the list of models.

    Raises:
        UsageError: Something asked for does not exist or does not go together.
    """
    if model and config:
        raise UsageError(f"--model={model} and --config={config}: give one of them.")
    if depth < 1:
        raise UsageError(f"--depth={depth} must be at least 1.")
    if classes is not None:
        if classes < 1 or config:
            why = "set --config.model.classes beside --config" if config else "must be at least 1"
            raise UsageError(f"--classes={classes}: {why}.")
        overrides = [*overrides, ("model.classes", str(classes))]
    loaded: Any = None
    if config:
        loaded = configuration.load(config, overrides)
        built, title = configured_model(loaded), f"{config}: {loaded.model.name}"
        x = parse_input(given_input) if given_input else configured_input(loaded)
    elif model:
        path = model_names.find(model)
        built, title = model_names.build(path, overrides), path
        x = parse_input(given_input or model_names.example_input(path))
    elif given_input or parameters or depth > 1 or overrides:
        raise UsageError(
            "--model=NAME or --config=FILE is missing; without any flag, models are listed."
        )
    else:
        return list_models(width)
    try:
        summary = summarize(built, x, depth)
    except UsageError as error:
        # The library's own words for a negative size do not name the key.
        small = [f"{k}={v}" for k, v in overrides if re.search(r"(?<![\w.])(-\d|0(?![\w.]))", v)]
        named = any(key.rpartition(".")[2] in str(error) for key, _ in overrides)
        hint = ""
        if small and not named:
            hint = f"--config.{small[0]} (sizes and counts are at least 1): "
        raise UsageError(f"{hint}{error}") from error
    head = f"{title}  {shape_text(x.shape)} -> {shape_text(*summary.output)}"
    if config and loaded.encoder.name:
        usual = (f"{k}={v:,}" for k, v in model_names.USUAL_SIZES.items() if k not in loaded.model)
        head += f"\nsizes that the training data decide are examples: {', '.join(usual)}"
    if parameters:
        return f"{head}\n\n{parameter_table(summary.params)} (1 MB = 2^20 bytes)"
    return f"{head}\n\n{layer_table(summary)}\n\n{totals(summary)}"


def layer_table(summary: Summary) -> str:
    """The rows of a summary as text; their numbers add up to the total."""
    rows = [
        ["/".join(row.path), row.kind, shape_text(*row.output), f"{row.parameters:,}"]
        for row in summary.rows
    ]
    text = table(rows, ["layer", "kind", "output", "parameters"])
    if any(row.kind.startswith("RCL x") for row in summary.rows):
        text += "\nRCL xN: the layer runs through N states"
    if any(len(row.path) > 1 for row in summary.rows):
        text += "\na layer with parts of its own below counts only what it holds itself"
    return text


def totals(summary: Summary) -> str:
    """The numbers below a table of layers."""
    lines = [
        ("parameters", f"{summary.parameters:,}", f"{summary.megabytes:.2f} MB (of 2^20 bytes)"),
        ("  kernels", f"{summary.kernels:,}", ""),
        ("  biases and affines", f"{summary.parameters - summary.kernels:,}", ""),
    ]
    for name, count in ({"batch_stats": 0} | dict(summary.statistics)).items():
        label = "batch statistics" if name == "batch_stats" else f"in {name}"
        lines.append((label, f"{count:,}", ""))
    count = summary.multiply_adds
    known = "not known" if count is None else f"{count:,}"
    why = "a loop ends on a condition" if count is None else f"{count / 1e6:,.1f} M"
    lines.append(("multiply-adds", known, f"{why}; forward, convolutions and products"))
    wide = max(len(line[1]) for line in lines)
    return "\n".join(f"{a:<21} {b:>{wide}}  {c}".rstrip() for a, b, c in lines)


def list_models(width: int = 80) -> str:
    """All models of the package by short name, with their parameters, and how to see one."""
    rows = []
    for name, path in model_names.known().items():
        shown = model_names.example_input(path)
        try:
            count = f"{total(model_names.build(path), parse_input(shown)):,}"
        except UsageError:
            count = ""  # it needs more arguments than `classes`
        about = (inspect.getdoc(importing.resolve(path, "--model")) or "").partition("\n")[0]
        about += "" if shown == model_names.USUAL_INPUT else f" Input {shown}."
        rows.append([name, count, about])
    header = ["model", "parameters", "what it is"]
    used = len(table([[name, count, ""] for name, count, _ in rows], header).splitlines()[1])
    lines = []
    for name, count, about in rows:
        first, *others = textwrap.wrap(about, max(30, width - used + len(header[2]))) or [""]
        lines += [[name, count, first], *(["", "", other] for other in others)]
    return f"{table(lines, header)}\n\n{_USAGE}"
