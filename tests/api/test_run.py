"""`rcnn_jax.load`: what a run answers in Python is what its doors answer, with no data at hand."""

import functools
import json
import pathlib
import re
import shutil
import subprocess
import sys

import jax
import numpy as np
import optax
import pytest
from PIL import Image

import rcnn_jax
from rcnn_jax.data import catalog
from rcnn_jax.data.datasets.images.digits import DIGITS
from rcnn_jax.errors import UserError

pytestmark = pytest.mark.one_row

STORED = pathlib.Path(__file__).parent.parent / "stored" / "a20cca2"
README = pathlib.Path(__file__).parent.parent.parent / "README.md"


@pytest.fixture(scope="module")
def digits():
    """A run of an older version, whose workdir says nothing of features."""
    return rcnn_jax.load(str(STORED / "digits"))


@pytest.fixture(scope="module")
def validation():
    source = rcnn_jax.open_source("digits", "validation")
    return source.gather(np.arange(len(source)))


def test_the_script_of_the_readme_runs_as_it_stands(door, tmp_path):
    section = README.read_text().partition("## In Python\n")[2].partition("\n## ")[0]
    (script,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    assert len(script.splitlines()) <= 25
    shutil.copytree(STORED / "digits", tmp_path / "runs" / "digits")
    (tmp_path / "notebook.py").write_text(script)
    result = door(tmp_path / "notebook.py")
    assert (result.returncode, result.stderr) == (0, "")
    assert re.search(r"^rcl4 \(4, 8, 4, 4, 8\)$", result.stdout, re.MULTILINE)


def test_importing_the_package_imports_nothing_heavy():
    code = "import rcnn_jax, sys; print({'jax', 'numpy', 'absl', 'flax'} & set(sys.modules))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "set()\n"
    assert {"load", "open_source"} <= set(dir(rcnn_jax))
    with pytest.raises(AttributeError, match="'laod'"):
        rcnn_jax.laod  # noqa: B018


def test_predictions_are_those_that_evaluation_counts(digits, validation):
    predicted = digits.predict(validation["image"])["probabilities"]
    wrong = (predicted.argmax(axis=-1) != validation["label"]).mean()
    said = json.loads((STORED / "digits" / "evaluation.json").read_text())
    assert (digits.step, digits.config.data.name) == (said["step"], "digits")
    assert wrong == pytest.approx(said["metrics"]["error"])
    assert digits.evaluate("validation")["error"] == pytest.approx(said["metrics"]["error"])
    best = digits.answers(validation["image"][:2], n_best=2)
    assert [answers[0]["class"] for answers in best] == [str(n) for n in predicted[:2].argmax(-1)]
    assert all(a["probability"] >= b["probability"] for a, b in best)


def test_examples_may_be_handed_over_in_any_form(digits, validation, tmp_path):
    images = validation["image"][:3]
    expected = digits.predict(images)["probabilities"]
    for inputs in (
        images.astype(float),
        list(images),
        {"image": images, "label": [1, 2, 3]},
        [{"image": image} for image in images],
        digits.source("validation[:3]"),
        rcnn_jax.open_source("digits", "validation[:3]"),
    ):
        found = digits.predict(inputs)["probabilities"]
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    # A file is read as the data set reads one.
    Image.fromarray(np.arange(1024, dtype=np.uint8).reshape(32, 32)).save(tmp_path / "one.png")
    stored = DIGITS.read_file(tmp_path / "one.png")["image"][None]
    (answer,) = digits.answers(str(tmp_path / "one.png"))
    assert answer[0]["probability"] == pytest.approx(digits.predict(stored)["probabilities"].max())


def test_states_of_every_rcl_are_those_of_its_iterations(digits, validation):
    images = validation["image"][:4]
    logits, states = digits.apply(images, states=True)
    assert list(states) == ["conv", "rcl1", "rcl2", "rcl3", "rcl4"]
    assert states["rcl1"].shape == (4, 4, 8, 8, 8)
    seen = digits.task.evaluation_transform({"image": images}, None)["image"]
    captured = functools.partial(digits.model.apply, train=False, capture_intermediates=True)
    expected, kept = jax.jit(captured)(digits.variables, seen)
    np.testing.assert_allclose(logits, expected, rtol=1e-5)
    for name, values in states.items():
        (last,) = kept["intermediates"][name]["__call__"]
        np.testing.assert_allclose(values[-1], last, rtol=1e-5, atol=1e-6)
    # The first layer with iterations has the same input however many it runs through.
    _, shorter = digits.apply(images, states=True, steps=1)
    np.testing.assert_allclose(states["rcl1"][:2], shorter["rcl1"], rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def tagger():
    return rcnn_jax.load(STORED / "tagger", "latest")


def test_fine_tuning_takes_the_steps_of_the_optimiser(tagger):
    state, step = tagger.fine_tuning(optax.sgd(0.05))
    with tagger.train_batches(2, batch_size=16) as batches:
        first, second = batches
    after, loss = step(state, first)
    by_hand, key = jax.jit(tagger.loss), jax.random.fold_in(state.key, 0)
    before, out = by_hand(tagger.params, tagger.model_state, first, key)
    assert float(loss) == pytest.approx(float(before), rel=1e-5)
    assert float(out.total / out.count) == pytest.approx(float(before), rel=1e-5)
    assert float(by_hand(after.params, after.model_state, first, key)[0]) < float(before)
    after, later = step(after, second)
    assert int(after.step) == 2
    assert float(later) != float(loss)
    tuned = tagger.with_variables(after.params, after.model_state)
    asked = [{"words": "book a table", "tags": "O O O"}]
    before, now = (run.predict(asked)["probabilities"] for run in (tagger, tuned))
    assert (before != now).any()


def test_an_encoder_comes_along(tagger):
    sentences = [{"words": "book a table", "tags": "O O O"}, {"words": "play", "tags": "O"}]
    predicted = tagger.predict(sentences)
    assert (predicted["tags"] >= 0).sum(axis=1).tolist() == [3, 1]
    said = json.loads((STORED / "tagger" / "evaluation.json").read_text())["metrics"]
    assert tagger.evaluate("validation")["f1"] == pytest.approx(said["f1"])


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """The run on a machine that has neither its data nor the code that describes them."""
    shutil.copytree(STORED / "digits", tmp_path / "run")
    features = {
        "image": {"shape": [8, 8, 1], "dtype": "uint8"},
        "label": {"shape": [], "dtype": "int32", "classes": [f"digit {n}" for n in range(10)]},
    }
    facts = {
        "examples": 200,
        "features": features,
        "read": features,
        "batch": {
            "image": {"shape": [8, 8, 1], "dtype": "uint8"},
            "label": {"shape": [], "dtype": "int32"},
            "mask": {"shape": [], "dtype": "float32"},
        },
    }
    (tmp_path / "run" / "data.json").write_text(json.dumps(facts))

    def gone(*arguments, **options):
        raise FileNotFoundError("there is no data set")

    monkeypatch.setattr(catalog, "load_spec", gone)
    monkeypatch.setattr(catalog, "open_source", gone)
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


def test_without_the_data_set_a_run_is_loaded_from_what_its_workdir_says(
    elsewhere, digits, validation
):
    run = rcnn_jax.load("run")
    images = validation["image"][:3]
    np.testing.assert_allclose(
        run.predict(images)["probabilities"], digits.predict(images)["probabilities"], rtol=1e-6
    )
    ((answer,), *_) = run.answers(images)
    assert answer["class"].startswith("digit ")
    assert rcnn_jax.load(elsewhere, step=10).features == run.features


def test_a_checkpoint_of_another_model_is_named(elsewhere):
    text = (elsewhere / "config.json").read_text()
    (elsewhere / "config.json").write_text(text.replace('"features": 8', '"features": 4'))
    with pytest.raises(UserError, match=r"another model than config.json.* params/conv/kernel has"):
        rcnn_jax.load("run")


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        (np.zeros((2, 8, 8, 1)) + 0.5, r"'image' is float64\[2, 8, 8, 1\].* stores uint8"),
        (np.zeros((2, 9, 9, 1), np.uint8), r"uint8\[2, 9, 9, 1\], where the data set 'digits'"),
        ({"images": np.zeros((2, 8, 8, 1))}, "needs 'image', there are"),
        ({"image": np.zeros((2, 8, 8, 1)), "labels": [0, 1]}, "did you mean 'label'"),
        ({"image": np.zeros((2, 8, 8, 1)), "label": [0]}, "as many examples of each feature"),
        ([], "there are no examples"),
        ([{"image": 0}, {"label": 1}], "example 1 has the features"),
    ],
)
def test_examples_that_do_not_fit_are_named(digits, inputs, says):
    with pytest.raises(UserError, match=says):
        digits.predict(inputs)


def test_what_cannot_be_loaded_is_said(tmp_path):
    with pytest.raises(UserError, match="is no workdir of a training run"):
        rcnn_jax.load(tmp_path)
    with pytest.raises(UserError, match="checkpoints of the steps 10, and"):
        rcnn_jax.load(STORED / "digits", step=11)
    shutil.copytree(STORED / "digits", tmp_path / "run")
    text = (tmp_path / "run" / "config.json").read_text()
    wide = text.replace('"precision": "float32"', '"precision": "float64"')
    (tmp_path / "run" / "config.json").write_text(wide)
    with pytest.raises(UserError, match=r"float64.*jax_enable_x64"):
        rcnn_jax.load(tmp_path / "run")


def test_in_double_precision_a_float32_run_answers_the_same(digits, validation, x64):
    run = rcnn_jax.load(STORED / "digits")
    images = validation["image"][:3]
    found = run.predict(images)["probabilities"]
    np.testing.assert_allclose(found, digits.predict(images)["probabilities"], rtol=1e-5)
