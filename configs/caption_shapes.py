"""Sentences about coloured shapes: a CNN and the multimodal recurrent network, trained together.

python -m rcnn_jax.train --config=configs/caption_shapes.py --workdir=runs/shapes
python -m rcnn_jax.evaluate --workdir=runs/shapes
python -m rcnn_jax.predict --workdir=runs/shapes --n_best=3 picture.png

No files are needed: `shapes_world` is generated. `:lstm` and `:gru` change the recurrent layer,
`:rcl` makes RCLs of the convolutions.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The experiment, as changes of `rcnn_jax.config_schema.DEFAULTS`."""
    config = ConfigDict()
    config.model = {
        "name": "rcnn_jax.models.captioner:Captioner",
        "backbone": {"name": "rcnn_jax.models.grid_net:GridNet"},
        "features": 128,
        "hidden": 256,
        "dropout": 0.1,
        "output_dropout": 0.2,
    }
    config.task = {
        "name": "rcnn_jax.tasks.captioning:Captioning",
        "sentences": "all",
        "judge": "rcnn_jax.data.shapes.judge:judge",
    }
    config.encoder = {"name": "rcnn_jax.data.captions:Captions", "min_count": 1, "most_steps": 24}
    config.data = {
        "name": "shapes_world",
        "residency": "device",
        "preprocess": "to_float(255)",
    }
    config.batch_size = 64
    config.epochs = 20.0
    config.optimizer = {"name": "adam", "clip_norm": 5.0}
    config.schedule = {"name": "cosine", "value": 2e-3, "warmup_fraction": 0.05}
    config.best_metric = "loss"
    return config


VARIANTS = {
    "lstm": {"model.cell": "lstm", "model.cell_options": {}},
    "gru": {"model.cell": "gru", "model.cell_options": {}},
    "rcl": {"model.backbone.steps": 2},
    "short": {"epochs": 1.0},
}
