r"""Which coloured shapes a picture shows: the pretraining of the CNN of `caption_shapes`.

    python -m rcnn_jax.train --config=configs/shapes_objects.py --workdir=runs/objects
    python -m rcnn_jax.evaluate --workdir=runs/objects
    python -m rcnn_jax.train --config=configs/caption_shapes.py:pretrained --workdir=runs/shapes \
        --config.init_from=runs/objects

The task has the role that ImageNet has for captions of photographs. It has 341 labels: objects by
size, colour and shape or by some of these, and groups of at least two or three alike. Some labels
never hold in training, because six pairs of colour and shape are held out; see
`rcnn_jax/data/datasets/shapes/kinds.py`.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the experiment as changes of `rcnn_jax.configuration.schema.DEFAULTS`."""
    config = ConfigDict()
    config.model = {"name": "rcnn_jax.models.grid_net:GridNet", "classes": 341}
    config.task = {"name": "rcnn_jax.tasks.multilabel:MultiLabel", "label": "present"}
    config.data = {
        "name": "shapes_world_large",
        "features": ("image", "present"),
        "residency": "device",
        "preprocess": "to_float(255)",
    }
    config.batch_size = 64
    config.epochs = 5.0
    config.optimizer = {"name": "adam", "clip_norm": 5.0}
    config.schedule = {"name": "cosine", "value": 2e-3, "warmup_fraction": 0.05}
    config.best_metric = "loss"
    config.xla_flags = ("xla_cpu_experimental_ynn_fusion_type=-individual_convolution",)
    return config


VARIANTS = {"short": {"epochs": 1.0}, "rcl": {"model.steps": 2}}
