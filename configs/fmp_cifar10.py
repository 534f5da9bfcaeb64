"""Fractional max-pooling on CIFAR-10.

    python -m rcnn_jax.train --config=configs/fmp_cifar10.py --workdir=runs/fmp \
        --data_dir=FOLDER_ABOVE_cifar-10-batches-bin
    python -m rcnn_jax.evaluate --workdir=runs/fmp --call=tests=12

No accuracy is claimed: this recipe has not been trained to its end here. The published error is
3.47 % with 100 tests, which are draws of pooling regions that an evaluation averages (Graham 2014).
The full network on its dense 94x94 field needs large accelerators; the released code skips the
zeros around the image, this implementation computes them. `:small` is a network for a single GPU.
"""

import math

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the large network, (160nC2-FMP 2^(1/3))x12-C2-C1."""
    config = ConfigDict()
    config.model = {
        "name": "rcnn_jax.models.fractional_max_pooling:FractionalMaxPoolingNet",
        "classes": 10,
        "features": 160,
        "layers": 12,
        "ratio": 2 ** (1 / 3),
        "generator": "pseudorandom",
        "overlapping": True,
        "dropout": 0.5,
    }
    config.data = {
        "name": "cifar10",
        "train": "train[:40000]",
        "validation": "train[40000:]",
        "test": "test",
        "residency": "device",
        # The field around an image is zero, which is the value of the mean image.
        "preprocess": "to_float(255)|subtract_pixel_mean",
        "augment": "random_affine(11, 0.2, 4)|flip",
    }
    config.batch_size = 50
    config.evaluation_batch_size = 50
    config.epochs = 250.0
    # As in the released code: Nesterov momentum 0.99, and a learning rate that falls by half a
    # percent an epoch. Its 0.003 applies to gradients summed over 50 images times 1 - 0.99.
    config.optimizer = {"momentum": 0.99, "nesterov": True}
    config.schedule = {
        "name": "exponential",
        "value": 0.003 * 50 * (1 - 0.99),
        "final_fraction": math.exp(-0.005 * 250),
    }
    return config


_SMALL = {
    "model.features": 32,
    "model.layers": 6,
    "model.ratio": 2**0.5,
    "model.dropout": 0.2,
    "optimizer.momentum": 0.9,
    "optimizer.nesterov": False,
    "schedule.name": "cosine",
    "schedule.final_fraction": 0.0,
    "schedule.value": 0.01,
}
VARIANTS = {
    # (32nC2-FMP sqrt 2)x6-C2-C1 on a field of 36x36.
    "small": _SMALL,
    # 200 steps of a narrower network, to check that it learns from photographs: half a minute on
    # two cores.
    "short": {
        **_SMALL,
        "epochs": 0.0,
        "steps": 200,
        "batch_size": 32,
        "data.validation": "train[40000:41000]",
        "model.features": 16,
        "model.dropout": 0.0,
        "data.augment": "",
    },
    "random": {"model.generator": "random"},
    "disjoint": {"model.overlapping": False},
    # Trains on all 50,000 training images after the recipe has been selected.
    "retrain": {"data.train": "train", "data.validation": ""},
}
