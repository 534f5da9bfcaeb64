"""The protocol of tasks: what training and the doors call is there, on every shipped task."""

import flax.linen as nn
import pytest

from rcnn_jax.tasks import (
    captioning,
    classification,
    labelling,
    multilabel,
    regression,
    sequence_to_sequence,
    tagging,
    transcription,
)
from rcnn_jax.tasks.base import BaseTask
from rcnn_jax.training import interface

TASKS = (
    captioning.Captioning,
    classification.Classification,
    labelling.SequenceLabelling,
    multilabel.MultiLabel,
    regression.Regression,
    sequence_to_sequence.SequenceToSequence,
    tagging.Tagging,
    transcription.Transcription,
)


class Net(nn.Module):
    @nn.compact
    def __call__(self, x, *, train: bool, lengths=None, targets=None):
        return x

    def output_lengths(self, lengths):
        return lengths


@pytest.mark.one_row
@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.__name__)
def test_every_shipped_task_has_all_that_is_called(task):
    plain = {"model": Net(), "train_transform": None, "evaluation_transform": None}
    words = {"words": ("a",) * 5} if task is captioning.Captioning else {}
    words |= {"alphabet": "ab"} if task is transcription.Transcription else {}
    words |= {"tags": ("O",)} if task is tagging.Tagging else {}
    if task is captioning.Captioning:
        plain["model"] = type("Writer", (Net,), {"classes": 4})()
    made = task(**plain, **words)
    parts = (interface.Trainable, interface.Evaluable, interface.Answering, interface.Iterating)
    for protocol in (*parts, interface.Task):
        assert isinstance(made, protocol)
    assert not isinstance(BaseTask(**plain), interface.Trainable)  # no loss
