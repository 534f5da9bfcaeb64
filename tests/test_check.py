"""python -m rcnn_jax.check: everything that a run will do, once."""

import re

import pytest

pytestmark = pytest.mark.one_row

TINY = (
    "--config=rcnn_digits",
    "--config.model.features=8",
    "--config.model.steps=1",
    "--config.model.norm=lrn",
    "--config.batch_size=16",
    "--config.evaluation_batch_size=32",
)
MEAN = """
import dataclasses

from rcnn_jax.tasks.classification import Classification


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfMeans(Classification):
    def loss(self, *arguments):
        out = super().loss(*arguments)
        return out.replace(total=out.total / out.count)
"""


def test_all_stages_are_gone_through_and_nothing_is_left(door, tmp_path):
    result = door("check", *TINY)
    assert result.returncode == 0, result.stderr
    for stage in ("first step", "second step", "evaluation", "save", "restore", "prediction"):
        assert stage in result.stdout
    assert "the same bits" in result.stdout
    assert re.search(r"^kernels: (compiled, |XLA's forms: )", result.stdout, re.MULTILINE)
    assert "rcnn_digits can be trained, saved, restored, evaluated and asked" in result.stdout
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_a_mean_is_refused(door, tmp_path):
    (tmp_path / "means.py").write_text(MEAN)
    result = door("check", *TINY, "--config.task.name=means:OfMeans")
    assert result.returncode == 1
    assert "`loss` of means:OfMeans is no sum over the examples of a batch" in result.stderr
