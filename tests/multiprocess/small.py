"""What the jobs of several processes train: little to compile, since every process compiles it."""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).parent))  # where normed.py lies


def get_config():
    return {
        "model": {
            "name": "rcnn_jax.models.fully_connected:FullyConnected",
            "classes": 10,
            "hidden": (16,),
            "dropout": 0.3,
        },
        "data": {
            "name": "digits",
            "preprocess": "to_float(16)|subtract_pixel_mean",
            "augment": "random_affine(10.0, 0.1, 1.0)",
            "residency": "memory",
        },
        "batch_size": 16,
        "evaluation_batch_size": 100,  # neither 180 nor 360 is a multiple
        "steps": 8,
        "evaluate_every": 8,
        "checkpoint_every": 2,
        "log_every": 2,
        "ema_decay": 0.9,
        "schedule": {"name": "cosine", "value": 0.1},
        "precision": "float64",
    }


VARIANTS = {
    "normed": {"model": {"name": "normed:Normed", "classes": 10}},
    # Wide enough for compiled kernels, which are for float32.
    "kernels": {
        "model": {
            "name": "rcnn_jax.models.rcnn:RCNN",
            "classes": 10,
            "features": 32,
            "steps": 1,
            "norm": "batch",
            "first_kernel_size": (3, 3),
            "pool_strides": (1, 2),
        },
        "data.augment": "",
        "precision": "float32",
    },
}
