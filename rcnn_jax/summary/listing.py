"""The text that `python -m rcnn_jax.summary` prints."""

import contextlib
import copy
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rcnn_jax.configuration import importing, loading
from rcnn_jax.data import catalog
from rcnn_jax.data.transforms import chain as transforms
from rcnn_jax.errors import UsageError, mentions
from rcnn_jax.output.tables import table
from rcnn_jax.summary import model_names
from rcnn_jax.summary.layer_table import Summary, shape_text, summarize, total
from rcnn_jax.summary.model_call import ModelCall, plain_call, task_call
from rcnn_jax.training.parameters import parameter_table

_USAGE = f"""\
Parameters are those for 10 classes and, unless said, an input of {model_names.USUAL_INPUT}.
The name of a file in rcnn_jax/models stands for its module: --model=resnet.
The layers of one:

    python -m rcnn_jax.summary --model=rcnn --input=24x24x3 --config.model.features=64
    python -m rcnn_jax.summary --model=my_fork.models:Mine
    python -m rcnn_jax.summary --config=configs/rcnn_cifar10.py"""


def parse_input(text: str) -> jax.ShapeDtypeStruct:
    """Parses the shape of one example.

    Args:
        text: `HxWxC` for images, `TxF` for sequences of vectors, or `T:int` for sequences of
            integers such as words; any number of axes is allowed.

    Returns:
        Shape and dtype of a batch of one example, float32 or int32.

    Raises:
        UsageError: The text has none of these forms, or a size is below 1.
    """
    match = re.fullmatch(r"(\d+(?:x\d+)*)(:int)?", text)
    sizes = [int(n) for n in match[1].split("x")] if match else []
    if match is None or min(sizes) < 1:
        raise UsageError(
            f"--input={text}: an input is written HxWxC for images (32x32x3), TxF for sequences of "
            "vectors (50x300) or T:int for sequences of integers (20:int), each size at least 1."
        )
    return jax.ShapeDtypeStruct((1, *sizes), jnp.int32 if match[2] else jnp.float32)


def configured_model(config: Any) -> nn.Module:
    """Makes the model that a config names, in the precision that it states.

    Sizes that an encoder determines from the data get their usual values (see
    `model_names.USUAL_SIZES`), unless the config states them.

    Args:
        config: A complete config.

    Returns:
        The model.

    Raises:
        UsageError: The model cannot be made.
    """
    from rcnn_jax.experiment.data import make_encoder
    from rcnn_jax.experiment.task import PRECISIONS, configure_jax

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


def configured(config: Any, data_dir: str | None = None) -> tuple[nn.Module, ModelCall, bool]:
    """Makes the model of a config and finds how its task calls it with a training example.

    No data are read if the data set states the shapes of its features, because the package's
    transforms that are fitted on data do not change shapes; those of a fork may. Text has no size
    before it is encoded: a model that accepts the `EXAMPLE_INPUT` of its file, or pictures of one
    size, is shown with that. Otherwise the training split is opened.

    Args:
        config: A complete config.
        data_dir: Folder of the original data sets. None means the environment variable
            `RCNN_JAX_DATA` or the cache folder.

    Returns:
        The model, its call with a batch of one example, and whether the sizes that the training
        data determine are only examples.

    Raises:
        UsageError: The shapes cannot be determined, or the transforms or the task do not accept
            them.
    """
    # Imported here, so that a model given by name does not need the training code.
    from rcnn_jax.experiment.task import configure_jax

    configure_jax(config)
    if config.encoder.name:
        model = configured_model(config)
        for example in _examples(config):
            with contextlib.suppress(UsageError):  # the model reads another kind of input
                total(model, example)
                return model, plain_call(model, example), True
    try:
        stated = None if config.encoder.name else _of_spec(config)
        task, batch = stated or _of_data(config, data_dir)
    except UsageError:
        raise
    except (OSError, ValueError, ImportError) as error:
        why = " ".join(str(error).split()).rstrip(".")
        raise UsageError(
            f"the size of the input cannot be told ({why}): give it by --input."
        ) from error
    call = _called(config, task, batch)
    model = getattr(task, "model", None)
    return model if isinstance(model, nn.Module) else configured_model(config), call, False


def _examples(config: Any) -> Iterator[jax.ShapeDtypeStruct]:
    """Yields inputs that a model behind an encoder may accept; no data are read."""
    from rcnn_jax.experiment.data import chains

    if model_names.has_example(config.model.name):
        yield parse_input(model_names.example_input(config.model.name))
    try:
        feature = catalog.load_spec(config.data.name).features.get("image")
        chain = transforms.build(transforms.without_fitted(chains(config)[0])[0])
        if feature is not None and None not in feature.shape:
            image = jax.ShapeDtypeStruct((1, *feature.shape), jnp.dtype(feature.dtype))
            yield jax.eval_shape(
                lambda x: chain({"image": x}, jax.random.split(jax.random.key(0), 1))["image"],
                image,
            )
    except (OSError, ValueError):
        return


def _called(config: Any, task: Any, batch: Mapping[str, jax.ShapeDtypeStruct]) -> ModelCall:
    """Finds how a task calls the model with a batch; an error becomes a sentence."""
    try:
        return task_call(task, batch)
    except UsageError:
        raise
    except Exception as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        why = (str(error) or "failed").splitlines()[0].rstrip(".")
        raise UsageError(
            f"what config.data and {config.task.name} make of a training batch: {kind}{why}."
        ) from error


