"""The shapes of sequence problems through the doors, on tiny settings."""

import json

import pytest

pytestmark = pytest.mark.one_row

TINY = ["--config.epochs=0", "--config.steps=3", "--config.batch_size=4", "--config.log_every=1"]


@pytest.mark.parametrize(
    ("config", "metrics"),
    [
        ("rows_mnist:elman", {"error", "loss"}),
        ("adding:elman", {"mse", "mae"}),
        ("dates:number_names", {"error", "loss", "sequence_error"}),
    ],
)
def test_a_config_is_trained_and_evaluated(door, tmp_path, config, metrics):
    result = door("train", f"--config={config}", *TINY, "--config.model.hidden=4", "--workdir=run")
    assert result.returncode == 0, result.stderr
    result = door("evaluate", "--workdir=run")
    assert result.returncode == 0, result.stderr
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert found["n"] >= 100
    assert set(found["metrics"]) == metrics


def test_options_of_a_cell_are_written_in_the_config(door, tmp_path):
    options = ["--config.model.cell_options.peepholes=True", "--config.model.hidden=4"]
    result = door("train", "--config=adding", *TINY, *options, "--workdir=run")
    assert result.returncode == 0, result.stderr
    assert "peephole" in result.stdout
    assert door("evaluate", "--workdir=run").returncode == 0
    result = door("train", "--config=adding", "--config.model.cell_options.peephole=True")
    assert result.returncode == 2
    assert "did you mean 'peepholes'" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    result = door("train", "--config=adding", "--config.model.cell_options=peepholes")
    assert result.returncode == 2
    assert "cell_options='peepholes'" in result.stderr


@pytest.mark.parametrize(("config", "size"), [("rows_mnist", "8, 8, 1"), ("adding", "50, 2")])
def test_the_summary_knows_the_input(door, config, size):
    result = door("summary", f"--config={config}")
    assert result.returncode == 0, result.stderr
    assert f"[1, {size}] -> [1, " in result.stdout
