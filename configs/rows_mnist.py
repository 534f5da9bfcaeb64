r"""Images read row by row: a bidirectional LSTM classifies digits after the last row.

    python -m rcnn_jax.train --config=configs/rows_mnist.py --workdir=runs/rows
    python -m rcnn_jax.train --config=configs/rows_mnist.py:mnist --workdir=runs/rows \
        --data_dir=DATA

Without files the network reads the 8 rows of scikit-learn's digits; `:mnist` reads the 28 rows of
MNIST.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the experiment as changes of `rcnn_jax.configuration.schema.DEFAULTS`."""
    config = ConfigDict()
    config.model = {
        "name": "rcnn_jax.models.sequence_classifier:SequenceClassifier",
        "classes": 10,
        "cell": "lstm",
        "hidden": 64,
        "direction": "bidirectional",
        "dropout": 0.2,
    }
    config.data = {"name": "digits", "residency": "device", "preprocess": "to_float(16)"}
    config.batch_size = 32
    config.epochs = 40.0
    config.optimizer = {"name": "adam", "clip_norm": 1.0}
    config.schedule = {"name": "cosine", "value": 3e-3}
    config.evaluate_every = 100
    return config


VARIANTS = {
    "mnist": {
        "data.name": "mnist",
        "data.train": "train[:55000]",
        "data.validation": "train[55000:]",
        "data.preprocess": "to_float(255)",
        "model.hidden": 128,
        "batch_size": 128,
        "epochs": 10.0,
        "evaluate_every": 0,
    },
    "elman": {"model.cell": "elman"},
    "gru": {"model.cell": "gru"},
    "forward": {"model.direction": "forward"},
}
