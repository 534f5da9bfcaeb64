"""Weights that a run begins with in place of random ones: another run's, a file's, or fitted."""

import pathlib
from collections.abc import Mapping

import numpy as np

from rcnn_jax.configuration import importing
from rcnn_jax.data.sources import Source
from rcnn_jax.data.transforms import chain
from rcnn_jax.training import initial, state
from rcnn_jax.training.interface import Config
from rcnn_jax.training.parallel.mesh import Devices


def read(config: Config, abstract: state.TrainState) -> dict[str, np.ndarray]:
    """Reads what `config.init_from` names.

    Args:
        config: A complete config.
        abstract: Shapes of the state before the first step.

    Returns:
        Arrays by the paths of the model.

    Raises:
        UserError: It is missing or damaged, or fits nothing of the model.
    """
    # Here and not above: it knows the names of all backbones, and most runs start from none.
    from rcnn_jax.interop import weights as weight_files

    origin = config.init_from
    if pathlib.Path(origin).suffix in weight_files.SUFFIXES:
        found = weight_files.renamed(weight_files.read(pathlib.Path(origin))).arrays
    else:
        found = initial.read(origin)
    return initial.read_for(abstract, found, origin, config.init_include, config.init_into)


def fit(
    config: Config,
    fresh: state.TrainState,
    source: Source,
    assets: Mapping[str, np.ndarray],
    devices: Devices,
) -> dict[str, np.ndarray]:
    """Fits what `config.init_fit` names to the training images.

    Args:
        config: A complete config.
        fresh: The state before the first step.
        source: The training split, encoded.
        assets: What was fitted on it, for the transforms.
        devices: Where the state lies.

    Returns:
        Arrays by the paths of the model.

    Raises:
        UserError: It cannot be built, or fits nothing of the model.
    """
    preprocess = chain.build(config.data.preprocess, assets)
    fitted = importing.build(config.init_fit, "config.init_fit")
    return initial.fit_for(fresh, fitted, chain.blocks(source, preprocess), devices)
