"""A user's files as examples of the data set of a run."""

import functools
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rcnn_jax.data import catalog, feature_json
from rcnn_jax.data.files import images
from rcnn_jax.data.spec import Feature
from rcnn_jax.errors import UserError
from rcnn_jax.output.predicted import about_folder
from rcnn_jax.training.workdir import Workdir

# Pairs (name of the example in its file, features by name). The name is "" if the file is one
# example.
Examples = Sequence[tuple[str, Mapping[str, Any]]]


def stored_features(config: Any, path: str | pathlib.Path) -> dict[str, Feature]:
    """Returns the features of a run's data as the data set stores them, without opening it.

    Args:
        config: Config of the workdir.
        path: Path of the workdir. If a run of an older version did not record the features there,
            those of the spec are used, unless the spec reads files that are not available.

    Returns:
        The features by name; empty if neither source has them.
    """
    facts = Workdir(path).data_facts()
    if "features" in facts:
        return feature_json.from_json(facts["features"])
    name, kept = config.data.name, config.data.features
    if name.startswith("tfds:"):
        return {}
    try:
        features = catalog.load_spec(name).features
    except (OSError, ValueError):
        return {}
    return {k: feature for k, feature in features.items() if not kept or k in kept}


def read_features(config: Any, path: str | pathlib.Path) -> dict[str, Feature] | None:
    """Returns the features of a run's data as the model reads them, without opening the data set.

    Args:
        config: Config of the workdir.
        path: Path of the workdir.

    Returns:
        The features by name. None if a run of an older version did not record them and an encoder
        derives others from those that the data set stores.
    """
    facts = Workdir(path).data_facts()
    if "read" in facts:
        return feature_json.from_json(facts["read"])
    return None if config.encoder.name else stored_features(config, path) or None


def reader(
    config: Any, path: str | pathlib.Path
) -> tuple[Mapping[str, Feature], Callable[[pathlib.Path], Examples]]:
    """Returns a function that reads a file as examples of a run's data set.

    Args:
        config: Config of the workdir.
        path: Path of the workdir.

    Returns:
        The features of the run's data by name, and a function from the path of a file to its
        examples, which have some of these features.

    Raises:
        UserError: The data set does not define how a file is read.
    """
    name = config.data.name
    if name.startswith("tfds:"):
        raise UserError(
            f"the data set {name!r} does not say how a file is read; a DatasetSpec with read_file "
            "does."
        )
    spec = catalog.load_spec(name)
    if spec.read_several is not None:
        shapes = Workdir(path).data_facts().get("shapes", {})
        return spec.features, _of_files(functools.partial(_checked, spec.read_several, shapes))
    read_file = spec.read_file
    if read_file is not None:
        return spec.features, _of_files(lambda path: [("", read_file(path))])
    inputs = config.task.get("inputs", "image")
    feature = spec.features.get(inputs)
    if feature is None or not images.is_picture(feature):
        raise UserError(
            f"the data set {name!r} does not say how a file is read (DatasetSpec.read_file), and "
            "its examples are no pictures of one size."
        )
    shape: Any = feature.shape
    return spec.features, _of_files(lambda path: [("", {inputs: images.read_image(path, shape)})])


def _of_files(read: Callable[[pathlib.Path], Examples]) -> Callable[[pathlib.Path], Examples]:
    """Returns a reader that says what to do about a folder, for which `read` has no words."""

    def checked(path: pathlib.Path) -> Examples:
        if path.is_dir():
            raise ValueError(about_folder(path))
        return read(path)

    return checked


def _checked(
    read: Callable[[pathlib.Path], Examples], shapes: Mapping[str, Any], path: pathlib.Path
) -> Examples:
    """Reads the examples of a file and checks their shapes against those of the run."""
    examples = read(path)
    for _, example in examples[:1]:
        for name, shape in shapes.items():
            if name in example and list(example[name].shape) != shape:
                raise ValueError(
                    f"{path} holds {name} of shape {list(example[name].shape)}, the run was "
                    f"trained on {shape}"
                )
    return examples
