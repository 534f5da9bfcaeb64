"""Initial weights in place of random ones: from another run, from a file, or fitted."""

import pathlib
from collections.abc import Mapping

import numpy as np

from rcnn_jax.configuration import importing
from rcnn_jax.data.sources import Source
from rcnn_jax.data.transforms import chain
from rcnn_jax.training import initial, state
from rcnn_jax.training.interface import Config
from rcnn_jax.training.parallel import distributed
from rcnn_jax.training.parallel.mesh import Devices
from rcnn_jax.training.workdir import Workdir


def read(config: Config, abstract: state.TrainState) -> dict[str, np.ndarray]:
    """Reads the weights that `config.init_from` names.

    A warning says so if the names or values in a weight file tell who trained the network, and
    `config.data.preprocess` makes other pixels than theirs.

    Args:
        config: Complete config.
        abstract: Shapes of the state before the first step.

    Returns:
        Arrays by the paths of the model.

    Raises:
        UserError: The workdir or file is missing or damaged, or its weights do not fit the model.
    """
    # Imported here, because it loads the names of all backbones, which most runs do not need.
    from rcnn_jax.interop import makers
    from rcnn_jax.interop import weights as weight_files
    from rcnn_jax.interop.backbone_names import NAMES

    origin = config.init_from
    path = pathlib.Path(origin)
    if not weight_files.is_weight_file(origin) or Workdir(path).config.is_file():
        weights = initial.read(origin)
        return initial.read_for(abstract, weights, origin, config.init_include, config.init_into)
    own = initial.paths(abstract, config.init_into)
    kinds = tuple(NAMES)
    found = weight_files.read(path, kinds, own)
    fit = weight_files.fitting(found, kinds, own, origin)
    weights = weight_files.renamed(found, kinds, own, origin).arrays
    chosen = initial.read_for(abstract, weights, origin, config.init_include, config.init_into)
    # Only the first layer that is taken expects certain pixels.
    first = next(iter(fit.names.values()), ("", ""))[0]
    if config.init_into:
        first = first.replace("params/", f"params/{config.init_into}/", 1)
    if first in chosen:
        doubt = makers.doubt(path, found, fit, config.data.preprocess)
        if doubt is not None:
            distributed.warn(doubt)
    return chosen


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
