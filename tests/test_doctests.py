"""The usage examples in docstrings run as they stand."""

import doctest
import importlib
import pathlib

import jax
import pytest

import rcnn_jax

pytestmark = pytest.mark.one_row

PACKAGE = pathlib.Path(rcnn_jax.__file__).parent


def modules():
    for file in sorted(PACKAGE.rglob("*.py")):
        if ">>> " in file.read_text():
            yield ".".join(("rcnn_jax", *file.relative_to(PACKAGE).with_suffix("").parts))


@pytest.mark.parametrize("name", list(modules()))
def test_examples(name):
    # As a user has it: shapes are checked, and ranks promoted, in these tests alone.
    with jax.numpy_rank_promotion("allow"):
        result = doctest.testmod(importlib.import_module(name))
    assert result.attempted > 0
    assert result.failed == 0


def test_there_are_examples():
    assert len(list(modules())) >= 20
