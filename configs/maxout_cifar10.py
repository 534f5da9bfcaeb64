"""Maxout networks on CIFAR-10, plain and probabilistic.

    python -m rcnn_jax.train --config=configs/maxout_cifar10.py --workdir=runs/maxout \
        --data_dir=FOLDER_ABOVE_cifar-10-batches-bin
    python -m rcnn_jax.evaluate --workdir=runs/maxout

No accuracy is claimed: this recipe has not been trained to its end here. The published errors
without augmentation are 11.68 % (Goodfellow et al. 2013) and, probabilistic, 11.35 % (Springenberg
& Riedmiller 2013).
"""

from ml_collections import ConfigDict

# Largest norm of the weights of each piece of a unit, in the code released with the paper.
_MAX_NORMS = (
    ("conv1/kernel", 0.9),
    ("conv[23]/kernel", 1.9365),
    ("dense/kernel", 1.9),
    ("head/kernel", 1.9365),
)


def get_config() -> ConfigDict:
    """Returns the published network with a recipe of this project.

    The variant `:released_code` is closer to the published recipe.
    """
    config = ConfigDict()
    config.model = {
        "name": "rcnn_jax.models.maxout:MaxoutNet",
        "classes": 10,
        "features": (96, 192, 192),
        "hidden": 500,
        "input_dropout": 0.2,
        "dropout": 0.5,
        "probabilistic": False,
        # Weights of variance 1 / fan-in are too large here: each unit is the maximum of up to 32
        # responses, activations grow from layer to layer, and training diverges.
        "init_range": 0.01,
    }
    config.data = {
        "name": "cifar10",
        "train": "train[:40000]",
        "validation": "train[40000:]",
        "test": "test",
        "residency": "device",
        "preprocess": "gcn_zca",
    }
    config.batch_size = 128
    config.epochs = 100.0
    config.optimizer = {"max_norm": _MAX_NORMS}
    config.schedule = {"name": "triangular", "value": 0.03, "warmup_fraction": 0.05}
    return config


VARIANTS = {
    # 200 steps of a narrow network without whitening, to check that it learns from photographs:
    # one to two minutes on two cores. `--config.model.probabilistic=True` selects the other one.
    "short": {
        "epochs": 0.0,
        "steps": 200,
        "batch_size": 32,
        "data.validation": "train[40000:41000]",
        "model.features": (32, 64, 64),
        "model.hidden": 100,
        "model.init_range": 0.03,
        "model.input_dropout": 0.0,
        "model.dropout": 0.2,
        "data.preprocess": "to_float(255)|standardize",
    },
    # Pieces are sampled in training and averaged at test; add `--call=tests=50` to `evaluate` for
    # the average of 50 sampled passes.
    "probabilistic": {"model.probabilistic": True},
    # The released recipe with augmentation (`cifar10.yaml`). Its learning rate falls linearly to
    # 1 % at epoch 500 and its momentum rises until epoch 250; both change once an epoch there and
    # at every step here.
    "released_code": {
        "model.init_range": 0.005,
        "model.rescale_input": False,
        "data.augment": "pad_crop(8, 'zeros')|flip",
        "optimizer.momentum": 0.5,
        "optimizer.momentum_final": 0.65,
        "optimizer.momentum_fraction": 250 / 474,
        "optimizer.groups": (("conv.*", 0.05),),
        "schedule.value": 0.17,
        "schedule.warmup_fraction": 0.0,
        "schedule.final_fraction": 1 - 0.99 * 474 / 500,
        "epochs": 474.0,
    },
    # Shifts and flips, as for the published results with augmentation.
    "augmented": {"data.augment": "pad_crop(8, 'zeros')|flip"},
    # Trains on all 50,000 training images after the recipe has been selected.
    "retrain": {"data.train": "train", "data.validation": ""},
}
