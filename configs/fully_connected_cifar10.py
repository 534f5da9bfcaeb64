"""A fully connected network on CIFAR-10, to measure what convolution adds.

    python -m rcnn_jax.train --config=configs/fully_connected_cifar10.py --workdir=runs/dense \
        --data_dir=FOLDER_ABOVE_cifar-10-batches-bin
    python -m rcnn_jax.evaluate --workdir=runs/dense

No accuracy is claimed: this recipe has not been trained to its end here, and it reproduces no
publication.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns a network with two hidden layers of 1024 rectified units."""
    config = ConfigDict()
    config.model = {
        "name": "rcnn_jax.models.fully_connected:FullyConnected",
        "classes": 10,
        "hidden": (1024, 1024),
        "activation": "relu",
        "pieces": 2,
        "dropout": 0.5,
    }
    config.data = {
        "name": "cifar10",
        "train": "train[:40000]",
        "validation": "train[40000:]",
        "test": "test",
        "residency": "device",
        "preprocess": "to_float(255)|standardize",
    }
    config.batch_size = 128
    config.epochs = 50.0
    config.optimizer = {"weight_decay": 1e-4}
    config.schedule = {"name": "triangular", "value": 0.01, "warmup_fraction": 0.05}
    return config


VARIANTS = {
    # 200 steps, to check that the network learns from photographs: seconds on two cores.
    "short": {
        "epochs": 0.0,
        "steps": 200,
        "batch_size": 32,
        "model.hidden": (256, 256),
        "model.dropout": 0.0,
        "data.validation": "train[40000:41000]",
    },
    "sigmoid": {"model.activation": "sigmoid", "schedule.value": 0.1},
    # Small initial weights and bounded norms, as for Maxout: otherwise the network diverges.
    "maxout": {
        "model.activation": "maxout",
        "model.init_range": 0.01,
        "optimizer.weight_decay": 0.0,
        "optimizer.max_norm": ((".*kernel", 1.9365),),
        "schedule.value": 0.03,
    },
    # Trains on all 50,000 training images after the recipe has been selected.
    "retrain": {"data.train": "train", "data.validation": ""},
}
