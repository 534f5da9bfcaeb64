"""From a config to the things it names: devices, data, transforms, model, task, optimiser.

Training, evaluation and prediction build the same experiment from the same config.
"""

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from rcnn_jax.configuration import importing
from rcnn_jax.data import pipeline, samplers, sources, transforms
from rcnn_jax.data.damage import Damage
from rcnn_jax.data.encoding import EncodedSource, Encoder, Encoding, check_takers
from rcnn_jax.data.sources import Source
from rcnn_jax.data.spec import Feature
from rcnn_jax.errors import UsageError
from rcnn_jax.training import optimizer, schedules, state
from rcnn_jax.training.interface import Config, Metric, PyTree, Task
from rcnn_jax.training.parallel.mesh import Devices

# Compute type and parameter type by `config.precision`.
PRECISIONS = {
    "float32": ("float32", "float32"),
    "bfloat16": ("bfloat16", "float32"),
    "float64": ("float64", "float64"),
}


def configure_jax(config: Config) -> None:
    """Sets what must be set before the first array is made."""
    if config.precision == "float64":
        jax.config.update("jax_enable_x64", True)


def open_split(
    config: Config, split: str, data_dir: str | None, damage: Damage | None = None
) -> Source:
    """Opens a split.

    Args:
        config: A complete config.
        split: A key of `config.data`, or what the split is literally called.
        data_dir: Where original data sets lie.
        damage: Counts damaged records; None where nobody asks for the number.

    Returns:
        The examples.

    Raises:
        UserError: It is missing or damaged.
    """
    return sources.open_source(
        config.data.name,
        config.data.get(split, split),
        data_dir,
        residency=config.data.residency,
        features=config.data.features,
        damage=damage or Damage(config.data.damaged),
    )


def make_encoder(config: Config) -> Encoder | None:
    """What turns text into numbers, not fitted yet; None where the config names nothing.

    Args:
        config: A complete config.

    Returns:
        The encoder.

    Raises:
        UsageError: It cannot be imported or does not take its arguments, or there are arguments
            without a name.
    """
    section = config.encoder
    if not section.name:
        stray = [key for key in section if key != "name"]
        if stray:
            raise UsageError(
                f"config.encoder.{stray[0]} is set, but config.encoder.name is empty; it must name "
                "an encoder, such as rcnn_jax.data.word_tags:WordTags."
            )
        return None
    encoder = importing.build(section, "config.encoder")
    parts = ("fit", "bind", "for_model")
    check_parts(encoder, parts, "config.encoder.name", "rcnn_jax.data.encoding:Encoder")
    return encoder


def check_encoder(config: Config, encoder: Encoder | None) -> None:
    """Checks, before an encoder is fitted, that it and what it feeds fit each other.

    Args:
        config: A complete config.
        encoder: From `make_encoder`.

    Raises:
        UsageError: The model or the task misses an argument that the encoder does not offer, or
            neither takes one that the encoder must hand over.
    """
    if encoder is None:
        return
    given = {
        "model": ("dtype", "param_dtype"),
        "task": ("model", "train_transform", "evaluation_transform", "call", *config.decoding),
    }
    takers = {}
    for name, decided in given.items():
        section, origin = config[name], f"config.{name}"
        target = importing.resolve(section.name, f"{origin}.name")
        takers[section.name] = arguments = importing.arguments(target)
        if hasattr(encoder, "offers"):
            offered = encoder.offers
            left = [each for each in offered if each not in arguments]
            taken = {*section, *decided, *offered}
            importing.require_arguments(target, section.name, origin, taken, left)
    check_takers(encoder, config.encoder.name, takers)


def encoded(config: Config, encoding: Encoding | None, source: Source) -> Source:
    """A split as the model reads it.

    Args:
        config: A complete config.
        encoding: What turns its text into numbers, if anything does.
        source: The split as the data set stores it.

    Returns:
        The same examples. Where they lie in memory they are encoded once, and not at every step.
    """
    if encoding is None:
        return source
    parts = ("wrap", "for_model", "for_task")
    check_parts(
        encoding, parts, "what `bind` of config.encoder returns", "rcnn_jax.data.encoding:Encoding"
    )
    wrapped = encoding.wrap(source)
    if isinstance(wrapped, EncodedSource) and config.data.residency != "stream":
        return wrapped.in_memory()
    return wrapped


