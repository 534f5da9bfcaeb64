"""What an encoder offers, what must be taken of it, and what nobody offers."""

import dataclasses
import re

import flax.linen as nn
import pytest

from rcnn_jax.configuration import loading
from rcnn_jax.data.encoders.word_tags import WordTags
from rcnn_jax.errors import UsageError
from rcnn_jax.experiment import data

pytestmark = pytest.mark.one_row

HERE = f"{__name__}:"


class Net(nn.Module):
    clases: int = 3
    vocabulary: int = 3


@dataclasses.dataclass(frozen=True)
class Other(WordTags):
    """Calls tags by another name."""

    offers = ("classes", "tag", "vocabulary")


class Undeclared:
    """One of a fork that says nothing beforehand."""

    for_model: dict = {}  # noqa: RUF012

    def __init__(self, zero_digits: bool = False):
        pass

    def fit(self, source):
        return {}

    def bind(self, assets, others):
        return self


class WithoutBind:
    for_model = fit = property(lambda self: {})

    def __init__(self, zero_digits: bool = False):
        pass


def check(**changes):
    given = [(key.replace("__", "."), value) for key, value in changes.items()]
    config = loading.load("tagger_bookings", given)
    data.check_encoder(config, data.make_encoder(config))


@pytest.mark.parametrize("name", sorted(loading.shipped()))
def test_shipped_configs_fit_their_encoders(name):
    variants = getattr(loading._execute(loading.shipped()[name])[0], "VARIANTS", {})
    for variant in ["", *variants]:
        try:
            config = loading.load(f"{name}:{variant}")
        except UsageError:
            continue  # a variant that goes with others
        data.check_encoder(config, data.make_encoder(config))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"encoder__name": f"{HERE}Other"},
            "config.task: rcnn_jax.tasks.tagging:Tagging cannot be built without the argument "
            "'tags', which config.task does not state and nothing offers; did you mean 'tag'?",
        ),
        ({"encoder__name": f"{HERE}WithoutBind"}, "WithoutBind has no 'bind', which Encoder needs"),
        (
            {"model__name": f"{HERE}Net"},
            "config.encoder: rcnn_jax.data.encoders.word_tags:WordTags finds 'classes' in the data"
            f", and neither {HERE}Net nor rcnn_jax.tasks.tagging:Tagging takes an argument of that "
            "name; did you mean 'clases'?",
        ),
    ],
)
def test_what_does_not_fit_is_said_before_anything_is_fitted(changes, says):
    with pytest.raises(UsageError, match=re.escape(says)):
        check(**changes)


def test_an_encoder_need_not_say_anything():
    check(encoder__name=f"{HERE}Undeclared")
