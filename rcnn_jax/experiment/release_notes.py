"""Says what a run was trained on that is read differently today."""

from rcnn_jax.data import catalog
from rcnn_jax.training.interface import Config
from rcnn_jax.training.parallel import distributed
from rcnn_jax.training.workdir import Workdir


def version(config: Config) -> str | None:
    """Returns the version of the data set that a config names; None for one of TFDS.

    Args:
        config: Complete config.
    """
    name = config.data.name
    return None if name.startswith("tfds:") else catalog.load_spec(name).version


def warn(config: Config, workdir: Workdir) -> None:
    """Prints what the same files are read as since the version that a run was trained on.

    Args:
        config: Config of the run.
        workdir: Workdir of the run. A run whose facts name no version is older than all notes.
    """
    name = config.data.name
    if name.startswith("tfds:"):
        return
    then = workdir.data_facts().get("version", "")
    for note in catalog.load_spec(name).notes_since(then):
        distributed.warn(
            f"{name} is read differently since this run was trained, so that its figures may "
            f"change: {note.rstrip('.')}"
        )
