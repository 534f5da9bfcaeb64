"""From a config to batches: splits, their encoder, the order of examples."""

import copy
import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from rcnn_jax.configuration import importing
from rcnn_jax.configuration.importing import check_parts
from rcnn_jax.data import assets as assets_lib
from rcnn_jax.data import catalog, pipeline, samplers
from rcnn_jax.data.encoders.base import EncodedSource, Encoder, Encoding, check_takers
from rcnn_jax.data.records.damage import Damage
from rcnn_jax.data.samplers import Sampler
from rcnn_jax.data.sources import Source
from rcnn_jax.data.transforms import chain
from rcnn_jax.errors import UsageError
from rcnn_jax.training.interface import Config
from rcnn_jax.training.parallel.mesh import Devices


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
    return catalog.open_source(
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
                "an encoder, such as rcnn_jax.data.encoders.word_tags:WordTags."
            )
        return None
    encoder = importing.build(section, "config.encoder")
    parts = ("fit", "bind", "for_model")
    check_parts(encoder, parts, "config.encoder.name", "rcnn_jax.data.encoders.base:Encoder")
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


@dataclasses.dataclass(frozen=True)
class Reader:
    """What turns the splits of a config into what its model reads.

    Attributes:
        config: A complete config.
        encoder: What turns text into numbers, not fitted; None where nothing does.
        assets: What was fitted on the training split, for the encoder and the transforms.
    """

    config: Config
    encoder: Encoder | None
    assets: dict[str, np.ndarray]

    @classmethod
    def fit(cls, config: Config, source: Source) -> "Reader":
        """Fits the encoder and all transforms on a training split, as the data set stores it."""
        encoder = make_encoder(config)
        texts = [text for _, own in stages(config) for text in chains(own)]
        assets = chain.fit_all(texts, source)
        assets |= {} if encoder is None else encoder.fit(source)
        return cls(config, encoder, assets)

    @classmethod
    def load(cls, config: Config, folder: str | pathlib.Path) -> "Reader":
        """Takes what a run fitted.

        Args:
            config: A complete config.
            folder: Of the run's assets.

        Raises:
            ValueError: They are damaged.
        """
        return cls(config, make_encoder(config), assets_lib.load(folder))

    def bind(self, others: Sequence[Source] = ()) -> Encoding | None:
        """The encoder with what it learnt; None where there is none.

        Args:
            others: Splits besides the training split, whose labels may be others.
        """
        return None if self.encoder is None else self.encoder.bind(self.assets, others)


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
        encoding,
        parts,
        "what `bind` of config.encoder returns",
        "rcnn_jax.data.encoders.base:Encoding",
    )
    wrapped = encoding.wrap(source)
    if isinstance(wrapped, EncodedSource) and config.data.residency != "stream":
        return wrapped.in_memory()
    return wrapped


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


def open_training(
    config: Config,
    data_dir: str | None,
    batch_size: int | None = None,
    encoding: Encoding | None = None,
) -> tuple[Source, Sampler]:
    """Opens the training split and makes the order of its examples.

    Args:
        config: A complete config.
        data_dir: Where original data sets lie.
        batch_size: Rows of a batch; None: the config's.
        encoding: What turns its text into numbers, if anything does.

    Returns:
        The examples and their order.

    Raises:
        UserError: The split is missing, or the sampler does not take its arguments.
    """
    source = encoded(config, encoding, open_split(config, "train", data_dir))
    return source, make_sampler(config, source, batch_size)


def make_sampler(config: Config, source: Source, batch_size: int | None = None) -> Sampler:
    """Makes the order of training examples.

    Args:
        config: A complete config.
        source: The training split, encoded.
        batch_size: Rows of a batch; None: the config's.

    Returns:
        The order.

    Raises:
        UsageError: The sampler does not take its arguments.
    """
    sampler = importing.build(
        config.sampler,
        "config.sampler",
        size=len(source),
        source=source,
        batch_size=config.batch_size if batch_size is None else batch_size,
        seed=config.seed,
    )
    parts = ("size", "batch_size", "steps_per_epoch", "indices", "epoch")
    check_parts(sampler, parts, "config.sampler.name", "rcnn_jax.data.samplers:Sampler")
    return sampler


def training_batches(
    config: Config,
    devices: Devices,
    source: Source | pipeline.DeviceSource,
    sampler: Sampler,
    start: int,
    count: int,
) -> pipeline.Batches:
    """Training batches `start` to `start + count - 1`, placed on the devices ahead of time."""
    data = config.data
    return pipeline.train_batches(
        source,
        sampler,
        start_step=start,
        num_steps=count,
        residency=data.residency,
        place=devices.place,
        place_all=devices.place_all,
        prefetch=data.prefetch,
        workers=data.workers,
        local_rows=devices.local_rows(sampler.batch_size),
    )
