"""Sentences about coloured shapes: a CNN and the multimodal recurrent network, trained together.

python -m rcnn_jax.train --config=configs/caption_shapes.py --workdir=runs/shapes
python -m rcnn_jax.evaluate --workdir=runs/shapes
python -m rcnn_jax.predict --workdir=runs/shapes --n_best=3 picture.png

No files are needed: 60,000 scenes are generated. The CNN starts from nothing and learns from the
sentences alone, and how fast depends on how near they are to it: a GRU that reads the picture at
every step. `:pretrained` starts from a CNN that knows the shapes, which `shapes_objects` trains, as
the paper's knows the classes of ImageNet, and lets it learn on at a tenth of the rate. `:paper` is
the paper's form, relu units that read the picture at the first step alone, and goes with either.
`:lstm` changes the recurrent layer, `:rcl` makes RCLs of the convolutions.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The experiment, as changes of `rcnn_jax.configuration.schema.DEFAULTS`."""
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
    # The loss is of all that people might say; the most probable sentences are what is written.
    config.best_metric, config.best_mode = "all_true", "max"
    config.xla_flags = ("xla_cpu_experimental_ynn_fusion_type=-individual_convolution",)
    return config


VARIANTS = {
    "paper": {
        "model.cell": "elman",
        "model.cell_options": {"activation": "relu"},
        "model.image": "first",
    },
    # What the CNN says has grown large there (a mean square of 18), and would shut the gates.
    "pretrained": {
        "init_into": "cnn",
        "model.normalize_image": True,
        "optimizer.groups": (("cnn/.*", 0.1),),
    },
    "lstm": {"model.cell": "lstm"},
    "rcl": {"model.backbone.steps": 2},
    "short": {"epochs": 1.0},
}
