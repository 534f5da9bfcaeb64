"""The keys of a config: what each means, its default, and what values it may take."""

from typing import Any

from rcnn_jax.errors import UsageError, nearest

# Sections whose keys are those of whatever `name` names: a model's, a task's or a sampler's.
OPEN_SECTIONS = ("model", "task", "sampler", "extra")

DEFAULTS: dict[str, Any] = {
    "seed": 0,  # of the initial weights, the order of examples, augmentation and dropout
    "model": {"name": ""},  # import path "package.module:Class" and its keyword arguments
    "task": {"name": "rcnn_jax.tasks.classification:Classification"},
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
        "evaluate": "",
        "residency": "stream",  # stream | memory | device
        "prefetch": 2,  # batches made ready ahead of the step
        "workers": 2,  # reading threads of a stream
    },
    "sampler": {"name": "rcnn_jax.data.samplers:Shuffled"},
    "batch_size": 128,  # examples a step, over all devices
    "evaluation_batch_size": 256,
    "epochs": 0.0,  # how long to train: either `epochs` or `steps`
    "steps": 0,
    "optimizer": {
        "name": "sgd",  # sgd | adam
        "momentum": 0.9,  # sgd
        # sgd: moves along a line to `momentum_final` over this fraction of all steps; 0: never
        "momentum_fraction": 0.0,
        "momentum_final": 0.9,
        "nesterov": False,  # sgd
        "b1": 0.9,  # adam
        "b2": 0.999,  # adam
        "eps": 1e-8,  # adam
        "weight_decay": 0.0,  # kernels only; added to the gradient (sgd) or decoupled (adam)
        "clip_norm": 0.0,  # global norm of the gradient; 0 for none
        # ((pattern of the parameter's path, factor of the learning rate), ...); 0 freezes
        "groups": (),
        # ((pattern of a kernel's path, bound), ...): after every step the weights into each unit
        # are scaled back to this Euclidean norm; units are counted along the last axis
        "max_norm": (),
    },
    "schedule": {
        "name": "constant",  # constant | cosine | triangular | exponential | stepwise | plateau
        "value": 0.1,  # the peak learning rate
        "warmup_fraction": 0.0,  # of all steps, rising linearly from 0
        # cosine, triangular, exponential: where it ends, as a fraction of `value`
        "final_fraction": 0.0,
        "boundaries": (0.5, 0.75),  # stepwise: fractions of all steps
        "factor": 0.1,  # stepwise, plateau: what the rate is multiplied by
        "patience": 5,  # plateau: evaluations without a gain before a drop
        "min_scale": 1e-3,  # plateau: no drop below this fraction of `value`
    },
    "ema_decay": 0.0,  # of an average of the weights that is evaluated instead of them; 0: none
    "precision": "float32",  # float32 | bfloat16 (f32 parameters) | float64
    "init_from": "",  # a workdir, or a weight file .npz: where weights start from
    "init_include": (".*",),  # patterns of the paths of parameters that are taken from there
    "parallelism": "jit",  # jit on a mesh | pmap
    "mesh": {"data": -1, "fsdp": 1},  # devices an axis; -1: all that are left
    "log_every": 50,  # steps
    "evaluate_every": 0,  # steps; 0: once an epoch
    "checkpoint_every": 0,  # steps between further checkpoints; 0: only at evaluations
    "keep_latest": 2,
    "keep_best": 1,
    "best_metric": "error",
    "best_mode": "min",  # min | max
    "writers": (),  # besides metrics.jsonl: "tensorboard", "wandb"
    "xla_flags": (),  # e.g. ("xla_cpu_experimental_ynn_fusion_type=-individual_convolution",)
    "extra": {},  # a fork's own settings; nothing here reads them
}

CHOICES = {
    "data.residency": ("stream", "memory", "device"),
    "optimizer.name": ("sgd", "adam"),
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
    "best_mode": ("min", "max"),
}

_MANY = 10**9
# Key -> (lowest, highest, whether the highest is allowed).
RANGES: dict[str, tuple[float, float, bool]] = {
    "seed": (0, 2**63, False),
    "batch_size": (1, _MANY, True),
    "evaluation_batch_size": (1, _MANY, True),
    "log_every": (1, _MANY, True),
    "keep_latest": (1, _MANY, True),
    "keep_best": (0, _MANY, True),
    "evaluate_every": (0, _MANY, True),
    "checkpoint_every": (0, _MANY, True),
    "epochs": (0, _MANY, True),
    "steps": (0, _MANY, True),
    "ema_decay": (0, 1, False),
    "data.prefetch": (0, 1000, True),
    "data.workers": (1, 1000, True),
    "optimizer.momentum": (0, 1, False),
    "optimizer.momentum_fraction": (0, 1, True),
    "optimizer.momentum_final": (0, 1, False),
    "optimizer.b1": (0, 1, False),
    "optimizer.b2": (0, 1, False),
    "optimizer.weight_decay": (0, _MANY, True),
    "optimizer.clip_norm": (0, _MANY, True),
    "schedule.value": (0, _MANY, True),
    "schedule.warmup_fraction": (0, 1, False),
    "schedule.final_fraction": (0, 1, True),
    "schedule.patience": (1, _MANY, True),
    "schedule.min_scale": (0, 1, True),
}

# Keys that evaluation may change: what is evaluated, and on which views of it.
EVALUATION_KEYS = ("data.name", "data.train", "data.validation", "data.test", "data.evaluate")

# What can be written besides metrics.jsonl; `rcnn_jax.training.writers` knows how.
WRITERS = ("tensorboard", "wandb")

# Keys that say how a run is carried out and not what is computed: a run may go on with others.
RUNTIME_KEYS = (
    "parallelism", "mesh", "log_every", "checkpoint_every", "keep_latest", "keep_best",
    "data.residency", "data.prefetch", "data.workers", "evaluation_batch_size", "writers",
    "xla_flags",
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
        if value not in allowed:
            raise UsageError(f"{origin}: config.{key}={value!r}: {nearest(value, allowed)}.")
    for name in config.writers:
        if name not in WRITERS:
            raise UsageError(f"{origin}: config.writers: {name!r}: {nearest(name, WRITERS)}.")
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
            allowed = f"at least {low}" if high == _MANY else interval
            raise UsageError(f"{origin}: config.{key}={value} must be {allowed}.")
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
