"""Batches of one length, with empty rows, are the same run in one process and in several."""

import pathlib

import numpy as np
import pytest
from bucketed import FEW, get_config
from test_job import ends, learned, lines

from jobs import make_job
from rcnn_jax.data.buckets import Buckets
from rcnn_jax.data.encoders.word_tags import WordTags
from rcnn_jax.data.sources import ArraySource

HERE = pathlib.Path(__file__).parent
FLAGS = [f"--config={HERE / 'bucketed.py'}", "--workdir=run"]

pytestmark = [pytest.mark.faults, pytest.mark.one_row]


@pytest.fixture(scope="module")
def alone(tmp_path_factory, compiled, door_server):
    """What one process leaves."""
    folder = tmp_path_factory.mktemp("alone-buckets")
    ends(make_job(folder, compiled, door_server)("train", *FLAGS, processes=1), 0)
    return folder / "run"


def test_the_steps_have_several_lengths_and_empty_rows():
    """Otherwise the runs below would show nothing."""
    config = get_config()
    source = ArraySource(dict(FEW.columns(HERE, "train")), FEW.features)
    encoder = WordTags()
    encoded = encoder.bind(encoder.fit(source)).wrap(source).in_memory()
    edges = config["sampler"]["edges"]
    sampler = Buckets(encoded, config["batch_size"], config["seed"], edges=edges)
    steps = range(config["steps"])
    assert [len(sampler.cut(step)) for step in steps] == [2, 0, 2, 0]
    rows = np.array([sampler.indices(step) for step in steps])
    of_processes = (rows < 0).reshape(len(steps), 2, -1).sum(axis=-1)
    np.testing.assert_array_equal(of_processes, [[0, 0], [0, 2], [0, 1], [0, 0]])


def numbers(workdir):
    """What was logged, but for speeds."""
    return [{k: v for k, v in line.items() if not k.endswith("_per_s")} for line in lines(workdir)]


def test_buckets_are_one_run_in_two_processes(job, alone, tmp_path):
    results = job("train", *FLAGS, "--config.data.residency=device", processes=2)
    ends(results, 0)
    assert "in 2 processes" in results[0].stdout
    ours, theirs = (learned(folder) for folder in (tmp_path / "run", alone))
    assert ours.keys() == theirs.keys()
    for path, array in ours.items():
        np.testing.assert_allclose(array, theirs[path], rtol=1e-9, atol=1e-12, err_msg=path)
    # Precision has no number where nothing was predicted.
    expected = [
        {k: v if v is None else pytest.approx(v, rel=1e-9) for k, v in line.items()}
        for line in numbers(alone)
    ]
    assert numbers(tmp_path / "run") == expected
    assert [line["step"] for line in expected] == [1, 2, 3, 4, 4]
    assert {"f1", "unknown_tags", "loss"} <= expected[-1].keys()
