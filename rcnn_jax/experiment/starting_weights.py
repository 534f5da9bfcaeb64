"""Initial weights in place of random ones: from another run, from a file, or fitted."""

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
    """Reads the weights that `config.init_from` names.

    Args:
        config: Complete config.
        abstract: Shapes of the state before the first step.

    Returns:
        Arrays by the paths of the model.

    Raises:
        UserError: The workdir or file is missing or damaged, or its weights do not fit the model.
    """
    # Imported here, because it loads the names of all backbones, which most runs do not need.
    from rcnn_jax.interop import weights as weight_files

    origin = config.init_from
    if pathlib.Path(origin).suffix in weight_files.SUFFIXES:
        weights = weight_files.renamed(weight_files.read(pathlib.Path(origin))).arrays
    else:
        weights = initial.read(origin)
    return initial.read_for(abstract, weights, origin, config.init_include, config.init_into)


def fit(
    config: Config,
    fresh: state.TrainState,
    source: Source,
    assets: Mapping[str, np.ndarray],
    devices: Devices,
) -> dict[str, np.ndarray]:
    """Fits the parameter that `config.init_fit` names to the training images.

    Args:
        config: Complete config.
        fresh: State before the first step.
        source: Training split, encoded.
        assets: Arrays fitted on the training split, by name, which the transforms read.
        devices: Devices that hold the state.

    Returns:
        Arrays by the paths of the model.

    Raises:
        UserError: The fitter cannot be built, or does not fit the model or the images.
    """
    preprocess = chain.build(config.data.preprocess, assets)
    fitted = importing.build(config.init_fit, "config.init_fit")
    return initial.fit_for(fresh, fitted, chain.blocks(source, preprocess), devices)
