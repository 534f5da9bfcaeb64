"""How `gpu.py` trains RCNN-96 and RCNN-160: every number that is chosen, in one place."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

from absl import flags

from rcnn_jax.errors import UsageError, nearest

STAGES = ("rcnn96", "rcnn160")
UNFINISHED = 3
"""Exit code of what had no time to finish."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What is trained, on what, and for how long.

    Nothing of it was chosen by a look at test images. Momentum, decay and smoothing are those of
    `configs/rcnn_cifar10.py`; its rate of 0.1 for batches of 128 grows with the root of the batch.

    Attributes:
        published: Test error that the paper states for this net with augmentation.
        features: Feature maps K.
        steps: Iterations T.
        dropout: Share of activations dropped.
        precision: `bfloat16` or `float32` arithmetic; parameters and statistics are float32.
        images: Training images, the first ones.
        batch_size: Images of a step.
        epochs: At most so many; fewer where the time does not allow them.
        steps_per_dispatch: Steps that the device takes before it answers.
        evaluations: How often the test images are looked at, more often towards the end.
        learning_rate: The highest one, from which it falls along a line to 0.
        warmup_fraction: Share of all steps over which it rises to that from 0.
        weight_decay: Of kernels.
        label_smoothing: Share of the target's probability that all classes get.
        ema_decay: Of an average of the weights that is evaluated instead of them; 0: none.
        whitening: Share of the largest eigenvalue that is added to all of them where the first
            kernel starts as one that whitens patches, 1e-3 say; 0: it starts at random.
        preprocess: Of every image.
        augment: Of training images.
        evaluate: Of test images: nine crops, as in the paper.
        evaluation_batch_size: Test images at a time, each with its crops.
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
# To see on any machine that everything works: nothing is learnt well by this.
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
    """The recipe of a stage.

    Args:
        stage: One of `STAGES`.
        changes: Of its attributes, as `name=value`.
        quick: Whether it is made tiny.

    Raises:
        UsageError: There is no such attribute, or the value is none of its type.
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
    """The flags that `gpu.py` hands on to the trainings it starts."""

    data: flags.FlagHolder[str | None]
    out: flags.FlagHolder[str]
    platform: flags.FlagHolder[str]
    seeds: flags.FlagHolder[int]
    set: flags.FlagHolder[list[str]]
    quick: flags.FlagHolder[bool]
    validation: flags.FlagHolder[bool]
    test_exact: flags.FlagHolder[int | None]


def define_flags(own: flags.FlagValues) -> Flags:
    """Defines the flags of what is trained; their values can be read once the program runs."""
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
