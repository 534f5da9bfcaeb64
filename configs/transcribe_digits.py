"""Transcription of lines of handwritten digits: convolutions, bidirectional LSTMs, CTC.

    python -m rcnn_jax.train --config=configs/transcribe_digits.py --workdir=runs/lines
    python -m rcnn_jax.evaluate --workdir=runs/lines
    python -m rcnn_jax.predict --workdir=runs/lines line.png

Without files the network reads lines composed of scikit-learn's digits, of which the last 360 occur
only in the test lines, and the test lines contain no others; `:mnist` reads lines of MNIST's digits
and needs --data_dir=DATA. Lines of your own are read with --config.data.name=lines:FOLDER; see
rcnn_jax/data/datasets/lines/own_files.py.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the experiment as changes of `rcnn_jax.configuration.schema.DEFAULTS`."""
    config = ConfigDict()
    config.model = {
        "name": "rcnn_jax.models.transcriber:Transcriber",
        "front_end": "conv",
        "features": (32, 64, 64),
        "pools": ((2, 2), (2, 1), (2, 1)),
        "hidden": 96,
        "layers": 1,
        "dropout": 0.3,
    }
    config.task = {"name": "rcnn_jax.tasks.transcription:Transcription", "inputs": "image"}
    config.encoder = {"name": "rcnn_jax.data.encoders.transcripts:Transcripts"}
    # Half of the lines are at most 56 columns wide, and the widest has 96.
    config.sampler = {
        "name": "rcnn_jax.data.buckets:Buckets",
        "features": ("image",),
        "axes": (1,),
        "edges": (48, 64, 80),
    }
    config.data = {"name": "digit_lines", "residency": "device", "preprocess": "to_float(255)"}
    config.batch_size = 32
    config.epochs = 6.0
    config.optimizer = {"name": "adam", "clip_norm": 5.0}
    config.schedule = {"name": "cosine", "value": 3e-3, "warmup_fraction": 0.05}
    config.best_metric = "cer"
    return config


VARIANTS = {
    "mnist": {
        "data.name": "mnist_lines",
        "model.features": (32, 64, 128),
        "model.pools": ((2, 2), (2, 2), (2, 1)),
        "model.hidden": 128,
        "sampler.edges": (128, 160, 192),
        "data.augment": "random_affine(2.0, 0.1, 2.0)",
        "epochs": 10.0,
        "schedule.value": 2e-3,
    },
    # Other front ends; to combine one with `mnist`, name it after `mnist`.
    "rcl": {"model.front_end": "rcl"},
    "grcnn": {
        "model.front_end": "grcnn",
        "model.features": (32, 32, 64, 64, 128),
        "model.pools": ((2, 2), (2, 1), (2, 1), (2, 1)),
    },
}
