"""RCNN-32 and its controls on CIFAR-10 without augmentation: the effect of recurrence.

    python -m rcnn_jax.sweep --config=configs/control_grid.py --workdir=runs/control \
        --variants=rcnn_1,rcnn_3,recursive_1,recursive_3,feedforward_1,feedforward_3,wcnn \
        --splits=train,validation --step=latest --data_dir=DATA

This is the paper's comparison at a third of its width. All variants have the same first layer,
pooling, LRN, dropout and softmax. They differ in the four upper layers, which iterate (`rcnn`),
iterate without their input (`recursive`, rCNN), or are replaced by that many convolutional layers
in a row (`feedforward`) or by a single wider one each (`wcnn`, about as many parameters). `_1` and
`_3` are the numbers of iterations. Kernels start with variance 1 / fan-in in RCNN, whose states are
sums of two convolutions, and with 2 / fan-in in its controls, whose states are not.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns RCNN-32 with three iterations, trained for 15 epochs."""
    config = ConfigDict()
    config.model = {
        "name": "rcnn_jax.models.rcnn:RCNN",
        "classes": 10,
        "features": 32,
        "steps": 3,
        "norm": "lrn",
        "dropout": 0.2,
        "kernel_init": "lecun",
        "recurrent_init": "lecun",
    }
    config.data = {
        "name": "cifar10",
        "train": "train[:40000]",
        "validation": "train[40000:]",
        "test": "test",
        "residency": "device",
        "preprocess": "to_float(255)|subtract_pixel_mean",
    }
    config.batch_size = 64
    config.epochs = 15.0
    config.optimizer = {"weight_decay": 1e-4}
    config.schedule = {"name": "cosine", "value": 0.02, "warmup_fraction": 0.05}
    config.xla_flags = ("xla_cpu_experimental_ynn_fusion_type=-individual_convolution",)
    return config


_RECURSIVE = "rcnn_jax.models.rcnn:recursive_rcnn"
_FEEDFORWARD = "rcnn_jax.models.rcnn:depth_matched_cnn"
_WCNN = "rcnn_jax.models.rcnn:wcnn"

_PLAIN = {"model.kernel_init": "he", "model.recurrent_init": "he"}

VARIANTS = {
    "rcnn_1": {"model.steps": 1},
    "rcnn_3": {"model.steps": 3},
    "recursive_1": {"model.name": _RECURSIVE, "model.steps": 1, **_PLAIN},
    "recursive_3": {"model.name": _RECURSIVE, "model.steps": 3, **_PLAIN},
    "feedforward_1": {"model.name": _FEEDFORWARD, "model.steps": 1, **_PLAIN},
    "feedforward_3": {"model.name": _FEEDFORWARD, "model.steps": 3, **_PLAIN},
    # 76,960 parameters, while RCNN-32 has 76,618; the LRN window is that of RCNN-32.
    "wcnn": {
        "model.name": _WCNN,
        "model.steps": 0,
        "model.features": 45,
        "model.lrn_size": 5,
        **_PLAIN,
    },
    "batch_norm": {"model.norm": "batch"},
}
