"""The doors as a user meets them: mistakes end in one sentence, and nothing is destroyed."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from jobs import QUICK
from rcnn_jax.startup import doors

TINY = [
    "--config=rcnn_digits",
    "--config.data.preprocess=to_float(16)|subtract_pixel_mean",
    "--config.model.features=8",
    "--config.model.steps=1",
    "--config.epochs=0",
    "--config.steps=4",
    "--config.batch_size=32",
    "--config.evaluate_every=4",
    "--config.log_every=2",
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, compiled):
    """A finished tiny run; tests copy it."""
    folder = tmp_path_factory.mktemp("trained")
    subprocess.run(
        [sys.executable, "-m", "rcnn_jax.train", *TINY, "--workdir=run"],
        cwd=folder,
        check=True,
        capture_output=True,
        env={**os.environ, **QUICK, "XLA_FLAGS": "", "JAX_COMPILATION_CACHE_DIR": compiled},
    )
    return folder / "run"


@pytest.fixture
def run_copy(trained, tmp_path):
    return pathlib.Path(shutil.copytree(trained, tmp_path / "run"))


def says_one_sentence(result, *parts: str) -> None:
    """Exit code 1 or 2, a single line on standard error, no traceback, all `parts` in it."""
    assert result.returncode in (1, 2), (result.returncode, result.stderr)
    lines = [line for line in result.stderr.splitlines() if not line.startswith("warning: ")]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0], lines[0]


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--config.bach_size=64"], ["'bach_size'", "did you mean 'batch_size'?"]),
        (["--config.optimizer.momentun=0.5"], ["did you mean 'optimizer.momentum'?"]),
        (["--config.model.feature=8"], ["no argument 'feature'", "did you mean 'features'?"]),
        (["--config.batch_size=many"], ["batch_size takes a value of type int", "'many'"]),
        (["--config.batch_size=1.5"], ["batch_size takes a value of type int", "1.5"]),
        (["--config.optimizer.nesterov=perhaps"], ["type bool", "'perhaps'"]),
        (["--config.model.features=wide"], ["features", "'wide'"]),
        (["--config=rcnn_digits:huge"], ["no variant 'huge'", "'deterministic'"]),
        (["--config=configs/rcnn_digit.py"], ["no file", "did you mean 'rcnn_digits'?"]),
        (["--config=nothing.py"], ["no file 'nothing.py'", "'rcnn_digits'"]),
        (["--config.data.name=digit"], ["there is no data set 'digit'", "did you mean 'digits'?"]),
        (["--config.data.train=trian"], ["trian", "train"]),
        (["--config.data.augment=flipp"], ["flipp", "did you mean 'flip'?"]),
        (["--config.data.augment=random_crop(24)"], ["24", "8"]),
        (["--config.schedule.name=cosin"], ["did you mean 'cosine'?"]),
        (["--config.model.name=my_fork.models:Mine"], ["'my_fork.models:Mine'", "PYTHONPATH"]),
        (["--config.model.name=rcnn_jax.models.rcnn:RCNM"], ["did you mean 'RCNN'?"]),
        (["--config.model.classes=7"], ["7", "10"]),
        (["--config.model.steps=-1"], ["steps", "-1"]),
        (["--config.optimizer.groups=(('backbone/.*', 0.1),)"], ["'backbone/.*'", "no parameter"]),
        (["--config.batch_size=30", "--devices=4"], ["batch_size=30", "28 or 32"]),
        (["--config.mesh.data=3"], ["mesh", "1 devices"]),
        (["--config.epochs=2"], ["exactly one of"]),
        (["--config.xla_flags=('xla_no_such=1',)"], ["'xla_no_such'"]),
        (["--config.lr=0.1"], ["did you mean 'schedule.value'?"]),
        (["--config.optimizer.learning_rate=0.1"], ["did you mean 'schedule.value'?"]),
        (["--config.momentum=0.1"], ["did you mean 'optimizer.momentum'?"]),
        (["--batch_size=64"], ["--config.batch_size"]),
        (["--config.optimizer.groups=('rcl1/.*', 0.1)"], ["pairs (pattern, factor)"]),
        (["--config.schedule.boundaries=(50,)"], ["fractions of all steps"]),
        (["--config.data.prefetch=-1"], ["config.data.prefetch=-1", "[0, 1000]"]),
        (["--config.seed=-1"], ["config.seed=-1"]),
        (["--config.schedule.name=plateau", "--config.data.validation="], ["validation split"]),
        (["--config.best_metric=f1"], ["best_metric='f1'", "'error'"]),
        (["--config.best_mode=max"], ["best_metric='error'", "set --config.best_mode=min"]),
        (["--config.writers=('clipboard',)"], ["'clipboard'", "'tensorboard'"]),
        (
            ["--config.schedule.name=plateau", "--config.schedule.factor=2"],
            ["factor=2.0", "(0, 1)"],
        ),
        (["--config.model.dropout=1.5"], ["dropout rate must lie in [0, 1]", "1.5"]),
        (["--config.model.lrn_size=0"], ["lrn_size", "at least 1"]),
        (["--config.model.gamma=half"], ["model.gamma='half'", "type float"]),
        (["--config.ema_decay=1.0"], ["ema_decay=1.0", "[0, 1)"]),
        (["--config.init_from=nowhere"], ["'nowhere'", ".npz"]),
        (["--confg=x"], ["confg"]),
        (["runs/here"], ["'runs/here'", "--name=value"]),
    ],
    ids=lambda value: value[0] if isinstance(value, list) and value[0].startswith("-") else "",
)
def test_a_mistake_ends_in_one_sentence_before_anything_is_written(
    door, tmp_path, arguments, parts
):
    flags = ""
    if "--devices=4" in arguments:
        arguments = [a for a in arguments if a != "--devices=4"]
        flags = "--xla_force_host_platform_device_count=4"
    result = door("train", *TINY, *arguments, "--workdir=run", XLA_FLAGS=flags)
    says_one_sentence(result, *parts)
    assert not (tmp_path / "run").exists()


def test_a_config_that_raises_is_named_with_its_line(door, tmp_path):
    (tmp_path / "mine.py").write_text("def get_config():\n    return {}\n\nx = 1 / 0\n")
    says_one_sentence(door("train", "--config=mine.py"), "mine.py", "line 4", "ZeroDivisionError")


def test_a_config_with_an_unknown_key_is_named(door, tmp_path):
    (tmp_path / "mine.py").write_text("def get_config():\n    return {'batchsize': 3}\n")
    says_one_sentence(door("train", "--config=mine.py"), "mine.py", "did you mean 'batch_size'?")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return {}['missing']", "line 2 raises KeyError"),
        ("return None", "not NoneType"),
        ("pass", "not NoneType"),
    ],
)
def test_a_get_config_that_fails_is_named(door, tmp_path, body, says):
    (tmp_path / "mine.py").write_text(f"def get_config():\n    {body}\n")
    says_one_sentence(door("train", "--config=mine.py"), "mine.py", says)


def test_evaluation_takes_the_runs_own_config(door, run_copy):
    result = door("evaluate", "--workdir=run", "--config.data.preprocess=to_float(1)")
    says_one_sentence(result, "data.preprocess", "the run's own config")
    result = door("evaluate", "--workdir=run", "--config.evaluation_batch_size=7")
    assert result.returncode == 0, result.stderr
    assert json.loads((run_copy / "evaluation.json").read_text())["n"] == 360


def test_a_precision_that_the_model_does_not_take(door, tmp_path):
    (tmp_path / "fork.py").write_text(
        "import flax.linen as nn\n\n\nclass Plain(nn.Module):\n    classes: int\n"
    )
    (tmp_path / "mine.py").write_text(
        "def get_config():\n    return {'model': {'name': 'fork:Plain', 'classes': 10},"
        " 'data': {'name': 'digits'}, 'steps': 1, 'precision': 'bfloat16'}\n"
    )
    says_one_sentence(door("train", "--config=mine.py"), "precision='bfloat16'", "dtype")


def test_another_experiment_in_the_workdir(door, run_copy):
    before = (run_copy / "config.json").read_bytes()
    result = door("train", *TINY, "--config.model.features=16", "--workdir=run")
    says_one_sentence(result, "another experiment", "model.features: 8 -> 16")
    assert (run_copy / "config.json").read_bytes() == before


def test_a_run_does_not_go_on_with_other_data(door, run_copy):
    facts = json.loads((run_copy / "data.json").read_text())
    assert facts["examples"] == 1257
    assert facts["shapes"] == {"image": [8, 8, 1]}
    assert facts.keys() == {"version", "examples", "shapes", "features", "read", "batch"}
    (run_copy / "data.json").write_text(json.dumps({**facts, "examples": 16}))
    result = door("train", *TINY, "--workdir=run")
    says_one_sentence(result, "run have changed", "there were 16 examples and now are 1,257")


def test_weights_for_a_part_but_none_named(door, tmp_path):
    result = door("train", *TINY, "--config.init_into=conv", "--workdir=run")
    says_one_sentence(result, "config.init_into='conv'", "config.init_from", "is empty")
    assert not (tmp_path / "run").exists()


def test_too_little_memory_is_one_sentence():
    full = RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.\nmore\nmore")
    for error in (full, MemoryError()):
        code, message = doors._out_of_memory(error)
        assert code == 1
        assert message.startswith("there is not enough memory (")
        assert "\n" not in message
        assert "config.batch_size" in message
    assert doors._out_of_memory(ValueError("no")) is None


def test_runtime_keys_may_change_and_are_said(door, run_copy):
    result = door("train", *TINY, "--config.log_every=1", "--workdir=run")
    assert result.returncode == 0, result.stderr
    assert "going on with log_every: 2 -> 1" in result.stdout


def test_a_finished_run_says_so(door, run_copy):
    before = sorted(p.name for p in (run_copy / "checkpoints").iterdir())
    result = door("train", *TINY, "--workdir=run")
    assert result.returncode == 0, result.stderr
    assert "all 4 steps have been taken" in result.stdout
    assert sorted(p.name for p in (run_copy / "checkpoints").iterdir()) == before


def test_a_checkpoint_of_another_model(door, run_copy):
    config = json.loads((run_copy / "config.json").read_text())
    config["model"]["features"] = 16
    (run_copy / "config.json").write_text(json.dumps(config))
    result = door("evaluate", "--workdir=run")
    says_one_sentence(
        result, "of another model", "params/", "params/conv/kernel has shape (5, 5, 1, 8)"
    )


def test_evaluate_without_a_run(door, tmp_path):
    (tmp_path / "empty").mkdir()
    says_one_sentence(door("evaluate", "--workdir=empty"), "empty", "no workdir", "config.json")


def test_evaluate_an_unknown_step(door, run_copy):
    says_one_sentence(door("evaluate", "--workdir=run", "--step=7"), "--step=7", "4", "'latest'")


def test_evaluate_writes_what_it_says(door, run_copy):
    result = door("evaluate", "--workdir=run", "--step=latest")
    assert result.returncode == 0, result.stderr
    written = json.loads((run_copy / "evaluation.json").read_text())
    assert set(written) == {"step", "split", "n", "metrics", "details", "changed"}
    assert written["changed"] == {}
    confusion = written["details"]["confusion"]
    assert sum(map(sum, confusion)) == 360
    right = sum(row[number] for number, row in enumerate(confusion))
    assert written["metrics"]["error"] == pytest.approx(1 - right / 360)
    assert "taken_for" in result.stdout
    assert (written["step"], written["split"], written["n"]) == (4, "test", 360)
    assert 0 <= written["metrics"]["error"] <= 1


def test_evaluate_with_more_steps_than_trained(door, run_copy):
    result = door("evaluate", "--workdir=run", "--call=steps=3", "--output=three.json")
    assert result.returncode == 0, result.stderr
    says_one_sentence(
        door("evaluate", "--workdir=run", "--call=steps"), "--call=steps", "name=value"
    )


def test_a_fork_that_is_gone(door, run_copy):
    config = json.loads((run_copy / "config.json").read_text())
    config["model"]["name"] = "my_fork.models:Mine"
    (run_copy / "config.json").write_text(json.dumps(config))
    says_one_sentence(door("evaluate", "--workdir=run"), "'my_fork.models:Mine'", "PYTHONPATH")


def test_a_damaged_config_json(door, run_copy):
    (run_copy / "config.json").write_text('{"seed": ')
    says_one_sentence(door("evaluate", "--workdir=run"), "config.json", "damaged")


def test_assets_that_were_altered(door, run_copy):
    (array,) = (run_copy / "assets").glob("*.npy")
    data = bytearray(array.read_bytes())
    data[-1] ^= 1
    array.write_bytes(data)
    says_one_sentence(door("evaluate", "--workdir=run"), array.name)


@contextlib.contextmanager
def mounted(path: pathlib.Path, options: str):
    """A small file system of its own, where the machine allows to mount one."""
    path.mkdir(exist_ok=True)
    try:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", path], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this needs the right to mount a tmpfs")
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


@pytest.mark.one_row
@pytest.mark.faults
def test_no_space_left_keeps_the_last_checkpoint(door, tmp_path):
    """The disk fills up between two checkpoints; the first one survives and the run can go on."""
    from rcnn_jax.training.checkpoints import reading

    with mounted(tmp_path / "small", "size=1200k") as small:
        arguments = [*TINY, "--config.keep_latest=5", "--workdir=small/run"]
        arguments += ["--config.checkpoint_every=1", "--config.steps=60", "--config.keep_latest=60"]
        result = door("train", *arguments)
        says_one_sentence(result, "no space left", "small/run", "untouched")
        kept = reading.steps(small / "run" / "checkpoints")
        assert kept
        assert kept[-1] < 60
        subprocess.run(["mount", "-o", "remount,size=64m", small], check=True)
        result = door("train", *arguments)
        assert result.returncode == 0, result.stderr
        assert f"resuming from the checkpoint of step {kept[-1]}" in result.stdout


@pytest.mark.faults
def test_no_space_for_the_first_file(door, tmp_path):
    with mounted(tmp_path / "small", "size=4k"):
        says_one_sentence(door("train", *TINY, "--workdir=small/run"), "No space left")


@pytest.mark.one_row
@pytest.mark.faults
def test_read_only_workdir(door, run_copy, tmp_path):
    with mounted(tmp_path / "disk", "size=64m") as disk:
        shutil.copytree(run_copy, disk / "run")
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        result = door("train", *TINY, "--config.model.features=16", "--workdir=disk/new")
        says_one_sentence(result, "disk/new", "cannot be written", "Read-only")
        result = door("evaluate", "--workdir=disk/run")
        says_one_sentence(result, "evaluation.json", "--output")
        assert "360 examples" in result.stdout
        result = door("evaluate", "--workdir=disk/run", "--output=here.json")
        assert result.returncode == 0, result.stderr
        assert json.loads((tmp_path / "here.json").read_text())["n"] == 360


@pytest.mark.one_row
def test_nan_stops_the_run_and_keeps_the_last_good_checkpoint(door, tmp_path):
    from rcnn_jax.training.checkpoints import reading

    result = door(
        "train", *TINY, "--config.schedule.name=stepwise", "--config.schedule.value=0.01",
        "--config.schedule.boundaries=(0.5,)", "--config.schedule.factor=1e30",
        "--config.schedule.warmup_fraction=0.0",
        "--config.checkpoint_every=1", "--config.steps=8", "--config.evaluate_every=100",
        "--config.model.norm=none", "--workdir=run",
    )  # fmt: skip
    says_one_sentence(result, "diverged", "last good checkpoint", "config.schedule.value")
    kept = reading.steps(tmp_path / "run" / "checkpoints")
    assert kept
    assert kept[-1] <= 5
    assert f"of step {kept[-1]}, is kept" in result.stderr


def test_two_runs_in_one_workdir(door, run_copy):
    import fcntl

    with open(run_copy / ".lock", "a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        says_one_sentence(door("train", *TINY, "--workdir=run"), "in use by another")


def test_help_reads_well(door):
    result = door("train", "--help")
    assert result.returncode == 0
    assert "python -m rcnn_jax.train --config=configs/rcnn_digits.py" in result.stdout
    assert "--workdir" in result.stdout
    assert "continues where an earlier run of the same command stopped" in result.stdout


def test_output_that_nobody_reads(run_copy, tmp_path):
    """As `evaluate | head -1` does: what was found is saved, and nothing complains."""
    command = f"{sys.executable} -m rcnn_jax.evaluate --workdir=run | true; exit ${{PIPESTATUS[0]}}"
    env = {**os.environ, "XLA_FLAGS": ""}
    done = subprocess.run(
        ["bash", "-c", command], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (141, "")
