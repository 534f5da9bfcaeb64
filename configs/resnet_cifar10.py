"""ResNet-20, 32, 44, 56 and 110 on CIFAR-10.

    python -m rcnn_jax.train --config=configs/resnet_cifar10.py --workdir=runs/resnet20 \
        --data_dir=FOLDER_ABOVE_cifar-10-batches-bin
    python -m rcnn_jax.train --config=configs/resnet_cifar10.py:110 --workdir=runs/resnet110 \
        --data_dir=FOLDER_ABOVE_cifar-10-batches-bin
    python -m rcnn_jax.evaluate --workdir=runs/resnet20

No accuracy is claimed: this recipe has not been trained to its end here. The published error of
ResNet-110 is 6.43 % (He et al. 2016).
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns ResNet-20 with the paper's recipe.

    It is trained for 64,000 steps, and the learning rate is divided by ten at 32k and 48k.
    """
    config = ConfigDict()
    config.model = {"name": "rcnn_jax.models.resnet:ResNet", "classes": 10, "depth": 20}
    config.data = {
        "name": "cifar10",
        "train": "train[:45000]",
        "validation": "train[45000:]",
        "test": "test",
        "residency": "device",
        "preprocess": "to_float(255)|subtract_pixel_mean",
        "augment": "pad_crop(4, 'zeros')|flip",
    }
    config.batch_size = 128
    config.steps = 64_000
    config.optimizer = {"weight_decay": 1e-4}
    config.schedule = {"name": "stepwise", "value": 0.1, "boundaries": (0.5, 0.75)}
    return config


VARIANTS = {
    # 200 steps, to check that the network learns from photographs: a minute on two cores.
    "short": {
        "steps": 200,
        "batch_size": 32,
        "schedule.value": 0.05,
        "data.validation": "train[45000:46000]",
    },
    "32": {"model.depth": 32},
    "44": {"model.depth": 44},
    "56": {"model.depth": 56},
    # The learning rate warms up for 400 steps; otherwise the deep network does not start to learn.
    "110": {"model.depth": 110, "schedule.warmup_fraction": 0.00625},
    # Trains on all 50,000 training images after the recipe has been selected.
    "retrain": {"data.train": "train", "data.validation": ""},
}
