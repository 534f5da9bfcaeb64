"""Groups of files of similar length: little padding, few shapes, bounded memory, the same order."""

import numpy as np
import pytest

from rcnn_jax.data import grouping
from rcnn_jax.data.grouping import Group, groups, in_order

pytestmark = pytest.mark.one_row


def lengths(count, middle=300, spread=0.5, giant=15_000):
    """Lines of usual widths, and one that is many times as wide."""
    drawn = np.random.default_rng(count).lognormal(np.log(middle), spread, count)
    drawn = np.maximum(1, np.round(drawn)).astype(np.int64)
    drawn[count // 2] = giant
    return drawn


def check(found, expected, multiple=1, devices=1):
    """Each example once, in rising order, and in a group that is long enough for it."""
    rows = np.concatenate([group.examples for group in found])
    np.testing.assert_array_equal(np.sort(rows), np.arange(len(expected)))
    assert [group.length for group in found] == sorted({group.length for group in found})
    for group in found:
        assert (np.diff(group.examples) > 0).all()
        assert expected[group.examples].max() <= group.length
        assert group.length % multiple == group.rows % devices == 0
    return sum(group.steps for group in found)


@pytest.mark.parametrize(
    ("count", "middle", "spread", "shapes"),
    [(97, 60, 0.4, 9), (1_000, 300, 0.5, 14), (1_000, 300, 0.9, 20), (10_000, 300, 0.5, 17)],
)
def test_little_is_padded_in_few_shapes(count, middle, spread, shapes):
    """At most a tenth, empty rows included; one giant costs what it is itself."""
    given = lengths(count, middle, spread)
    found = groups(given, most_rows=256, values_per_step=32)
    assert check(found, given) <= 1.1 * given.sum()
    assert len(found) <= shapes
    alone = found[-1]
    assert (alone.examples.tolist(), alone.rows) == ([count // 2], 1)


def test_few_files_have_as_few_shapes_as_little_padding_allows():
    for given, shapes in (
        ([300], 1),
        ([257, 300, 290, 310], 1),
        ([290, 300, 260, 120, 310], 2),
        ([100, 150, 200, 260, 330], 4),
    ):
        found = groups(np.array(given), most_rows=64)
        assert len(found) == shapes
        assert check(found, np.array(given)) <= 1.1 * sum(given)
    assert groups(np.zeros(0, np.int64), most_rows=8) == []


def test_memory_is_bounded_by_values_and_not_by_rows_alone():
    given = np.repeat([1_000, 30_000, 400_000], [100, 30, 3])
    found = groups(given, most_rows=64, values_per_step=32)
    check(found, given)
    for group in found:
        assert group.rows == 1 or group.rows * group.length * 32 <= grouping.VALUES
        assert group.rows <= 64
    assert found[-1].rows == 1
    assert found[0].rows > 32


@pytest.mark.parametrize("multiple", [1, 8, 100])
@pytest.mark.parametrize("devices", [1, 3, 8])
def test_lengths_and_rows_that_model_and_devices_can_divide(multiple, devices):
    given = lengths(500)
    found = groups(given, most_rows=30, multiple=multiple, devices=devices)
    steps = check(found, given, multiple, devices)
    rounded = -(-given // multiple) * multiple
    assert steps <= (1.1 if devices == 1 else 2) * rounded.sum()
    assert len(found) <= (14 if devices == 1 else 5)
    # 8 devices share one short line.
    [group] = groups(np.array([5]), most_rows=1, devices=8)
    assert group == Group(group.examples, 5, 8)


def test_extremes():
    for given in ([1], [1] * 1_000, [1, 2, 3, 4, 5], [7, 10**9], list(range(1, 400))):
        array = np.array(given)
        for most_rows in (1, 7, 256):
            found = groups(array, most_rows=most_rows)
            assert check(found, array) <= 1.1 * array.sum()
            assert max(group.rows for group in found) <= most_rows


def test_the_division_is_the_cheapest_of_its_number():
    """Against all divisions of eight lengths."""
    cells = np.array([10, 12, 13, 20, 21, 40, 41, 90])
    counts = np.array([5, 1, 9, 2, 2, 7, 1, 1])

    def rows(length, count):
        return min(count, 200 // length)

    def cost(edges):
        total, start = 0, 0
        for end in edges:
            count, length = counts[start : end + 1].sum(), cells[end]
            total += -(-count // rows(length, count)) * rows(length, count) * length
            start = end + 1
        return total

    for number, (found, ends) in enumerate(grouping._best(cells, counts, rows), start=1):
        every = [
            [place for place in range(7) if bits >> place & 1] + [7]
            for bits in range(128)
            if bits.bit_count() == number - 1
        ]
        ends = np.searchsorted(cells, ends).tolist()
        assert found == cost(ends) == min(map(cost, every))
        assert len(ends) == number


def test_answers_come_in_order_and_no_batch_before_it_is_needed():
    given = lengths(40)
    found = groups(given, most_rows=4)
    made = []

    def batches(group):
        for start in range(0, len(group.examples), group.rows):
            made.append(len(made))
            yield group.examples[start : start + group.rows].tolist()

    parts = [group.examples for group in found]
    needed = 0
    for number, item in enumerate(in_order(parts, [batches(group) for group in found])):
        assert item == number
        needed = max(needed, len(made))
        if number == 0:
            assert made == [0]
    assert needed == len(made) == sum(-(-len(g.examples) // g.rows) for g in found)
