"""Slot filling on generated booking sentences: a bidirectional LSTM tags each word.

python -m rcnn_jax.train --config=configs/tagger_bookings.py --workdir=runs/bookings
python -m rcnn_jax.evaluate --workdir=runs/bookings
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the experiment as changes of `rcnn_jax.configuration.schema.DEFAULTS`."""
    config = ConfigDict()
    config.model = {
        "name": "rcnn_jax.models.tagger:Tagger",
        "window": 3,
        "features": 50,
        "cell": "lstm",
        "hidden": 64,
        "direction": "bidirectional",
        "dropout": 0.3,
        "word_dropout": 0.05,
    }
    config.task = {"name": "rcnn_jax.tasks.tagging:Tagging"}
    config.encoder = {"name": "rcnn_jax.data.encoders.word_tags:WordTags", "zero_digits": True}
    config.data = {"name": "bookings", "residency": "device"}
    config.batch_size = 32
    config.epochs = 6.0
    config.optimizer = {"name": "adam", "clip_norm": 5.0}
    config.schedule = {"name": "cosine", "value": 3e-3}
    config.best_metric = "f1"
    config.best_mode = "max"
    return config


VARIANTS = {
    # The two networks of Mesnil et al. (Interspeech 2013).
    "elman": {"model.cell": "elman", "model.direction": "forward", "model.window": 7},
    "jordan": {"model.cell": "jordan", "model.direction": "forward", "model.window": 7},
    # Other encodings of a word.
    "one_hot": {"encoder.encoding": "one_hot"},
    "one_hot_other": {"encoder.encoding": "one_hot_other"},
    "trigrams": {"encoder.encoding": "trigrams"},
}
