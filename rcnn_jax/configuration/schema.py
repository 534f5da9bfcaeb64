"""Keys of a config with their defaults, and the values that they may take."""

import math
from typing import Any

from rcnn_jax.errors import UsageError, nearest

# Sections that also take the arguments of the class or function that their `name` names.
OPEN_SECTIONS = (
    "model", "task", "decoding", "encoder", "sampler", "evaluation_sampler", "metrics", "init_fit",
    "optimizer.options", "schedule.options", "extra",
)  # fmt: skip

DEFAULTS: dict[str, Any] = {
    "seed": 0,  # seed of initial weights, order of examples, augmentation and dropout
    "model": {"name": ""},  # import path "package.module:Class", and its arguments
    "task": {"name": "rcnn_jax.tasks.classification:Classification"},  # import path, and arguments
    # Further arguments of the task that control the search for answers, such as the width of a
    # beam. They do not affect the training steps, and evaluation may change them.
    "decoding": {},
    "data": {
        "name": "",  # shipped data set, "tfds:NAME", or import path of a DatasetSpec
        "train": "train",  # training split, such as "train[:40000]"
        "validation": "validation",  # validation split; "" for none
        "test": "test",  # test split
        # Transforms of every image, such as "subtract_pixel_mean". They are followed by `augment`
        # for training images, such as "random_crop(24)|flip", and by `evaluate` for all others,
        # such as "nine_crop(24, 4)".
        "preprocess": "",
        "augment": "",  # transforms of training images, after `preprocess`
        # Pairs (fraction, transforms): up to that fraction of all steps the transforms replace
        # `augment`, such as ((0.5, "random_crop(24)|resize(16)|flip"),) to begin with small images.
        "augment_until": (),
        "evaluate": "",  # transforms of evaluated images, after `preprocess`
        "features": (),  # features that are read, such as ("image", "label"); (): all
        "residency": "stream",  # stream | memory | device: where examples are kept
        # A record that cannot be read ends the run (stop), or causes a warning and counts as
        # padding (skip).
        "damaged": "stop",  # stop | skip
        "prefetch": 2,  # number of batches that are prepared ahead of the step
        "workers": 2,  # number of threads that read a stream
    },
    # Encoder that converts text to numbers. It is fitted on the training split and passes the sizes
    # it finds to the model and the task. "" for examples that are arrays already.
    "encoder": {"name": ""},
    "sampler": {"name": "rcnn_jax.data.samplers:Shuffled"},  # order of training examples
    # Order of an evaluated split, in which each example occurs once. Parallel streams with a carry
    # are evaluated with rcnn_jax.data.streams:Contiguous.
    "evaluation_sampler": {"name": "rcnn_jax.data.samplers:Sequential"},
    # Metrics besides those of the task: NAME -> {"name": import path, further arguments}.
    "metrics": {},
    "batch_size": 128,  # examples in a training step, over all devices
    # Number of parts in which a batch is processed, one after the other, to use less memory. Their
    # gradients add up to one step with the same augmentation and dropout. It must divide
    # batch_size / devices. With batch normalization this is not equivalent to one large batch: each
    # part is normalized by its own statistics, and running statistics are updated once a part.
    "accumulate": 1,
    "evaluation_batch_size": 256,  # examples in a batch of evaluation, over all devices
    "epochs": 0.0,  # length of training in epochs; set either this or `steps`
    "steps": 0,  # length of training in steps
    # Minutes after which a start of the run saves a checkpoint and ends, as after a warning by a
    # scheduler. The same command continues the run. 0: no bound.
    "max_minutes": 0.0,
    "optimizer": {
        # sgd | adam | rmsprop, whose arguments are the keys below; or the import path of a function
        # that makes an Optax transformation, such as "optax:lion", with arguments in `options`.
        # `clip_value`, `clip_norm`, `groups` and `max_norm` apply to all of them.
        "name": "sgd",
        "options": {},  # arguments of a function that is named by import path
        "momentum": 0.9,  # sgd, rmsprop: momentum (0 in the lecture that introduced rmsprop)
        # sgd, rmsprop: momentum changes linearly to `momentum_final` over this fraction of all
        # steps; 0: never
        "momentum_fraction": 0.0,
        "momentum_final": 0.9,  # sgd, rmsprop: momentum after `momentum_fraction` of all steps
        "nesterov": False,  # sgd, rmsprop: whether momentum is Nesterov's
        "decay": 0.9,  # rmsprop: share of the mean square that an update keeps
        "b1": 0.9,  # adam: decay of the mean of the gradient
        "b2": 0.999,  # adam: decay of the mean of the squared gradient
        "eps": 1e-8,  # adam, rmsprop: term added to the root of the mean square
        # Weight decay of kernels, added to the gradient (sgd, rmsprop) or decoupled (adam).
        "weight_decay": 0.0,
        "clip_value": 0.0,  # bound of each element of the gradient, before `clip_norm`; 0: none
        "clip_norm": 0.0,  # bound of the global norm of the gradient; 0: none
        # Pairs (pattern of a parameter's path, factor of the learning rate); a factor of 0 freezes.
        "groups": (),
        # Pairs (pattern of a kernel's path, bound): after every step, the incoming weights of each
        # unit are scaled back to this Euclidean norm. Units are indexed by the last axis.
        "max_norm": (),
    },
    "schedule": {
        # constant | cosine | triangular | exponential | stepwise | plateau; or the import path of a
        # function that makes a schedule, such as "optax:cosine_onecycle_schedule", whose arguments
        # are in `options`. `value` and the number of steps are passed to it; see
        # `rcnn_jax.training.schedules`.
        "name": "constant",
        "options": {},  # arguments of a function that is named by import path
        "value": 0.1,  # the peak learning rate
        "warmup_fraction": 0.0,  # fraction of all steps in which the rate rises linearly from 0
        # cosine, triangular, exponential: final rate as a fraction of `value`
        "final_fraction": 0.0,
        "boundaries": (0.5, 0.75),  # stepwise: fractions of all steps at which the rate drops
        "factor": 0.1,  # stepwise, plateau: factor of the rate at each drop
        "patience": 5,  # plateau: evaluations without improvement before a drop
        "min_scale": 1e-3,  # plateau: lowest rate as a fraction of `value`
    },
    "divergence": {  # handling of a loss that is NaN, infinite or above `max_loss`
        "max_loss": 0.0,  # bound above which a loss counts as divergence; 0: no bound
        # stop | rollback, which returns to the newest checkpoint and lowers the learning rate
        "action": "stop",
        "rate_factor": 0.5,  # rollback: factor of the learning rate
        "attempts": 3,  # rollback: largest number of rollbacks in one start of the run
    },
    "ema_decay": 0.0,  # decay of an average of the weights that is evaluated instead; 0: none
    "precision": "float32",  # float32 | bfloat16 (with float32 parameters) | float64
    # Initial weights: a workdir, or a weight file: .npz, .safetensors, or torch's (.pt, .pth, ...).
    "init_from": "",
    "init_into": "",  # part of the model they belong to, such as "backbone"; "": all
    "init_include": (".*",),  # patterns of the paths of parameters taken from `init_from`
    # Object that computes initial weights from training images, such as the kernel of a first layer
    # that whitens: {"name": "rcnn_jax.layers.whitening:WhitenedKernel", "path": "conv/kernel"}
    "init_fit": {"name": ""},
    "parallelism": "jit",  # jit (on a mesh) | pmap
    "mesh": {"data": -1, "fsdp": 1},  # devices along each axis; -1: all remaining
    "fsdp": {
        # Pairs (pattern of a parameter's path, rule), of which the last match applies. The rule
        # "largest" cuts the largest dimension that the devices divide, "whole" cuts none, and a
        # number cuts that dimension. Moments and averages follow their parameter.
        "rules": ((".*", "largest"),),
        "min_size": 65536,  # number of elements below which "largest" leaves a parameter whole
    },
    "log_every": 50,  # steps between log lines
    "evaluate_every": 0,  # steps between evaluations; 0: one evaluation an epoch
    "checkpoint_every": 0,  # steps between further checkpoints; 0: checkpoints only at evaluations
    "keep_latest": 2,  # number of newest checkpoints that are kept
    "keep_best": 1,  # number of best checkpoints that are kept
    "best_metric": "error",  # validation metric that ranks checkpoints
    "best_mode": "min",  # min | max: whether lower or higher `best_metric` is better
    # Writers of log entries besides metrics.jsonl: "tensorboard", "wandb", or the import path of a
    # class that is called with the path of the workdir and has `write(entry)` and `close()`.
    "writers": (),
    # Flags of XLA, such as ("xla_cpu_experimental_ynn_fusion_type=-individual_convolution",).
    "xla_flags": (),
    "extra": {},  # settings of a fork, which this package does not read
}