def build_task(
    config: Config,
    assets: Mapping[str, np.ndarray],
    encoding: Encoding | None = None,
    features: Mapping[str, Feature] | None = None,
    /,
    **call: Any,
) -> Task:
    """Builds the model and the task.

    Args:
        config: A complete config.
        assets: What was fitted on the training split.
        encoding: What turns text into numbers, if anything does: the model and the task are
            handed the sizes that it knows.
        features: Of the examples, whose roles say what the transforms change together; None:
            `image` alone.
        **call: Further keyword arguments of the model's call in evaluation.

    Returns:
        The task.

    Raises:
        UsageError: Something named cannot be imported or does not take its arguments, or the
            config states a size that the data contradict.
    """
    for_model = {} if encoding is None else encoding.for_model
    for_task = {} if encoding is None else encoding.for_task
    _check_agreement(config.model, "config.model", for_model)
    _check_agreement(config.task, "config.task", for_task)
    dtype, param_dtype = PRECISIONS[config.precision]
    takes = importing.arguments(importing.resolve(config.model.name, "config.model.name"))
    if config.precision != "float32" and not {"dtype", "param_dtype"} <= set(takes):
        raise UsageError(
            f"config.precision={config.precision!r} needs a model with the arguments dtype and "
            f"param_dtype, which {config.model.name} does not take."
        )
    model = importing.build(
        config.model, "config.model", dtype=dtype, param_dtype=param_dtype, **for_model
    )
    image_dtype = "float64" if dtype == "float64" else "float32"
    roles = None if features is None else transforms.roles_of(features)
    training, evaluating = (
        transforms.build(text, assets, dtype=image_dtype, roles=roles) for text in chains(config)
    )
    return importing.build(
        _task_section(config, for_task),
        "config.task",
        model=model,
        train_transform=training,
        evaluation_transform=evaluating,
        call=call,
        **for_task,
    )


def check_parts(made: Any, names: Sequence[str], origin: str, protocol: str) -> None:
    """Checks that what a config names has the parts that will be asked for.

    Args:
        made: What was built.
        names: Attributes and methods that it needs.
        origin: Where it came from, for the message.
        protocol: Import path of the protocol that says what they are.

    Raises:
        UsageError: One is missing.
    """
    missing = [name for name in names if not hasattr(made, name)]
    if missing:
        raise UsageError(
            f"{origin}: {type(made).__name__} has no {missing[0]!r}, which "
            f"{protocol.partition(':')[2]} needs; see {protocol}."
        )


def build_metrics(config: Config) -> dict[str, Metric]:
    """Builds the metrics that a config adds to those of its task.

    Args:
        config: A complete config; `config.metrics` is name -> section of `name`, an import path,
            and arguments.

    Returns:
        name -> metric.

    Raises:
        UsageError: One of them cannot be imported, does not take its arguments, or is no metric.
    """
    metrics = {}
    for name, section in config.metrics.items():
        origin = f"config.metrics.{name}"
        if "name" not in section:
            raise UsageError(
                f"{origin} must be a section whose key `name` is the import path of a metric, as "
                f"in --{origin}.name=rcnn_jax.metrics.segmentation:MeanIoU."
            )
        metrics[name] = importing.build(section, origin)
        protocol = "rcnn_jax.training.interface:Metric"
        check_parts(metrics[name], ("sums", "value"), f"{origin}.name", protocol)
    return metrics


def _task_section(config: Config, decided: Mapping[str, Any]) -> dict[str, Any]:
    """What makes the task: its section, and how it is to search for answers.

    Args:
        config: A complete config.
        decided: What the data say of the task's arguments, which nobody else does.
    """
    task, name = dict(config.task), config.task.name
    taken = {*decided, "model", "train_transform", "evaluation_transform", "call"}
    every = importing.arguments(importing.resolve(name, "config.task.name"))
    allowed = {key: kind for key, kind in every.items() if key not in taken}
    decoding = importing.checked(config.decoding, "config.decoding", name, allowed)
    twice = [key for key in decoding if key in task]
    if twice:
        raise UsageError(
            f"config.decoding.{twice[0]} and config.task.{twice[0]} are both set: leave one of "
            "them out."
        )
    return task | decoding


def _check_agreement(section: Config, origin: str, decided: Mapping[str, Any]) -> None:
    for key, value in decided.items():
        if key in section and section[key] != value:
            raise UsageError(
                f"{origin}.{key}={section[key]!r} contradicts the training split and its encoder, "
                f"which make it {value!r}: leave the key out."
            )


def chains(config: Config) -> tuple[str, str]:
    """The transforms of training and of evaluation images, as text."""
    data = config.data
    return tuple(
        "|".join(t for t in (data.preprocess, own) if t) for own in (data.augment, data.evaluate)
    )  # pyright: ignore[reportReturnType]


def added_columns(config: Config) -> dict[str, str]:
    """Name -> type of the columns that the config's sampler adds to training batches."""
    return samplers.columns(importing.resolve(config.sampler.name, "config.sampler.name"))


