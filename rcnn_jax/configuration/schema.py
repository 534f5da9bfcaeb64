"""The keys of a config: what each means, its default, and what values it may take."""

from typing import Any

from rcnn_jax.errors import UsageError, nearest

# Sections whose keys are those of whatever `name` names: a model, a task, a sampler and so on.
OPEN_SECTIONS = (
    "model", "task", "decoding", "encoder", "sampler", "evaluation_sampler", "metrics", "init_fit",
    "optimizer.options", "schedule.options", "extra",
)  # fmt: skip

DEFAULTS: dict[str, Any] = {
    "seed": 0,  # of the initial weights, the order of examples, augmentation and dropout
    "model": {"name": ""},  # import path "package.module:Class" and its keyword arguments
    "task": {"name": "rcnn_jax.tasks.classification:Classification"},
    # Further arguments of the task: how answers are searched for, such as the width of a beam.
    # Training takes the same steps whatever they are, and evaluation may change them.
    "decoding": {},
    "data": {
        "name": "",  # a shipped data set, "tfds:NAME" or the import path of a DatasetSpec
        "train": "train",  # splits, e.g. "train[:40000]"
        "validation": "validation",  # "" for none
        "test": "test",
        # Transforms: `preprocess` of every image, then `augment` of those trained on and
        # `evaluate` of the others, e.g. "subtract_pixel_mean", "random_crop(24)|flip" and
        # "nine_crop(24, 4)".
        "preprocess": "",
        "augment": "",
        # ((fraction, transforms), ...): up to that fraction of all steps these stand in place of
        # `augment`, e.g. ((0.5, "random_crop(24)|resize(16)|flip"),) to begin with small images.
        "augment_until": (),
        "evaluate": "",
        "features": (),  # what of an example is read, such as ("image", "label"); (): all
        "residency": "stream",  # stream | memory | device
        # A record that cannot be read ends the run (stop), or is warned of and counts as padding
        # (skip).
        "damaged": "stop",  # stop | skip
        "prefetch": 2,  # batches made ready ahead of the step
        "workers": 2,  # reading threads of a stream
    },
    # What turns text into numbers, fitted on the training split; it hands the sizes that it finds
    # to model and task. "" where examples are arrays already.
    "encoder": {"name": ""},
    "sampler": {"name": "rcnn_jax.data.samplers:Shuffled"},
    # The order of an evaluated split, each example once; streams side by side with a carry are
    # evaluated by rcnn_jax.data.streams:Contiguous.
    "evaluation_sampler": {"name": "rcnn_jax.data.samplers:Sequential"},
    # Metrics besides the task's: NAME -> {"name": import path, further arguments}.
    "metrics": {},
    "batch_size": 128,  # examples a step, over all devices
    # In how many parts a batch is taken, one after the other, to hold less in memory: their
    # gradients add up to one step with the same augmentation and dropout. It must divide
    # batch_size / devices. With batch normalization this is not one large batch: each part is
    # normalized by its own statistics, and running statistics are updated once a part.
    "accumulate": 1,
    "evaluation_batch_size": 256,
    "epochs": 0.0,  # how long to train: either `epochs` or `steps`
    "steps": 0,
    # After these a start of the run saves and ends, as after a warning, and the same command goes
    # on; 0: no bound.
    "max_minutes": 0.0,
    "optimizer": {
        # sgd | adam | rmsprop, whose arguments are the keys below; or the import path of a function
        # that makes an Optax transformation, such as "optax:lion", with arguments in `options`.
        # `clip_value`, `clip_norm`, `groups` and `max_norm` hold for all of them.
        "name": "sgd",
        "options": {},
        "momentum": 0.9,  # sgd, rmsprop (0 in the lecture that rmsprop comes from)
        # sgd, rmsprop: moves along a line to `momentum_final` over this fraction of all steps; 0:
        # never
        "momentum_fraction": 0.0,
        "momentum_final": 0.9,
        "nesterov": False,  # sgd, rmsprop
        "decay": 0.9,  # rmsprop: share of the mean square that an update keeps
        "b1": 0.9,  # adam
        "b2": 0.999,  # adam
        "eps": 1e-8,  # adam, rmsprop: added to the root of the mean square
        # kernels only; added to the gradient (sgd, rmsprop) or decoupled (adam)
        "weight_decay": 0.0,
        "clip_value": 0.0,  # of each element of the gradient, before `clip_norm`; 0 for none
        "clip_norm": 0.0,  # global norm of the gradient; 0 for none
        # ((pattern of the parameter's path, factor of the learning rate), ...); 0 freezes
        "groups": (),
        # ((pattern of a kernel's path, bound), ...): after every step the weights into each unit
        # are scaled back to this Euclidean norm; units are counted along the last axis
        "max_norm": (),
    },
    "schedule": {
        # constant | cosine | triangular | exponential | stepwise | plateau; or the import path of a
        # function that makes a schedule, such as "optax:cosine_onecycle_schedule", with arguments
        # in `options`: `value` and the number of steps are handed to it, see
        # `rcnn_jax.training.schedules`
        "name": "constant",
        "options": {},
        "value": 0.1,  # the peak learning rate
        "warmup_fraction": 0.0,  # of all steps, rising linearly from 0
        # cosine, triangular, exponential: where it ends, as a fraction of `value`
        "final_fraction": 0.0,
        "boundaries": (0.5, 0.75),  # stepwise: fractions of all steps
        "factor": 0.1,  # stepwise, plateau: what the rate is multiplied by
        "patience": 5,  # plateau: evaluations without a gain before a drop
        "min_scale": 1e-3,  # plateau: no drop below this fraction of `value`
    },
    "divergence": {  # a loss that is NaN or infinite, or
        "max_loss": 0.0,  # above this; 0: no bound
        # stop | rollback: go back to the newest checkpoint and on with a lower learning rate
        "action": "stop",
        "rate_factor": 0.5,  # rollback: what the rate is multiplied by
        "attempts": 3,  # rollback: how often, in one start of the run
    },
    "ema_decay": 0.0,  # of an average of the weights that is evaluated instead of them; 0: none
    "precision": "float32",  # float32 | bfloat16 (f32 parameters) | float64
    # Where weights start from: a workdir, or a weight file .npz, .safetensors, .pt or .pth.
    "init_from": "",
    "init_into": "",  # the part of the model that they are of, e.g. "backbone"; "": all of it
    "init_include": (".*",),  # patterns of the paths of parameters that are taken from there
    # What computes initial weights from training images, e.g. the kernel of a first layer that
    # whitens: {"name": "rcnn_jax.layers.whitening:WhitenedKernel", "path": "conv/kernel"}
    "init_fit": {"name": ""},
    "parallelism": "jit",  # jit on a mesh | pmap
    "mesh": {"data": -1, "fsdp": 1},  # devices an axis; -1: all that are left
    "fsdp": {
        # ((pattern of the parameter's path, rule), ...); the last that matches counts. The rule
        # "largest" cuts the largest dimension that the devices divide, "whole" none, a number
        # that one. Moments and averages follow their parameter.
        "rules": ((".*", "largest"),),
        "min_size": 65536,  # "largest" leaves parameters with fewer elements whole
    },
    "log_every": 50,  # steps
    "evaluate_every": 0,  # steps; 0: once an epoch
    "checkpoint_every": 0,  # steps between further checkpoints; 0: only at evaluations
    "keep_latest": 2,
    "keep_best": 1,
    "best_metric": "error",
    "best_mode": "min",  # min | max
    # Besides metrics.jsonl: "tensorboard", "wandb", or the import path of a class that is called
    # with the workdir's path and has `write(entry)` and `close()`.
    "writers": (),
    "xla_flags": (),  # e.g. ("xla_cpu_experimental_ynn_fusion_type=-individual_convolution",)
    "extra": {},  # a fork's own settings; nothing here reads them
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
# Key -> (lowest, highest, whether the highest is allowed).
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

# Keys that evaluation may change: what is evaluated, on which views of it, and how answers are
# searched for.
EVALUATION_KEYS = (
    "data.name", "data.train", "data.validation", "data.test", "data.evaluate", "decoding",
    "evaluation_sampler", "metrics",
)  # fmt: skip

# Choices beside which an import path may stand; it is checked when it is built.
BY_IMPORT_PATH = {
    "optimizer.name": "'optax:lion'",
    "schedule.name": "'optax:cosine_onecycle_schedule'",
}

# What can be written besides metrics.jsonl; `rcnn_jax.training.writers` knows how.
WRITERS = ("tensorboard", "wandb")

# Lists of names: a string is split at its commas. A pattern or a flag may have commas of its own.
NAME_LISTS = ("data.features", "writers")

# Keys that say how a run is carried out and not what is computed: a run may go on with others.
RUNTIME_KEYS = (
    "parallelism", "mesh", "fsdp", "divergence", "log_every", "checkpoint_every", "keep_latest",
    "keep_best", "max_minutes",
    "data.residency", "data.damaged", "data.prefetch", "data.workers", "evaluation_batch_size",
    "writers", "xla_flags",
)  # fmt: skip


def check(config: Any, origin: str) -> None:
    """Checks what types alone do not say.

    Args:
        config: A complete `ml_collections.ConfigDict`.
        origin: Where it came from, for messages.

    Raises:
        UsageError: A value is out of its range.
    """
    for key, allowed in CHOICES.items():
        value = _value(config, key)
        example = BY_IMPORT_PATH.get(key)
        if value not in allowed and not (example and ":" in value):
            other = f", or an import path such as {example}" if example else ""
            raise UsageError(f"{origin}: config.{key}={value!r}: {nearest(value, allowed)}{other}.")
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
            if not whole or not isinstance(pair[0], str) or not isinstance(pair[1], int | float):
                raise UsageError(
                    f"{origin}: config.optimizer.{key}={pairs} must be pairs (pattern, {value}), "
                    f"as in {example}."
                )
            if key == "max_norm" and not pair[1] > 0:
                raise UsageError(
                    f"{origin}: config.optimizer.max_norm={pairs}: a bound must be above 0, not "
                    f"{pair[1]}."
                )


def _value(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config[part]
    return config
