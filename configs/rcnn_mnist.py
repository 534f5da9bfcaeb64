"""RCNN-32 on MNIST from its original idx files, without augmentation as in the paper.

    python -m rcnn_jax.train --config=configs/rcnn_mnist.py --workdir=runs/mnist --data_dir=DATA
    python -m rcnn_jax.evaluate --workdir=runs/mnist

The idx files lie below the data folder. Checkpoints are selected on the last 10,000 training
images; `:retrain` then trains on all 60,000. `:affine` rotates, shifts and scales the digits a
little, which the paper does not.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns a recipe with batch normalisation per step and a short schedule.

    The variant `:paper` has the paper's normalisation.
    """
    config = ConfigDict()
    config.model = {
        "name": "rcnn_jax.models.rcnn:RCNN",
        "classes": 10,
        "features": 32,
        "steps": 3,
        "norm": "batch",
        "dropout": 0.3,
    }
    config.data = {
        "name": "mnist",
        "train": "train[:50000]",
        "validation": "train[50000:]",
        "test": "test",
        "residency": "device",
        "preprocess": "to_float(255)|subtract_pixel_mean",
    }
    config.task = {
        "name": "rcnn_jax.tasks.classification:Classification",
        "label_smoothing": 0.1,
    }
    config.batch_size = 128
    config.epochs = 15.0
    config.optimizer = {"nesterov": True, "weight_decay": 1e-3}
    config.schedule = {"name": "triangular", "value": 0.1, "warmup_fraction": 0.2}
    config.xla_flags = ("xla_cpu_experimental_ynn_fusion_type=-individual_convolution",)
    return config


VARIANTS = {
    "affine": {"data.augment": "random_affine(10, 0.1, 2.0)"},
    # LRN, dropout and plain SGD, the learning rate divided by ten whenever validation stalls.
    "paper": {
        "model.norm": "lrn",
        "model.dropout": 0.5,
        "task.label_smoothing": 0.0,
        "optimizer.nesterov": False,
        "optimizer.weight_decay": 1e-4,
        "schedule.name": "plateau",
        "schedule.value": 0.01,
        "schedule.warmup_fraction": 0.0,
    },
    # Trains on all 60,000 training images after the recipe has been selected.
    "retrain": {"data.train": "train", "data.validation": ""},
}
