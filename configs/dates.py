"""Sequence to sequence: written dates, character by character, are converted to ISO 8601.

    python -m rcnn_jax.train --config=configs/dates.py --workdir=runs/dates
    python -m rcnn_jax.evaluate --workdir=runs/dates

`:number_names` generates a sequence from a single vector: the English names of the numbers 0 to 99.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the experiment as changes of `rcnn_jax.configuration.schema.DEFAULTS`."""
    config = ConfigDict()
    config.model = {
        "name": "rcnn_jax.models.encoder_decoder:EncoderDecoder",
        "features": 32,
        "cell": "lstm",
        "hidden": 128,
    }
    config.task = {"name": "rcnn_jax.tasks.sequence_to_sequence:SequenceToSequence"}
    config.encoder = {"name": "rcnn_jax.data.encoders.sequence_pairs:SequencePairs"}
    config.data = {"name": "rcnn_jax.data.datasets.text.dates:DATES", "residency": "device"}
    config.batch_size = 64
    config.steps = 2500
    config.optimizer = {"name": "adam", "clip_norm": 1.0}
    config.schedule = {"name": "cosine", "value": 5e-3}
    config.log_every = 100
    config.evaluate_every = 500
    config.best_metric = "sequence_error"
    return config


VARIANTS = {
    "number_names": {
        "data.name": "rcnn_jax.data.datasets.text.dates:NUMBER_NAMES",
        "batch_size": 50,
        "steps": 600,
        "evaluate_every": 200,
    },
    "gru": {"model.cell": "gru"},
}
