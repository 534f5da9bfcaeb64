"""Rows of a table: no id takes another one's, however few rows there are."""

import jax
import numpy as np
import pytest

from rcnn_jax.layers.embedding import rows

pytestmark = pytest.mark.one_row


@pytest.mark.parametrize("entries", [1, 3])
def test_an_id_without_a_row_gets_none(entries):
    """A gather of JAX alone counts negative ids from the end and takes the last row beyond it."""
    table = np.arange(1.0, 2 * entries + 1, dtype=np.float32).reshape(entries, 2)
    ids = np.array([[0, entries - 1], [entries, entries + 5], [-1, -entries]])
    expected = np.stack([table[ids[0]], np.full((2, 2), np.nan), np.zeros((2, 2))])
    np.testing.assert_array_equal(jax.jit(rows)(table, ids), expected)
    np.testing.assert_array_equal(rows(table, ids), expected)
