"""Captions of coloured shapes: a CNN and the multimodal recurrent network, trained together.

    python -m rcnn_jax.train --config=configs/caption_shapes.py --workdir=runs/shapes
    python -m rcnn_jax.evaluate --workdir=runs/shapes
    python -m rcnn_jax.predict --workdir=runs/shapes --n_best=3 picture.png

No files are needed: 60,000 scenes are generated. The CNN starts from random weights and learns from
the sentences alone; how fast depends on how directly it is connected to them, so that a GRU reads
the picture at every step. `:pretrained` starts from a CNN that knows the shapes, which
`shapes_objects` trains, just as the paper's CNN knows the classes of ImageNet, and trains it
further at a tenth of the learning rate. `:paper` is the paper's form with relu units that read the
picture only at the first step; it can be combined with either. `:lstm` changes the recurrent layer,
`:rcl` replaces the convolutions by RCLs.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the experiment as changes of `rcnn_jax.configuration.schema.DEFAULTS`."""
    config = ConfigDict()
    config.model = {
        "name": "rcnn_jax.models.captioner:Captioner",
        "backbone": {"name": "rcnn_jax.models.grid_net:GridNet"},
        "cell": "gru",
        "cell_options": {},
        "image": "every",
        "features": 128,
        "hidden": 512,
        "dropout": 0.0,
        "output_dropout": 0.0,
    }
    config.task = {
        "name": "rcnn_jax.tasks.captioning:Captioning",
        "sentences": "all",
        "judge": "rcnn_jax.data.datasets.shapes.judge:judge",
    }
    config.encoder = {
        "name": "rcnn_jax.data.encoders.captions:Captions",
        "min_count": 1,
        "most_steps": 24,
    }
    config.data = {
        "name": "shapes_world_large",
        "residency": "device",
        "preprocess": "to_float(255)",
    }
    config.batch_size = 32
    config.epochs = 5.0
    config.optimizer = {"name": "adam", "clip_norm": 5.0}
    config.schedule = {"name": "cosine", "value": 2e-3, "warmup_fraction": 0.05}
    # The loss measures all possible sentences; what is written are the most probable ones.
    config.best_metric, config.best_mode = "all_true", "max"
    config.xla_flags = ("xla_cpu_experimental_ynn_fusion_type=-individual_convolution",)
    return config


VARIANTS = {
    "paper": {
        "model.cell": "elman",
        "model.cell_options": {"activation": "relu"},
        "model.image": "first",
    },
    # The pretrained CNN's outputs are large (a mean square of 18) and would saturate the gates.
    "pretrained": {
        "init_into": "cnn",
        "model.normalize_image": True,
        "optimizer.groups": (("cnn/.*", 0.1),),
    },
    "lstm": {"model.cell": "lstm"},
    "rcl": {"model.backbone.steps": 2},
    "short": {"epochs": 1.0},
}
