r"""Transcription of spoken digit strings: log-mel frames, bidirectional LSTMs, CTC.

    python -m rcnn_jax.train --config=configs/transcribe_speech.py --workdir=runs/speech \
        --data_dir=DATA
    python -m rcnn_jax.evaluate --workdir=runs/speech --data_dir=DATA
    python -m rcnn_jax.predict --workdir=runs/speech recording.wav

DATA/fsdd/recordings holds the wav files of the Free Spoken Digit Dataset; computing frames needs
the extra `audio`. Recordings of your own are read with --config.data.name=recordings:FOLDER.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the experiment as changes of `rcnn_jax.configuration.schema.DEFAULTS`."""
    config = ConfigDict()
    config.model = {
        "name": "rcnn_jax.models.transcriber:Transcriber",
        "front_end": "none",
        "stack": 5,
        "stride": 3,
        "hidden": 128,
        "layers": 2,
        "dropout": 0.4,
    }
    config.task = {"name": "rcnn_jax.tasks.transcription:Transcription", "inputs": "frames"}
    config.encoder = {"name": "rcnn_jax.data.encoders.transcripts:Transcripts"}
    # Half of the strings are at most 168 frames long, and the longest has 502.
    config.sampler = {
        "name": "rcnn_jax.data.buckets:Buckets",
        "features": ("frames",),
        "edges": (100, 200, 300),
    }
    config.data = {"name": "spoken_digits", "residency": "device"}
    config.batch_size = 32
    config.epochs = 15.0
    config.optimizer = {"name": "adam", "clip_norm": 5.0}
    config.schedule = {"name": "cosine", "value": 2e-3, "warmup_fraction": 0.05}
    config.best_metric = "wer"
    return config


_FRONT_END = {
    "model.stack": 1,
    "model.stride": 1,
    "model.features": (32, 32, 64),
    "model.pools": ((2, 2), (2, 2), (2, 1)),
}

VARIANTS = {
    "conv": _FRONT_END | {"model.front_end": "conv"},
    "rcl": _FRONT_END | {"model.front_end": "rcl"},
    "grcnn": _FRONT_END
    | {
        "model.front_end": "grcnn",
        "model.features": (32, 32, 64, 64, 128),
        "model.pools": ((2, 2), (2, 2), (2, 1), (2, 1)),
    },
}
