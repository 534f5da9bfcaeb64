"""RCNN-96 on CIFAR-10, from its original binary files below the data folder.

    python -m rcnn_jax.train --config=configs/rcnn_cifar10.py --workdir=runs/cifar10 \
        --data_dir=FOLDER_ABOVE_cifar-10-batches-bin
    python -m rcnn_jax.evaluate --workdir=runs/cifar10

Checkpoints are selected on the last 10,000 training images, as in the paper; `:retrain` then trains
on all 50,000.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns a recipe with batch normalisation per step and a short schedule.

    The variant `:paper` is the paper's recipe.
    """
    config = ConfigDict()
    config.model = {
        "name": "rcnn_jax.models.rcnn:RCNN",
        "classes": 10,
        "features": 96,
        "steps": 3,
        "norm": "batch",
        "dropout": 0.1,
    }
    config.data = {
        "name": "cifar10",
        "train": "train[:40000]",
        "validation": "train[40000:]",
        "test": "test",
        "residency": "device",
        "preprocess": "to_float(255)|subtract_pixel_mean",
        "augment": "random_crop(24)|flip",
        "evaluate": "nine_crop(24, 4)",
    }
    config.task = {
        "name": "rcnn_jax.tasks.classification:Classification",
        "label_smoothing": 0.1,
    }
    config.batch_size = 128
    config.epochs = 8.0
    config.optimizer = {"nesterov": True, "weight_decay": 5e-4}
    config.schedule = {"name": "triangular", "value": 0.1, "warmup_fraction": 0.2}
    config.xla_flags = ("xla_cpu_experimental_ynn_fusion_type=-individual_convolution",)
    return config


VARIANTS = {
    # 200 steps, to check that the network learns from photographs: a few minutes on two cores.
    "short": {"epochs": 0.0, "steps": 200, "data.evaluate": "center_crop(24)"},
    # The paper's recipe: LRN, dropout, plain SGD, the learning rate divided by ten whenever the
    # validation error stalls. The paper states neither learning rate nor weight decay nor dropout
    # rate; these are chosen by this project.
    "paper": {
        "model.norm": "lrn",
        "model.dropout": 0.5,
        "task.label_smoothing": 0.0,
        "optimizer.nesterov": False,
        "optimizer.weight_decay": 1e-4,
        "schedule.name": "plateau",
        "schedule.value": 0.01,
        "schedule.warmup_fraction": 0.0,
        "batch_size": 64,
        "epochs": 60.0,
    },
    # Options that may speed up training, which can be combined, as in `:whitened,ema`.
    "whitened": {
        "init_fit.name": "rcnn_jax.layers.whitening:WhitenedKernel",
        "init_fit.path": "conv/kernel",
    },
    "identity": {"model.recurrent_init": "identity"},
    "ema": {"ema_decay": 0.999},
    "alternating_flip": {
        "data.augment": "random_crop(24)|alternating_flip",
        "sampler.name": "rcnn_jax.data.samplers:ShuffledWithEpochs",
    },
    # Smaller images first: a step costs 0.44 and then 0.69 of a step at 24 pixels.
    "progressive": {
        "data.augment_until": (
            (0.35, "random_crop(24)|resize(16)|flip"),
            (0.7, "random_crop(24)|resize(20)|flip"),
        ),
    },
    # For comparisons: a third of the feature maps, about a ninth of the work of a step, and half
    # the epochs.
    "small": {"model.features": 32, "epochs": 4.0},
    # Trains on all 50,000 training images after the recipe has been selected.
    "retrain": {"data.train": "train", "data.validation": ""},
}
