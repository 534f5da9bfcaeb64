"""The adding problem: the sum of two marked numbers, predicted after the last of 50 steps.

    python -m rcnn_jax.train --config=configs/adding.py --workdir=runs/adding
    python -m rcnn_jax.evaluate --workdir=runs/adding

A model that always answers 1 has a mean squared error of 0.1667. `:steps_200` is the longer
problem.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the experiment as changes of `rcnn_jax.configuration.schema.DEFAULTS`."""
    config = ConfigDict()
    config.model = {
        "name": "rcnn_jax.models.sequence_classifier:SequenceClassifier",
        "classes": 1,
        "cell": "lstm",
        "hidden": 64,
    }
    config.task = {"name": "rcnn_jax.tasks.regression:Regression"}
    config.data = {"name": "rcnn_jax.data.datasets.series.lags:ADDING_50", "residency": "memory"}
    config.batch_size = 50
    config.steps = 3000
    config.optimizer = {"name": "adam", "clip_norm": 1.0}
    config.schedule = {"name": "cosine", "value": 3e-3}
    config.log_every = 100
    config.evaluate_every = 500
    config.best_metric = "mse"
    return config


VARIANTS = {
    "steps_200": {"data.name": "rcnn_jax.data.datasets.series.lags:ADDING_200", "steps": 10_000},
    "steps_400": {"data.name": "rcnn_jax.data.datasets.series.lags:ADDING_400", "steps": 20_000},
    "elman": {"model.cell": "elman"},
    "gru": {"model.cell": "gru"},
}
