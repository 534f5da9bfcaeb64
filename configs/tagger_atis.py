"""Slot filling on ATIS or, with `:snips`, on SNIPS: a bidirectional LSTM tags each word.

    python -m rcnn_jax.train --config=configs/tagger_atis.py --workdir=runs/atis --data_dir=DATA
    python -m rcnn_jax.evaluate --workdir=runs/atis --data_dir=DATA

DATA/atis holds the folders train, dev and test, as SlotGated-SLU distributes them; so does
DATA/snips, with valid or dev. The recipes were chosen on the dev split of ATIS.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the experiment as changes of `rcnn_jax.configuration.schema.DEFAULTS`."""
    config = ConfigDict()
    config.model = {
        "name": "rcnn_jax.models.tagger:Tagger",
        "window": 3,
        "features": 100,
        "cell": "lstm",
        "hidden": 150,
        "direction": "bidirectional",
        "dropout": 0.5,
        "word_dropout": 0.05,
    }
    config.task = {"name": "rcnn_jax.tasks.tagging:Tagging"}
    config.encoder = {"name": "rcnn_jax.data.encoders.word_tags:WordTags", "zero_digits": True}
    config.data = {"name": "atis", "residency": "memory"}
    config.batch_size = 16
    config.epochs = 20.0
    config.optimizer = {"name": "adam", "clip_norm": 5.0}
    config.schedule = {"name": "cosine", "value": 2e-3}
    config.ema_decay = 0.998
    config.best_metric = "f1"
    config.best_mode = "max"
    return config


_WINDOW_ALONE = {
    "model.direction": "forward",
    "model.window": 7,
    "model.dropout": 0.3,
    "model.word_dropout": 0.02,
    "epochs": 25.0,
    "ema_decay": 0.0,
}

VARIANTS = {
    "snips": {"data.name": "snips", "epochs": 10.0},
    "elman": _WINDOW_ALONE | {"model.cell": "elman", "model.hidden": 100, "schedule.value": 1e-3},
    "jordan": _WINDOW_ALONE | {"model.cell": "jordan", "model.hidden": 200, "schedule.value": 3e-3},
    "lstm": {"model.direction": "forward", "model.window": 7},
    "gru": {"model.direction": "forward", "model.window": 7, "model.cell": "gru"},
    "blstm": {},
    # Half of the training sentences have at most 11 words, and the longest has 46.
    "buckets": {
        "sampler.name": "rcnn_jax.data.buckets:Buckets",
        "sampler.edges": (10, 15, 20, 30),
    },
    # Other encodings of a word.
    "one_hot": {"encoder.encoding": "one_hot"},
    "one_hot_other": {"encoder.encoding": "one_hot_other"},
    "trigrams": {"encoder.encoding": "trigrams"},
}