CHOICES = {
    "data.residency": ("stream", "memory", "device"),
    "data.damaged": ("stop", "skip"),
    "optimizer.name": ("sgd", "adam", "rmsprop"),
    "schedule.name": (
        "constant",
        "cosine",
        "triangular",
        "exponential",
        "stepwise",
        "plateau",
    ),
    "precision": ("float32", "bfloat16", "float64"),
    "parallelism": ("jit", "pmap"),
    "divergence.action": ("stop", "rollback"),
    "best_mode": ("min", "max"),
}

_MANY = 10**9
# Key -> (lowest value, highest value, whether the highest is allowed).
RANGES: dict[str, tuple[float, float, bool]] = {
    "seed": (0, 2**63, False),
    "batch_size": (1, _MANY, True),
    "accumulate": (1, _MANY, True),
    "evaluation_batch_size": (1, _MANY, True),
    "log_every": (1, _MANY, True),
    "keep_latest": (1, _MANY, True),
    "keep_best": (0, _MANY, True),
    "evaluate_every": (0, _MANY, True),
    "checkpoint_every": (0, _MANY, True),
    "epochs": (0, _MANY, True),
    "steps": (0, _MANY, True),
    "max_minutes": (0, _MANY, True),
    "ema_decay": (0, 1, False),
    "divergence.max_loss": (0, _MANY, True),
    "divergence.rate_factor": (1e-6, 1, False),
    "divergence.attempts": (1, _MANY, True),
    "fsdp.min_size": (0, _MANY, True),
    "data.prefetch": (0, 1000, True),
    "data.workers": (1, 1000, True),
    "optimizer.momentum": (0, 1, False),
    "optimizer.momentum_fraction": (0, 1, True),
    "optimizer.momentum_final": (0, 1, False),
    "optimizer.decay": (0, 1, False),
    "optimizer.b1": (0, 1, False),
    "optimizer.b2": (0, 1, False),
    "optimizer.weight_decay": (0, _MANY, True),
    "optimizer.eps": (0, _MANY, True),
    "optimizer.clip_value": (0, _MANY, True),
    "optimizer.clip_norm": (0, _MANY, True),
    "schedule.value": (0, _MANY, True),
    "schedule.warmup_fraction": (0, 1, False),
    "schedule.final_fraction": (0, 1, True),
    "schedule.patience": (1, _MANY, True),
    "schedule.min_scale": (0, 1, True),
}

