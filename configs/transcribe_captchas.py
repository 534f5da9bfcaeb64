"""Transcription of captchas of four letters and digits: RCLs, bidirectional LSTMs, CTC.

    python -m rcnn_jax.train --config=configs/transcribe_captchas.py --workdir=runs/captchas \
        --data_dir=DATA
    python -m rcnn_jax.evaluate --workdir=runs/captchas --data_dir=DATA

DATA/captcha_misads holds train.zip, as misads/captcha_recog distributes it. Its pictures are
divided into 2,317 for training, 200 for validation and 600 for the test.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the experiment as changes of `rcnn_jax.configuration.schema.DEFAULTS`."""
    config = ConfigDict()
    config.model = {
        "name": "rcnn_jax.models.transcriber:Transcriber",
        "front_end": "rcl",
        "features": (32, 64, 64),
        "pools": ((2, 2), (2, 1), (2, 1)),
        "hidden": 96,
        "layers": 1,
        "dropout": 0.4,
    }
    config.task = {"name": "rcnn_jax.tasks.transcription:Transcription", "inputs": "image"}
    config.encoder = {"name": "rcnn_jax.data.encoders.transcripts:Transcripts"}
    config.data = {
        "name": "captchas",
        "residency": "device",
        "preprocess": "to_float(255)",
        "augment": "random_affine(4.0, 0.05, 2.0)",
    }
    config.batch_size = 32
    config.epochs = 40.0
    config.optimizer = {"name": "adam", "clip_norm": 5.0}
    config.schedule = {"name": "cosine", "value": 3e-3, "warmup_fraction": 0.05}
    config.evaluate_every = 200
    config.best_metric = "cer"
    return config


VARIANTS = {
    "conv": {"model.front_end": "conv"},
    "grcnn": {
        "model.front_end": "grcnn",
        "model.features": (32, 32, 64, 64, 128),
        "model.pools": ((2, 2), (2, 1), (2, 1), (2, 1)),
    },
}
