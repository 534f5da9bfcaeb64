"""Evaluation at other numbers of iterations: what each column of the table is."""

import dataclasses
import json

import jax
import numpy as np
import optax
import pytest

from rcnn_jax import evaluate, iterations, train
from rcnn_jax.configuration import loading
from rcnn_jax.errors import UserError
from rcnn_jax.experiment import evaluation_run
from rcnn_jax.training import recalibration

pytestmark = pytest.mark.one_row

TINY = [
    ("model.features", "8"),
    ("model.steps", "2"),
    ("epochs", "0"),
    ("steps", "6"),
    ("batch_size", "32"),
    ("evaluation_batch_size", "64"),
    ("optimizer.weight_decay", "0"),
]


def trained(folder, *overrides):
    config = loading.load("rcnn_digits", [*TINY, *overrides])
    assert train.train(config, folder) == 0
    return config, folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("iterations") / "batch")


@pytest.fixture(scope="module")
def measured(run):
    """The table, and by iterations what `recalibrate` was given and what it returned."""
    seen = {}
    measure = recalibration.recalibrate

    def spy(task, variables, *rest):
        result = measure(task, variables, *rest)
        seen[task.call["steps"]] = (task, variables[1], result)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recalibration, "recalibrate", spy)
        return iterations.evaluate_iterations(*run, up_to=3, batches=2), seen


def test_plain_column_is_what_evaluation_with_that_call_gives(run, measured):
    table, _ = measured
    assert table["trained"] == 2
    assert [row["iterations"] for row in table["iterations"]] == [0, 1, 2, 3]
    row = table["iterations"][3]
    result = evaluate.evaluate(*run, split="validation", call={"steps": 3})
    assert row["error"] == result["metrics"]["error"]
    assert row["loss"] == result["metrics"]["loss"]
    assert table["n"] == result["n"] == 180


def test_anytime_is_the_answer_after_each_iteration(run, measured):
    config, path = run
    prepared = evaluation_run.prepare_evaluation(config, path, "validation", None, {})
    params, model_state = evaluation_run.restore_step(prepared, path, "best").state.evaluated()
    examples = prepared.source.gather(np.arange(len(prepared.source)))
    image = prepared.task.evaluation_transform(examples, None)["image"]
    variables = {"params": params, **model_state}
    answers = prepared.task.model.apply(variables, image, train=False, every_step=True)
    loss = optax.softmax_cross_entropy_with_integer_labels
    expected = [loss(answer, examples["label"]).mean() for answer in answers]
    rows = measured[0]["iterations"]
    found = [row.get("loss_anytime") for row in rows]
    np.testing.assert_allclose(found[:3], expected, rtol=1e-5)
    assert len({round(value, 6) for value in found[:3]}) == 3
    assert found[3] is None
    assert rows[2]["error_anytime"] == rows[2]["error"]


def test_recalibration_measures_each_step_at_its_own_length(measured):
    """At t = 3 every layer has four entries, and all come from passes with three iterations."""
    _, seen = measured
    assert sorted(seen) == [0, 1, 2, 3]
    for t, (task, before, after) in seen.items():
        assert task.train_call == task.call == {"steps": t}
        assert task.model.steps == max(t, 2)
        old, new = (tree["batch_stats"]["rcl2"]["norm"]["mean"] for tree in (before, after))
        moved = np.any(np.asarray(old) != np.asarray(new), axis=1)
        # Entries of iterations that did not happen stay as training left them.
        assert moved.tolist() == [True] * (t + 1) + [False] * (max(t, 2) - t)


def test_what_is_measured_anew_owes_nothing_to_what_training_left(run, measured, monkeypatch):
    restore = evaluation_run.restore_step

    def spoilt(*arguments):
        found = restore(*arguments)
        broken = jax.tree.map(lambda leaf: leaf * 0 + 7.0, found.state.model_state)
        return dataclasses.replace(found, state=found.state.replace(model_state=broken))

    monkeypatch.setattr(evaluation_run, "restore_step", spoilt)
    rows = iterations.evaluate_iterations(*run, up_to=1, batches=2)["iterations"]
    for row, whole in zip(rows, measured[0]["iterations"], strict=False):
        assert row["loss_recalibrated"] == whole["loss_recalibrated"]
        assert row["loss"] != whole["loss"]


def test_without_statistics_there_is_nothing_to_measure_anew(tmp_path):
    run = trained(tmp_path / "lrn", ("model.norm", "lrn"), ("schedule.value", "0.01"))
    result = iterations.evaluate_iterations(*run, up_to=0)
    names = ["error", "error_anytime", "iterations", "loss", "loss_anytime"]
    assert [sorted(row) for row in result["iterations"]] == [names]
    assert "no batch statistics per iteration" in result["note"]


def test_a_model_that_does_not_iterate(tmp_path):
    (tmp_path / "dense.py").write_text(
        "def get_config():\n"
        "    model = {'name': 'rcnn_jax.models.fully_connected:FullyConnected', 'classes': 10}\n"
        "    data = {'name': 'digits', 'preprocess': 'to_float(16)'}\n"
        "    return {'model': model | {'hidden': (8,)}, 'data': data, 'steps': 1}\n"
    )
    config = loading.load(str(tmp_path / "dense.py"), [])
    assert train.train(config, tmp_path / "dense") == 0
    with pytest.raises(UserError, match="no number of iterations"):
        iterations.evaluate_iterations(config, tmp_path / "dense")


def test_door(run, door, tmp_path):
    arguments = (f"--workdir={run[1]}", "--up_to=1", "--batches=0", "--output=table.json")
    result = door("iterations", *arguments)
    assert result.returncode == 0, result.stderr
    assert "trained for 2 iterations" in result.stdout
    assert "1 iterations: error " in result.stdout
    written = json.loads((tmp_path / "table.json").read_text())
    assert [row["iterations"] for row in written["iterations"]] == [0, 1]
    assert written["batches"] == 0
    three = {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}
    again = door("iterations", *arguments[:1], "--up_to=0", "--batches=1", **three)
    assert again.returncode == 0, again.stderr  # three devices share a batch of 33
    assert "error_recalibrated" in again.stdout
    wrong = door("iterations", f"--workdir={run[1]}", "--up_to=-1")
    assert wrong.returncode == 2
    assert wrong.stderr == "error: --up_to=-1 must be at least 0.\n"
