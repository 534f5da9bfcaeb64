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
    """Opens a split of the data set that a config names.

    Args:
        config: Complete config.
        split: Key of `config.data` that names the split, or the name of the split itself.
        data_dir: Folder of original data sets. None selects the default; see `rcnn_jax.data.roots`.
        damage: Counter of damaged records. None makes a new one, for a caller who does not need the
            number.

    Returns:
        The examples as the data set stores them.

    Raises:
        UserError: The split is missing or damaged.
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
    """Builds the encoder that converts text to numbers, not yet fitted.

    Args:
        config: Complete config.

    Returns:
        The encoder, or None if the config names none.

    Raises:
        UsageError: The encoder cannot be imported or does not accept its arguments, or there are
            arguments without a name.
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
    """Checks, before an encoder is fitted, that it fits the model and the task.

    Args:
        config: Complete config.
        encoder: Encoder from `make_encoder`.

    Raises:
        UsageError: The model or the task requires an argument that the encoder does not offer, or
            neither accepts one that the encoder must pass on.
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
    """Reads the splits of a config in the form that its model needs.

    Attributes:
        config: Complete config.
        encoder: Encoder that converts text to numbers, not fitted; None if the config names none.
        assets: Arrays fitted on the training split, by name, for the encoder and the transforms.
    """

    config: Config
    encoder: Encoder | None
    assets: dict[str, np.ndarray]

    @classmethod
    def fit(cls, config: Config, source: Source) -> "Reader":
        """Fits the encoder and all transforms on a training split.

        Args:
            config: Complete config.
            source: Training split as the data set stores it.
        """
        encoder = make_encoder(config)
        texts = [text for _, staged in stages(config) for text in chains(staged)]
        assets = chain.fit_all(texts, source)
        assets |= {} if encoder is None else encoder.fit(source)
        return cls(config, encoder, assets)

    @classmethod
    def load(cls, config: Config, folder: str | pathlib.Path) -> "Reader":
        """Loads the assets that a run has fitted.

        Args:
            config: Complete config.
            folder: Folder of the run's assets.

        Raises:
            ValueError: The assets are damaged.
        """
        return cls(config, make_encoder(config), assets_lib.load(folder))

    def bind(self, others: Sequence[Source] = ()) -> Encoding | None:
        """Combines the encoder with its assets.

        Args:
            others: Splits besides the training split, which may have other labels.

        Returns:
            The encoding, or None if the config names no encoder.
        """
        return None if self.encoder is None else self.encoder.bind(self.assets, others)


def encoded(config: Config, encoding: Encoding | None, source: Source) -> Source:
    """Encodes a split for the model.

    Args:
        config: Complete config.
        encoding: Encoding that converts text to numbers. None returns the split unchanged.
        source: Split as the data set stores it.

    Returns:
        The same examples, encoded. Examples in memory are encoded once and not at every step.
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
    """Returns the transforms of training images and those of evaluation images, as text.

    Args:
        config: Complete config.

    Returns:
        Two chains of transforms, joined by `|`.
    """
    data = config.data
    return tuple(
        "|".join(t for t in (data.preprocess, last) if t) for last in (data.augment, data.evaluate)
    )  # pyright: ignore[reportReturnType]


def added_columns(config: Config) -> dict[str, str]:
    """Returns the columns that the sampler of a config adds to training batches.

    Args:
        config: Complete config.

    Returns:
        Type of each column by name.
    """
    return samplers.columns(importing.resolve(config.sampler.name, "config.sampler.name"))


def evaluation_columns(config: Config) -> dict[str, str]:
    """Returns the columns that the evaluation sampler of a config adds to evaluated batches.

    Args:
        config: Complete config.

    Returns:
        Type of each column by name.
    """
    name = config.evaluation_sampler.name
    return samplers.columns(importing.resolve(name, "config.evaluation_sampler.name"))


def stages(config: Config) -> list[tuple[float, Config]]:
    """Returns the stages of training, each with its own augmentation.

    There is one stage, unless the config has `data.augment_until`.

    Args:
        config: Complete config.

    Returns:
        Pairs (fraction of all steps at which the stage ends, config with its augmentation) in
        order; the last fraction is 1.
    """
    result = []
    for end, augment in (*config.data.augment_until, (1.0, config.data.augment)):
        staged = copy.deepcopy(config)
        staged.data.augment = augment
        result.append((end, staged))
    return result


def batch_shapes(config: Config, source: Source) -> dict[str, jax.ShapeDtypeStruct]:
    """Returns the shapes and types of a training batch.

    Args:
        config: Complete config.
        source: Any split, encoded; its first example determines the shapes.

    Returns:
        Shape `[batch_size, ...]` and type, by name, of each feature, of `mask` and of the columns
        that the sampler adds.
    """
    example = {k: v[None] for k, v in source[0].items()}
    example |= {"mask": np.ones(1, np.float32)}
    example |= {name: np.zeros(1, dtype) for name, dtype in added_columns(config).items()}
    return {
        name: jax.ShapeDtypeStruct(
            # The type on the devices, where int64 becomes int32.
            (config.batch_size, *value.shape[1:]),
            jax.dtypes.canonicalize_dtype(value.dtype),
        )
        for name, value in example.items()
    }


def resident(config: Config, source: Source, devices: Devices) -> Source | pipeline.DeviceSource:
    """Places an evaluated split on the devices if `config.data.residency` is "device".

    Args:
        config: Complete config.
        source: The split, encoded.
        devices: Devices that the split is placed on.

    Returns:
        The split on the devices, or `source` unchanged.
    """
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
    """Returns batches over a whole split.

    Args:
        config: Complete config.
        source: The split, encoded.
        devices: Devices that the batches are placed on.
        in_order: Whether examples come in the order of the split, instead of that of
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
    """Opens the training split and determines the order of its examples.

    Args:
        config: Complete config.
        data_dir: Folder of original data sets. None selects the default; see `rcnn_jax.data.roots`.
        batch_size: Number of rows of a batch. None means `config.batch_size`.
        encoding: Encoding that converts text to numbers. None leaves the examples as they are.

    Returns:
        The examples and their order.

    Raises:
        UserError: The split is missing, or the sampler does not accept its arguments.
    """
    source = encoded(config, encoding, open_split(config, "train", data_dir))
    return source, make_sampler(config, source, batch_size)


def make_sampler(config: Config, source: Source, batch_size: int | None = None) -> Sampler:
    """Builds the sampler that determines the order of training examples.

    Args:
        config: Complete config.
        source: Training split, encoded.
        batch_size: Number of rows of a batch. None means `config.batch_size`.

    Returns:
        The sampler.

    Raises:
        UsageError: The sampler does not accept its arguments.
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
    """Returns training batches, which are placed on the devices ahead of time.

    Args:
        config: Complete config.
        devices: Devices that the batches are placed on.
        source: Training split, encoded.
        sampler: Order of the training examples.
        start: Number of the first batch, counted from 0.
        count: Number of batches.
    """
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