def evaluation_columns(config: Config) -> dict[str, str]:
    """Name -> type of the columns that batches of evaluated splits have besides the examples'."""
    name = config.evaluation_sampler.name
    return samplers.columns(importing.resolve(name, "config.evaluation_sampler.name"))


def stages(config: Config) -> list[tuple[float, Config]]:
    """The parts of training, each with its own augmentation; one, unless the config has more.

    Args:
        config: A complete config.

    Returns:
        Pairs (fraction of all steps before which it ends, config with that augmentation), in
        order; the last fraction is 1.
    """
    found = []
    for end, augment in (*config.data.augment_until, (1.0, config.data.augment)):
        own = copy.deepcopy(config)
        own.data.augment = augment
        found.append((end, own))
    return found


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How the state is made and moved on: what training and restoring both need."""

    task: Task
    optimizer: Any
    schedule: Any  # None where nothing is trained
    plateau: schedules.Plateau
    batch: PyTree  # shapes of a training batch
    seed: int
    ema: bool

    def _create(self, batch: PyTree) -> state.TrainState:
        return state.create(
            self.task, self.optimizer, self.plateau, batch, seed=self.seed, ema=self.ema
        )

    def create_state(self, devices: Devices) -> state.TrainState:
        """Makes the state before the first step, laid out over the devices."""
        shapes = jax.eval_shape(self._create, self.batch)
        # NumPy's, which the compiled function takes in the widths that jax has.
        batch = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), self.batch)
        return jax.jit(self._create, out_shardings=devices.state_shardings(shapes))(batch)

    def abstract_state(self, devices: Devices) -> state.TrainState:
        """The shapes, types and shardings of the state, without making it."""
        shapes = jax.eval_shape(self._create, self.batch)
        return jax.tree.map(
            lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            shapes,
            devices.state_shardings(shapes),
        )


def batch_shapes(config: Config, source: Source) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes and types of a training batch.

    Args:
        config: A complete config.
        source: Any split, encoded; its first example gives the shapes.

    Returns:
        Each feature, `mask` and what the sampler adds, `[batch_size, ...]`.
    """
    example = {k: v[None] for k, v in source[0].items()}
    example |= {"mask": np.ones(1, np.float32)}
    example |= {name: np.zeros(1, dtype) for name, dtype in added_columns(config).items()}
    return {
        name: jax.ShapeDtypeStruct(
            # As it is on the devices, where int64 is int32.
            (config.batch_size, *value.shape[1:]),
            jax.dtypes.canonicalize_dtype(value.dtype),
        )
        for name, value in example.items()
    }


def make_recipe(config: Config, task: Task, source: Source, steps: int) -> Recipe:
    """Makes the optimiser and the shapes that a state is made from.

    Args:
        config: A complete config.
        task: What is trained.
        source: Any split; its features give the shapes.
        steps: The number of training steps.

    Returns:
        The recipe.
    """
    batch = batch_shapes(config, source)
    params = jax.eval_shape(lambda b: task.init(jax.random.key(0), b)[0], batch)
    return Recipe(
        task=task,
        optimizer=optimizer.build(config.optimizer, params, steps),
        schedule=schedules.build(config.schedule, steps),
        plateau=schedules.Plateau(config.schedule, config.best_mode),
        batch=batch,
        seed=config.seed,
        ema=config.ema_decay > 0,
    )


def resident(config: Config, source: Source, devices: Devices) -> Source | pipeline.DeviceSource:
    """Puts a split that is evaluated again and again on the devices, if the config says so."""
    if config.data.residency != "device":
        return source
    return pipeline.DeviceSource(source, devices.replicate)


def evaluation_batches(
    config: Config,
    source: Source | pipeline.DeviceSource,
    devices: Devices,
    *,
    in_order: bool = False,
) -> pipeline.Batches:
    """Batches over a whole split.

    Args:
        config: A complete config.
        source: The split.
        devices: Where the batches go.
        in_order: Whether examples come in their order, instead of that of
            `config.evaluation_sampler`.
    """
    size = devices.divisible(config.evaluation_batch_size)
    sampler: Any = size
    if not in_order:
        sampler = importing.build(
            config.evaluation_sampler,
            "config.evaluation_sampler",
            size=len(source),
            source=source,
            batch_size=size,
            seed=config.seed,
        )
    return pipeline.evaluation_batches(
        source,
        sampler,
        residency=config.data.residency,
        place=devices.place_global,
        place_all=devices.replicate,
        prefetch=config.data.prefetch,
        workers=config.data.workers,
        local_rows=devices.local_rows(size),
    )