def _of_spec(config: Any) -> tuple[Any, dict[str, jax.ShapeDtypeStruct]] | None:
    """Returns the task and a batch of one from the shapes that the data set states.

    Returns None if the data set must be opened because features that the task reads vary in shape.
    """
    from rcnn_jax.experiment.data import added_columns
    from rcnn_jax.experiment.task import build_task

    if config.data.name.startswith("tfds:"):
        return None
    features = catalog.load_spec(config.data.name).features
    if config.data.features:
        features = {name: features[name] for name in config.data.features if name in features}
    shapes = {name: (f.shape, f.dtype) for name, f in features.items() if None not in f.shape}
    shapes |= {"mask": ((), "float32")}
    shapes |= {name: ((), dtype) for name, dtype in added_columns(config).items()}
    batch = {
        name: jax.ShapeDtypeStruct((1, *shape), jax.dtypes.canonicalize_dtype(dtype))
        for name, (shape, dtype) in shapes.items()
    }
    task = build_task(_unfitted(config), {}, None, features)
    task.check(features)
    if len(features) == len(features.keys() & batch.keys()):
        return task, batch
    try:
        _called(config, task, batch)
    except UsageError:
        return None
    return task, batch


def _unfitted(config: Any) -> Any:
    """Returns the config without transforms that are fitted on data."""
    config, shipped = copy.deepcopy(config), tuple(transforms.TRANSFORMS.values())
    for key in ("preprocess", "augment", "evaluate"):
        config.data[key], fitted = transforms.without_fitted(config.data[key])
        for transform in fitted:
            if not isinstance(transform, shipped):
                raise ValueError(f"the transform {transform.name!r} must be fitted for it")
    return config


def _of_data(config: Any, data_dir: str | None) -> tuple[Any, dict[str, jax.ShapeDtypeStruct]]:
    """Returns the task and a batch of one from the training split."""
    from rcnn_jax.experiment.data import Reader, batch_shapes, encoded, open_split
    from rcnn_jax.experiment.task import build_task

    config = copy.deepcopy(config)
    config.data.residency, config.batch_size, config.accumulate = "memory", 1, 1
    source = open_split(config, "train", data_dir)
    reader = Reader.fit(config, source)
    encoding = reader.bind()
    source = encoded(config, encoding, source)
    task = build_task(config, reader.assets, encoding, source.features)
    task.check(source.features)
    return task, batch_shapes(config, source)


def report(
    *,
    model: str | None = None,
    config: str | None = None,
    given_input: str | None = None,
    classes: int | None = None,
    depth: int = 1,
    parameters: bool = False,
    overrides: Sequence[tuple[str, str]] = (),
    data_dir: str | None = None,
    width: int = 80,
) -> str:
    """Returns the text that the command prints.

    Args:
        model: Short name or import path of a model.
        config: File or name of a config, as for `rcnn_jax.train`; it excludes `model`.
        given_input: Shape of one example in the form of `parse_input`; None means the one of the
            model or the config.
        classes: Number of classes of a model given by name that has this argument; None means 10.
        depth: Number of levels of nested layers that get rows.
        parameters: Whether to list every array of parameters instead of layers.
        overrides: Pairs (dotted key, value as typed) that change the config.
        data_dir: Folder of the original data sets, for a config whose data must be opened. None
            means the environment variable `RCNN_JAX_DATA` or the cache folder.
        width: Number of characters of a line in the list of models.

    Returns:
        A table of layers or of parameters; without model and config the list of models.

    Raises:
        UsageError: A name does not exist, or the arguments exclude each other.
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
    usual: list[str] = []
    if config:
        loaded: Any = loading.load(config, overrides)
        title, by_example = f"{config}: {loaded.model.name}", bool(loaded.encoder.name)
        if given_input:
            built = configured_model(loaded)
            call = plain_call(built, parse_input(given_input))
        else:
            built, call, by_example = configured(loaded, data_dir)
        if by_example:
            sizes = model_names.USUAL_SIZES
            usual = [f"{k}={v:,}" for k, v in sizes.items() if k not in loaded.model]
    elif model:
        path = model_names.find(model)
        built, title = model_names.build(path, overrides), path
        call = plain_call(built, parse_input(given_input or model_names.example_input(path)))
    elif given_input or parameters or depth > 1 or overrides:
        raise UsageError(
            "--model=NAME or --config=FILE is missing; without any flag, models are listed."
        )
    else:
        return list_models(width)
    try:
        summary = summarize(built, call, depth)
    except UsageError as error:
        # The library's message about a negative size does not name the key.
        small = [f"{k}={v}" for k, v in overrides if re.search(r"(?<![\w.])(-\d|0(?![\w.]))", v)]
        named = any(mentions(str(error), key.rpartition(".")[2]) for key, _ in overrides)
        hint = ""
        if small and not named:
            hint = f"--config.{small[0]} (sizes and counts are at least 1): "
        raise UsageError(f"{hint}{error}") from error
    inputs = shape_text(*(array.shape for array in call.arrays))
    head = f"{title}  {inputs} -> {shape_text(*summary.output)}"
    if usual:
        head += f"\nsizes that the training data decide are examples: {', '.join(usual)}"
    if parameters:
        return f"{head}\n\n{parameter_table(summary.params)} (1 MB = 2^20 bytes)"
    return f"{head}\n\n{layer_table(summary)}\n\n{totals(summary)}"


def layer_table(summary: Summary) -> str:
    """Formats the rows of a summary; their numbers of parameters add up to the total.

    Args:
        summary: Summary of a model.
    """
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
    """Formats the totals that are printed below a table of layers.

    Args:
        summary: Summary of a model.
    """
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
    """Lists all models of the package by short name with their parameters, and how to show one.

    Args:
        width: Number of characters of a line.
    """
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