# Keys that evaluation may change: the data, the views of each image, and the search for answers.
EVALUATION_KEYS = (
    "data.name", "data.train", "data.validation", "data.test", "data.evaluate", "decoding",
    "evaluation_sampler", "metrics",
)  # fmt: skip

# Choices to which an import path is an alternative, with an example. It is checked when built.
BY_IMPORT_PATH = {
    "optimizer.name": "'optax:lion'",
    "schedule.name": "'optax:cosine_onecycle_schedule'",
}

# Names of the writers of `rcnn_jax.training.writers` besides metrics.jsonl.
WRITERS = ("tensorboard", "wandb")

# Lists of names, for which a text is split at commas. Patterns and flags may contain commas.
NAME_LISTS = ("data.features", "writers")

# Sequences of texts: names, patterns and flags.
TEXTS = (*NAME_LISTS, "init_include", "xla_flags")

# Keys that control how a run is carried out, not what it computes. A continued run may change them.
RUNTIME_KEYS = (
    "parallelism", "mesh", "fsdp", "divergence", "log_every", "checkpoint_every", "keep_latest",
    "keep_best", "max_minutes",
    "data.residency", "data.damaged", "data.prefetch", "data.workers", "evaluation_batch_size",
    "writers", "xla_flags",
)  # fmt: skip


