"""Copy memory: ten symbols, repeated in their order 50 steps after the last one was read.

    python -m rcnn_jax.train --config=configs/copy_memory.py --workdir=runs/copy
    python -m rcnn_jax.evaluate --workdir=runs/copy

A model without memory outputs blank where blanks are due and guesses among 8 symbols elsewhere: a
loss of 10 ln 8 / (lag + 20) a step, which is 0.297 here, and a `recall_error` of 87.5 %. `:lag_100`
(0.173) and `:lag_200` (0.095) have longer delays.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the experiment as changes of `rcnn_jax.configuration.schema.DEFAULTS`."""
    config = ConfigDict()
    config.model = {
        "name": "rcnn_jax.models.tagger:Tagger",
        "classes": 9,  # the symbols and the blank
        "vocabulary": 10,  # and the signal to start the output
        "encoding": "one_hot",
        "features": 32,
        "cell": "lstm",
        "hidden": 128,
    }
    config.task = {"name": "rcnn_jax.tasks.labelling:SequenceLabelling", "blank": 8}
    config.data = {"name": "rcnn_jax.data.datasets.series.lags:COPY_50", "residency": "device"}
    config.batch_size = 64
    config.steps = 6000
    config.optimizer = {"name": "adam", "clip_norm": 1.0}
    config.schedule = {"name": "cosine", "value": 3e-3}
    config.log_every = 100
    config.evaluate_every = 1000
    config.best_metric = "loss"
    return config


VARIANTS = {
    "lag_100": {"data.name": "rcnn_jax.data.datasets.series.lags:COPY_100"},
    "lag_200": {"data.name": "rcnn_jax.data.datasets.series.lags:COPY_200"},
    "elman": {"model.cell": "elman"},
    "gru": {"model.cell": "gru"},
}
