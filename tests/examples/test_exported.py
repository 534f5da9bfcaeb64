"""A run as a program of `jax.export`: the same predictions, without the package."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest

import rcnn_jax

LOADED = """
import pathlib, sys
import numpy as np
from jax import export

program = export.deserialize(bytearray(pathlib.Path("digits.bin").read_bytes()))
for rows in (3, 5):
    image = np.load("images.npy")[:rows]
    predicted = program.call({"image": image, "mask": np.ones(rows, np.float32)})
    np.save(f"{rows}.npy", predicted["probabilities"])
assert program.platforms == ("cpu", "cuda", "tpu")
assert "rcnn_jax" not in sys.modules
"""


@pytest.mark.one_row
@pytest.mark.faults
def test_an_exported_run_predicts_the_same_for_any_number_of_rows(door, example):
    few = ("--config.epochs=0", "--config.steps=2", "--config.evaluate_every=2")
    result = door("train", "--config=rcnn_digits", "--workdir=run", *few)
    assert result.returncode == 0, result.stderr
    result = door(example / "export.py", "run", "digits.bin")
    assert result.returncode == 0, result.stderr

    test = rcnn_jax.open_source("digits", "test")
    images = np.stack([test[number]["image"] for number in range(5)])
    np.save(example / "images.npy", images)
    expected = rcnn_jax.load(example / "run").predict(images)["probabilities"]
    (example / "loaded.py").write_text(LOADED)
    subprocess.run([sys.executable, "loaded.py"], cwd=example, check=True)
    for rows in (3, 5):
        predicted = np.load(example / f"{rows}.npy")
        np.testing.assert_allclose(predicted, expected[:rows], rtol=1e-5, atol=1e-7)
    assert pathlib.Path(example / "digits.bin").stat().st_size < 4e6