def check(config: Any, origin: str) -> None:
    """Checks values of a config beyond their types: choices, ranges and combinations.

    Args:
        config: Complete `ml_collections.ConfigDict`.
        origin: Name of the config's origin, for error messages.

    Raises:
        UsageError: A value is not allowed.
    """
    for key, allowed in CHOICES.items():
        value = _value(config, key)
        example = BY_IMPORT_PATH.get(key)
        if value not in allowed and not (example and ":" in value):
            other = f", or an import path such as {example}" if example else ""
            raise UsageError(f"{origin}: config.{key}={value!r}: {nearest(value, allowed)}{other}.")
    for key in TEXTS:
        value = _value(config, key)
        other = [item for item in value if not isinstance(item, str)]
        if other:
            raise UsageError(
                f"{origin}: config.{key}={value} takes texts, not {other[0]!r} of type "
                f"{type(other[0]).__name__}."
            )
    for name in config.writers:
        if name not in WRITERS and not (isinstance(name, str) and ":" in name):
            raise UsageError(
                f"{origin}: config.writers: {name!r}: {nearest(str(name), WRITERS)}, or an import "
                "path such as 'my_fork.parts:Writer'."
            )
    for section in ("model", "data"):
        if not config[section].name:
            raise UsageError(f"{origin}: config.{section}.name is empty; it must name one.")
    if (config.epochs > 0) == (config.steps > 0):
        raise UsageError(
            f"{origin}: exactly one of config.epochs={config.epochs} and "
            f"config.steps={config.steps} must be above 0."
        )
    for key, (low, high, includes) in RANGES.items():
        value = _value(config, key)
        if not (low <= value <= high if includes else low <= value < high):
            interval = f"in [{low}, {high}{']' if includes else ')'}"
            allowed = f"at least {low}" if high == _MANY and value < low else interval
            raise UsageError(f"{origin}: config.{key}={value} must be {allowed}.")
    if config.batch_size % config.accumulate:
        raise UsageError(
            f"{origin}: config.batch_size={config.batch_size} is not divisible by "
            f"config.accumulate={config.accumulate}."
        )
    if config.optimizer.name in ("adam", "rmsprop") and not config.optimizer.eps > 0:
        raise UsageError(
            f"{origin}: config.optimizer.eps={config.optimizer.eps} must be above 0 for "
            f"{config.optimizer.name}: a gradient of 0 would be divided by 0."
        )
    if config.schedule.name == "exponential" and not config.schedule.final_fraction > 0:
        raise UsageError(
            f"{origin}: config.schedule.final_fraction={config.schedule.final_fraction} must be "
            "above 0 for an exponential schedule."
        )
    if config.schedule.name == "plateau":
        if not 0 < config.schedule.factor < 1:
            raise UsageError(
                f"{origin}: config.schedule.factor={config.schedule.factor} must be in (0, 1) for "
                "a plateau."
            )
        if not config.data.validation:
            raise UsageError(
                f"{origin}: config.schedule.name='plateau' watches the validation split, and "
                "config.data.validation is empty. To train on all images, replay the drops of the "
                "run that had one: --config.schedule.name=stepwise with "
                "--config.schedule.boundaries=0.4,0.6 where its metrics.jsonl shows the rate to "
                "fall at 40 % and 60 % of its epochs."
            )
    for fraction in config.schedule.boundaries:
        if not isinstance(fraction, float) or not 0 < fraction < 1:
            raise UsageError(
                f"{origin}: config.schedule.boundaries={config.schedule.boundaries} are fractions "
                f"of all steps in (0, 1), not {fraction!r}."
            )
    ends = [0.0]
    for pair in config.data.augment_until:
        whole = isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[1], str)
        if not whole or not isinstance(pair[0], float) or not ends[-1] < pair[0] < 1:
            raise UsageError(
                f"{origin}: config.data.augment_until={config.data.augment_until} must be pairs "
                "(fraction of all steps, transforms) whose fractions rise between 0 and 1, as in "
                "((0.5, 'random_crop(24)|resize(16)|flip'),)."
            )
        ends.append(pair[0])
    for pair in config.fsdp.rules:
        whole = isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], str)
        if not whole or (pair[1] not in ("largest", "whole") and type(pair[1]) is not int):
            raise UsageError(
                f"{origin}: config.fsdp.rules={config.fsdp.rules} must be pairs (pattern, rule), "
                "the rule 'largest', 'whole' or the number of a dimension, as in "
                "(('.*', 'largest'), ('.*bias', 'whole'))."
            )
    for key, value, example in (
        ("groups", "factor", "(('rcl1/.*', 0.1),)"),
        ("max_norm", "bound", "(('conv.*/kernel', 1.9),)"),
    ):
        pairs = config.optimizer[key]
        for pair in pairs:
            whole = isinstance(pair, tuple) and len(pair) == 2
            if not whole or not isinstance(pair[0], str) or not _finite(pair[1]):
                raise UsageError(
                    f"{origin}: config.optimizer.{key}={pairs} must be pairs (pattern, {value}), "
                    f"as in {example}."
                )
            if key == "max_norm" and not pair[1] > 0:
                raise UsageError(
                    f"{origin}: config.optimizer.max_norm={pairs}: a bound must be above 0, not "
                    f"{pair[1]}."
                )


def _finite(value: Any) -> bool:
    """Returns whether a value is a finite number; True and False are none."""
    return type(value) in (int, float) and math.isfinite(value)


def _value(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config[part]
    return config
