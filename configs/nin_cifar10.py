"""Network in network on CIFAR-10.

    python -m rcnn_jax.train --config=configs/nin_cifar10.py --workdir=runs/nin \
        --data_dir=FOLDER_ABOVE_cifar-10-batches-bin
    python -m rcnn_jax.evaluate --workdir=runs/nin

No accuracy is claimed: this recipe has not been trained to its end here. The published errors are
10.41 % without augmentation and 8.81 % with it (Lin, Chen & Yan 2014).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the published network; `:released_code` has the pools of the released model."""
    config = ConfigDict()
    config.model = {"name": "rcnn_jax.models.nin:NIN", "classes": 10, "dropout": 0.5}
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
    config.optimizer = {"weight_decay": 1e-4}
    config.schedule = {"name": "triangular", "value": 0.02, "warmup_fraction": 0.05}
    return config


VARIANTS = {
    # 200 steps without whitening, to check that the network learns from photographs: three minutes
    # on two cores.
    "short": {
        "epochs": 0.0,
        "steps": 200,
        "batch_size": 32,
        "data.validation": "train[40000:41000]",
        "data.preprocess": "to_float(255)|standardize",
    },
    "released_code": {"model.pools": ("max", "average"), "model.last_relu": True},
    # Shifts and flips, as for the published result with augmentation.
    "augmented": {"data.augment": "pad_crop(4, 'zeros')|flip"},
    # Trains on all 50,000 training images after the recipe has been selected.
    "retrain": {"data.train": "train", "data.validation": ""},
}
