"""The digits in scikit-learn's package are read as it reads them, without importing it."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from rcnn_jax.data.files import sklearn_digits

pytestmark = pytest.mark.one_row


def test_they_are_those_of_load_digits():
    images, labels = sklearn_digits.read()
    assert (images.dtype, labels.dtype) == (np.uint8, np.int32)
    expected = load_digits()
    np.testing.assert_array_equal(images, expected.images)
    np.testing.assert_array_equal(labels, expected.target)


def test_a_start_does_not_import_scikit_learn():
    code = (
        "import sys; from rcnn_jax.data import catalog\n"
        "for name in ('digits', 'digit_lines'):\n"
        "    len(catalog.open_source(name, 'test[:4]', residency='memory'))\n"
        "print('sklearn' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "False\n"


def test_without_the_package_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=r"not found \(no package\): pip install"):
        sklearn_digits.path()
