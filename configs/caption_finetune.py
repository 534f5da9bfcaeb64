r"""Sentences about photographs from their pixels: SqueezeNet inside the captioner, trained further.

python -m rcnn_jax.train --config=configs/caption_finetune.py --workdir=runs/finetune \
    --config.data.name='karpathy:dataset.json?size=227' --data_dir=DATA --config.init_from=FILE
python -m rcnn_jax.evaluate --workdir=runs/finetune --data_dir=DATA
python -m rcnn_jax.predict --workdir=runs/finetune --n_best=3 photograph.jpg

FILE holds the weights of the released SqueezeNet 1.0 (`conv1/w`, `conv1/b`, ...). The CNN learns at
a tenth of the rate of the rest; `:frozen` leaves it as it is, and is then what `caption_features`
trains on features that were extracted before, but asks about pictures directly. `:lstm` writes with
an LSTM.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """The experiment, as changes of `rcnn_jax.configuration.schema.DEFAULTS`."""
    config = ConfigDict()
    config.model = {
        "name": "rcnn_jax.models.captioner:multimodal_rnn",
        "backbone": {"name": "rcnn_jax.models.squeezenet:squeezenet_released_code"},
        "normalize_image": True,
        "features": 300,
        "hidden": 512,
    }
    # What a picture costs is the CNN: each of its sentences is learnt from while it is there.
    config.task = {"name": "rcnn_jax.tasks.captioning:Captioning", "sentences": "all"}
    config.encoder = {"name": "rcnn_jax.data.encoders.captions:Captions"}
    config.data = {
        "name": "karpathy:dataset.json?size=227",
        "residency": "memory",
        "preprocess": "reverse_channels|normalize((104, 117, 123))",
    }
    config.init_into = "cnn"
    config.batch_size = 10
    config.epochs = 20.0
    config.optimizer = {
        "name": "rmsprop",
        "momentum": 0.0,
        "decay": 0.9,
        "clip_value": 5.0,
        "groups": (("cnn/.*", 0.1),),
    }
    config.schedule = {"name": "constant", "value": 1e-3}
    config.best_metric = "loss"
    return config


VARIANTS = {
    "frozen": {"optimizer.groups": (("cnn/.*", 0.0),)},
    "lstm": {"model.cell": "lstm", "model.cell_options": {}},
}
