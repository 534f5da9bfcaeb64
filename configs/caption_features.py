r"""Captions of photographs from features of a pretrained CNN: the captioner of the paper.

    python -m rcnn_jax.features --backbone=vgg16 --weights=vgg16-00b39a1b.pth images/
    python -m rcnn_jax.train --config=configs/caption_features.py --workdir=runs/captions \
        --config.data.name='karpathy:flickr8k/dataset.json?features=features.npz' --data_dir=DATA
    python -m rcnn_jax.evaluate --workdir=runs/captions --data_dir=DATA

The recipe is that of the multimodal recurrent network of Karpathy & Fei-Fei (CVPR 2015): 512 relu
units, the picture at the first step, words that occur at least 5 times, RMSprop on 100 pairs,
elementwise clipping at 5, dropout everywhere but on the recurrence, and a beam of 7. The learning
rate is NeuralTalk's, since the paper states none. The paper does not state the decay of the mean
square either: with NeuralTalk's 0.999 the first steps are 32 times as long as the rate.
`:released_code` is NeuralTalk's network with its own settings. `:normalized` divides each picture's
features by their size, which features of networks without a dense layer need.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the experiment as changes of `rcnn_jax.configuration.schema.DEFAULTS`."""
    config = ConfigDict()
    config.model = {
        "name": "rcnn_jax.models.captioner:multimodal_rnn",
        "features": 300,
        "hidden": 512,
    }
    config.task = {"name": "rcnn_jax.tasks.captioning:Captioning", "inputs": "features"}
    config.encoder = {"name": "rcnn_jax.data.encoders.captions:Captions"}
    config.data = {
        "name": "karpathy:dataset.json?features=features.npz",
        "residency": "memory",
    }
    config.batch_size = 100
    config.epochs = 50.0
    config.optimizer = {
        "name": "rmsprop",
        "momentum": 0.0,
        "decay": 0.9,
        "clip_value": 5.0,
        "weight_decay": 1e-8,
    }
    config.schedule = {"name": "constant", "value": 1e-3}
    config.best_metric = "loss"
    return config


VARIANTS = {
    "released_code": {
        "model.name": "rcnn_jax.models.captioner:neuraltalk",
        "model.features": 256,
        "model.hidden": 256,
        "encoder.unknown": "drop",
        "optimizer.decay": 0.999,
    },
    "lstm": {"model.cell": "lstm", "model.cell_options": {}},
    "gru": {"model.cell": "gru", "model.cell_options": {}},
    "normalized": {"model.normalize_image": True},
    # For a few hundred pictures: more steps, selected by the captions and not by the loss.
    "few": {
        "batch_size": 20,
        "epochs": 80.0,
        "evaluate_every": 130,
        "log_every": 40,
        "best_metric": "cider_d",
        "best_mode": "max",
    },
}
