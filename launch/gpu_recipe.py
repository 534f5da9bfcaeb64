"""The recipes by which `gpu.py` trains RCNN-96 and RCNN-160: all chosen numbers in one place."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from absl import flags

from rcnn_jax.errors import UsageError, nearest

STAGES = ("rcnn96", "rcnn160")
UNFINISHED = 3
"""Exit code of a part that had no time to finish."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is trained, on which images and for how long.

    No value was chosen by looking at test images. Momentum, decay and smoothing are those of
    `configs/rcnn_cifar10.py`; its learning rate of 0.1 for batches of 128 is scaled with the square
    root of the batch size.

    Attributes:
        published: Test error of this network with augmentation that the paper states.
        features: Number of feature maps K.
        steps: Number of iterations T.
        dropout: Share of activations that are dropped.
        precision: Precision of the arithmetic, `bfloat16` or `float32`; parameters and statistics
            are float32.
        images: Number of training images to use, from the first one on.
        batch_size: Number of images of a step.
        epochs: Largest number of epochs; there are fewer if the time does not suffice.
        steps_per_dispatch: Number of steps that the device takes before it returns to the host.
        evaluations: Number of evaluations on the test images, which are denser towards the end.
        learning_rate: Peak learning rate, from which it falls linearly to 0.
        warmup_fraction: Share of all steps over which the learning rate rises from 0 to its peak.
        weight_decay: Weight decay of kernels.
        label_smoothing: Share of the target's probability that is spread over all classes.
        ema_decay: Decay of a moving average of the weights, which is evaluated in their place; 0
            means no average.
        whitening: Share of the largest eigenvalue that is added to all eigenvalues if the first
            kernel starts as one that whitens patches, for example 1e-3; 0 means a random first
            kernel.
        preprocess: Preprocessing of all images.
        augment: Augmentation of training images.
        evaluate: Transform of test images; the default takes nine crops, as in the paper.
        evaluation_batch_size: Number of test images at a time, each with all of its crops.
    """

    published: float
    features: int = 96
    steps: int = 3
    dropout: float = 0.1
    precision: str = "bfloat16"
    images: int = 50_000
    batch_size: int = 512
    epochs: float = 150.0
    steps_per_dispatch: int = 98
    evaluations: int = 12
    learning_rate: float = 0.2
    warmup_fraction: float = 0.2
    weight_decay: float = 5e-4
    label_smoothing: float = 0.1
    ema_decay: float = 0.0
    whitening: float = 0.0
    preprocess: str = "to_float(255)|subtract_pixel_mean"
    augment: str = "random_crop(24)|flip"
    evaluate: str = "nine_crop(24, 4)"
    evaluation_batch_size: int = 500

    def __post_init__(self) -> None:
        for name in ("images", "batch_size", "epochs", "steps_per_dispatch", "evaluations"):
            if not getattr(self, name) > 0:
                raise UsageError(f"--set: {name}={getattr(self, name)} must be above 0.")
        if self.precision not in ("bfloat16", "float32"):
            raise UsageError(f"--set: precision={self.precision} must be bfloat16 or float32.")


# Liang & Hu, CVPR 2015, table of CIFAR-10 with augmentation.
RECIPES = {
    "rcnn96": Recipe(published=0.0737),
    "rcnn160": Recipe(published=0.0709, features=160, dropout=0.2),
}
# To check on any machine that everything works; nothing is learnt well with these values.
QUICK = {
    "features": 8,
    "images": 1280,
    "batch_size": 64,
    "epochs": 2.0,
    "steps_per_dispatch": 5,
    "evaluations": 2,
    "evaluation_batch_size": 64,
}


def make(stage: str, changes: Sequence[str] = (), quick: bool = False) -> Recipe:
    """Makes the recipe of a stage.

    Args:
        stage: One of `STAGES`.
        changes: Changes of the recipe's attributes as `name=value`.
        quick: Whether the recipe is made tiny.

    Returns:
        The recipe.

    Raises:
        UsageError: There is no such attribute, or a value does not have its type.
    """
    recipe = dataclasses.replace(RECIPES[stage], **(QUICK if quick else {}))
    values: dict[str, Any] = {}
    for change in changes:
        name, _, text = change.partition("=")
        fields = [field.name for field in dataclasses.fields(Recipe)]
        if name not in fields:
            raise UsageError(f"--set={change}: {nearest(name, fields)}.")
        kind = type(getattr(recipe, name))
        try:
            values[name] = kind(text)
        except ValueError as error:
            raise UsageError(f"--set={change}: {name} is of type {kind.__name__}.") from error
    return dataclasses.replace(recipe, **values)


class Flags(NamedTuple):
    """The flags that `gpu.py` passes to the trainings that it starts.

    Attributes:
        data: Folder of the files of CIFAR-10.
        out: Folder of the results.
        platform: Platform to measure and train on, `gpu` or `cpu`.
        seeds: Number of trainings of each network.
        set: Changes of the recipes.
        quick: Whether everything is made tiny.
        validation: Whether to evaluate on a part of the training images.
        test_exact: Number of test images to evaluate on; None means all.
    """

    data: flags.FlagHolder[str | None]
    out: flags.FlagHolder[str]
    platform: flags.FlagHolder[str]
    seeds: flags.FlagHolder[int]
    set: flags.FlagHolder[list[str]]
    quick: flags.FlagHolder[bool]
    validation: flags.FlagHolder[bool]
    test_exact: flags.FlagHolder[int | None]


def define_flags(own: flags.FlagValues) -> Flags:
    """Defines the flags of the trainings.

    Args:
        own: Flags of the command, to which these are added.

    Returns:
        The flags; their values can be read once the program runs.
    """
    return Flags(
        data=flags.DEFINE_string(
            "data", None, "Folder of CIFAR-10's files data_batch_1.bin to data_batch_5.bin and "
            "test_batch.bin, or one above; unless given, RCNN_JAX_DATA or a cache folder.",
            flag_values=own,
        ),
        out=flags.DEFINE_string("out", "runs/gpu", "Folder of the results.", flag_values=own),
        platform=flags.DEFINE_enum(
            "platform", "gpu", ["gpu", "cpu"], "What is measured and trained on.", flag_values=own
        ),
        seeds=flags.DEFINE_integer(
            "seeds", 1, "Trainings of each net, which share its time.", 1, flag_values=own
        ),
        set=flags.DEFINE_multi_string(
            "set", [], "A value of the recipes, such as --set=precision=float32 or "
            "--set=epochs=50; see gpu_recipe.py. May be given several times.",
            flag_values=own,
        ),
        quick=flags.DEFINE_bool(
            "quick", False, "Everything tiny, to see on any machine that it works.",
            flag_values=own,
        ),
        validation=flags.DEFINE_bool(
            "validation", False, "Train on the first four fifths of the training images and "
            "evaluate on the others, as for choosing a recipe.", flag_values=own,
        ),
        test_exact=flags.DEFINE_integer(
            "test_exact", None, "Evaluate on the first so many test images alone, where others "
            "of a copy are not exact.", 1, flag_values=own,
        ),
    )  # fmt: skip
