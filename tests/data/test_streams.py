"""Contiguous streams: each row goes on where it ended, and every chunk comes once an epoch."""

import numpy as np
import pytest

from rcnn_jax.data import samplers
from rcnn_jax.data.streams import Contiguous

pytestmark = pytest.mark.one_row


@pytest.mark.parametrize(("size", "streams"), [(12, 4), (10, 4), (7, 7), (9, 4), (5, 1)])
def test_rows_go_on_and_every_chunk_comes_once(size, streams):
    order = Contiguous(size, streams)
    steps = int(order.steps_per_epoch)
    rows = np.stack([order.indices(step) for step in range(2 * steps)])
    for epoch in (rows[:steps], rows[steps:]):
        real = epoch[epoch != samplers.PADDING]
        assert sorted(real) == list(range(size))
        for stream in epoch.T:
            chunks = stream[stream != samplers.PADDING]
            assert (np.diff(chunks) == 1).all()
    assert samplers.pads(order) == bool((rows == samplers.PADDING).any())
    fresh = [samplers.column_values(order, step)["fresh"] for step in range(2 * steps)]
    assert [row.all() for row in fresh] == [step % steps == 0 for step in range(2 * steps)]
    assert order.epoch(steps) == 1


def test_more_streams_than_chunks_are_refused():
    with pytest.raises(ValueError, match=r"4 streams .* and 3 examples"):
        Contiguous(3, 4)
