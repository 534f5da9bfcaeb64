r"""Captions of photographs from their pixels: SqueezeNet is fine-tuned inside the captioner.

    python -m rcnn_jax.train --config=configs/caption_finetune.py --workdir=runs/finetune \
        --config.data.name='karpathy:dataset.json?size=227' --data_dir=DATA --config.init_from=FILE
    python -m rcnn_jax.evaluate --workdir=runs/finetune --data_dir=DATA
    python -m rcnn_jax.predict --workdir=runs/finetune --n_best=3 photograph.jpg

FILE holds the weights of the released SqueezeNet 1.0 (`conv1/w`, `conv1/b`, ...); torchvision's
expect other pixels than `data.preprocess` makes, which a warning says. The CNN learns at
a tenth of the learning rate of the other layers. `:frozen` keeps the CNN fixed; the training is
then that of `caption_features` on features that were extracted before, but the captioner reads
pictures directly. `:lstm` generates captions with an LSTM.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the experiment as changes of `rcnn_jax.configuration.schema.DEFAULTS`."""
    config = ConfigDict()
    config.model = {
        "name": "rcnn_jax.models.captioner:multimodal_rnn",
        "backbone": {"name": "rcnn_jax.models.squeezenet:squeezenet_released_code"},
        "normalize_image": True,
        "features": 300,
        "hidden": 512,
    }
    # The CNN dominates the cost of a picture, so all of its sentences are trained on at once.
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
