"""Prints the layers of a model with output shapes, parameters and multiply-adds.

    python -m rcnn_jax.summary                               lists the models
    python -m rcnn_jax.summary --model=rcnn --input=32x32x3
    python -m rcnn_jax.summary --model=my_fork.models:Mine --config.model.features=64
    python -m rcnn_jax.summary --config=configs/rcnn_cifar10.py:paper
    python -m rcnn_jax.summary --convolutions                the arithmetic of convolutions

--config takes the same values as for `rcnn_jax.train`; the config's model is shown as its task
calls it with one training example. Only shapes are computed: the largest model takes seconds and no
memory. The data set is opened only if it does not state the shapes of its examples.
"""

import os
import shutil

from absl import flags

from rcnn_jax.errors import UsageError
from rcnn_jax.startup import doors

FLAGS = flags.FlagValues()
_MODEL = flags.DEFINE_string(
    "model",
    None,
    "Short name (see the list), or import path package.module:Name.",
    flag_values=FLAGS,
)
_CONFIG = flags.DEFINE_string(
    "config", None, "Config whose model is shown; `:variant` may follow.", flag_values=FLAGS
)
_INPUT = flags.DEFINE_string(
    "input",
    None,
    "Size of an example: HxWxC, TxF, or T:int for a sequence of integers.",
    flag_values=FLAGS,
)
_CLASSES = flags.DEFINE_integer(
    "classes", None, "Of a --model that takes `classes`; 10 unless given.", flag_values=FLAGS
)
_DEPTH = flags.DEFINE_integer(
    "depth", 1, "How many levels of layers inside layers to show.", flag_values=FLAGS
)
_PARAMETERS = flags.DEFINE_bool(
    "parameters", False, "List every array of parameters instead.", flag_values=FLAGS
)
_DATA_DIR = doors.define_data_dir(FLAGS)
_CONVOLUTIONS = flags.DEFINE_bool(
    "convolutions", False, "Show the arithmetic of convolutions.", flag_values=FLAGS
)


def main(argv: list[str]) -> int:
    """Prints the summary of a model, the list of models, or the arithmetic of convolutions.

    Args:
        argv: The command line; it is ignored, since all options are flags.

    Returns:
        The exit code 0.

    Raises:
        UsageError: A flag or a config is wrong, or the flags exclude each other.
    """
    del argv
    if _CONVOLUTIONS.value and (_MODEL.value or _CONFIG.value):
        raise UsageError("--convolutions stands alone, without --model and --config.")
    # Shapes need no accelerator, which another program may be using.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    doors.quiet_libraries()
    from rcnn_jax.summary import convolutions, listing

    if _CONVOLUTIONS.value:
        text = convolutions.convolution_table()
    else:
        text = listing.report(
            model=_MODEL.value,
            config=_CONFIG.value,
            given_input=_INPUT.value,
            classes=_CLASSES.value,
            depth=_DEPTH.value,
            parameters=_PARAMETERS.value,
            overrides=doors.overrides,
            data_dir=_DATA_DIR.value,
            width=shutil.get_terminal_size((100, 0)).columns,
        )
    print(text, flush=True)
    return 0


if __name__ == "__main__":
    doors.run(main, FLAGS)
