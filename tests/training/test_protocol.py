"""Methods of a task that nobody would call are named before the start."""

import dataclasses

import flax.linen as nn
import pytest

from rcnn_jax.errors import UsageError
from rcnn_jax.tasks.base import BaseTask
from rcnn_jax.training.protocol import check_protocol

pytestmark = pytest.mark.one_row


class Model(nn.Module):
    def __call__(self, x, *, train):
        return x


def made(kind):
    return kind(model=Model(), train_transform=lambda b, k: b, evaluation_transform=lambda b, k: b)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluates(BaseTask):
    def evaluate(self, predictions):
        return {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tables(BaseTask):
    def tables(self, predictions):
        return {}


class Switched(Evaluates):
    evaluates_on_host = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optional(BaseTask):
    scores: bool = False

    @property
    def evaluates_on_host(self):
        return self.scores

    def evaluate(self, predictions):
        return {}


@pytest.mark.parametrize(("kind", "method"), [(Evaluates, "evaluate"), (Tables, "tables")])
def test_a_method_without_its_switch(kind, method):
    name = kind.__name__
    says = f"{name} has a method {method!r}.* `evaluates_on_host = True` to {name}"
    with pytest.raises(UsageError, match=says):
        check_protocol(made(kind))


@pytest.mark.parametrize("kind", [BaseTask, Switched, Optional])
def test_what_is_called_or_left_out_on_purpose(kind):
    check_protocol(made(kind))
