"""A character model with a carry: trained on streams, evaluated as one, resumed inside an epoch."""

import json
import shutil
import sys

import jax
import numpy as np
import pytest

from rcnn_jax.training.checkpoints import reading


@pytest.fixture
def characters(example):
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefgh"), 5)) for _ in range(12)]
    text = " ".join(words[i] for i in rng.integers(0, len(words), 400))
    (example / "text.txt").write_text(text)
    return example


def unbroken_loss(folder, monkeypatch) -> float:
    """Cross-entropy of the validation part read in one go by the trained net."""
    monkeypatch.syspath_prepend(folder)
    sys.modules.pop("parts", None)
    import parts

    variables = reading.read_variables(folder / "run" / "checkpoints", [])
    params: dict = {}
    for path, array in variables.items():
        node = params
        *sections, name = path.removeprefix("params/").split("/")
        for section in sections:
            node = node.setdefault(section, {})
        node[name] = array
    chunks = parts.read(folder, "validation")["text"]
    text = np.append(chunks[:, :-1].reshape(-1), chunks[-1, -1])[None]
    task = parts.NextCharacter(
        model=parts.CharacterModel(), train_transform=None, evaluation_transform=None
    )
    batch = {"text": text, "mask": np.ones(1, np.float32)}
    total, count, _ = jax.jit(task.read)(params, task.initial_carry(1), batch)
    return float(total / count)


@pytest.mark.one_row
def test_evaluation_is_one_unbroken_pass_whatever_its_batch_size(door, characters, monkeypatch):
    given = ("--config=experiment.py", "--workdir=run", f"--data_dir={characters}")
    result = door("train", *given, "--config.checkpoint_every=5", "--config.keep_latest=9")
    assert result.returncode == 0, result.stderr
    losses = []
    for size in (1, 3, 64):
        result = door(
            "evaluate", "--workdir=run", "--split=validation", f"--data_dir={characters}",
            f"--config.evaluation_batch_size={size}",
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        metrics = json.loads((characters / "run" / "evaluation.json").read_text())["metrics"]
        losses.append(metrics["loss"])
        assert metrics["bits"] == pytest.approx(metrics["loss"] / np.log(2), rel=1e-6)
    np.testing.assert_allclose(losses, unbroken_loss(characters, monkeypatch), rtol=2e-6)

    # Streams side by side begin without a past, and say another number.
    result = door(
        "evaluate", "--workdir=run", "--split=validation", f"--data_dir={characters}",
        "--config.evaluation_sampler.name=rcnn_jax.data.streams:Contiguous",
        "--config.evaluation_batch_size=2",
    )  # fmt: skip
    assert result.returncode == 1
    assert "config.task.side_by_side=False needs another order" in result.stderr

    # An epoch has 30 / 4 batches or so: step 10 lies inside one, and the carry is part of it.
    folder = characters / "run" / "checkpoints"
    ended = reading._manifest(folder, 30)["leaves"]
    assert any(path.startswith("carry/") for path in ended)
    for step in reading.steps(folder):
        if step > 10:
            shutil.rmtree(folder / str(step))
    result = door("train", *given, "--config.checkpoint_every=5", "--config.keep_latest=9")
    assert "resuming from the checkpoint of step 10" in result.stdout
    assert reading._manifest(folder, 30)["leaves"] == ended
