"""`python -m rcnn_jax`: the commands and the keys of a config."""

import pathlib
import subprocess
import sys

import pytest

import rcnn_jax
from rcnn_jax import __main__ as commands
from rcnn_jax.configuration import loading
from rcnn_jax.configuration.key_listing import key_listing, keys
from rcnn_jax.configuration.schema import DEFAULTS

pytestmark = pytest.mark.one_row


def test_every_door_is_listed_with_what_it_does(capsys):
    assert commands.main([]) == 0
    shown = capsys.readouterr().out
    package = pathlib.Path(rcnn_jax.__file__).parent
    files = [*package.glob("*.py"), *package.glob("*/__main__.py")]
    doors = {
        file.stem if file.parent == package else file.parent.name
        for file in files
        if "\n    doors.run(main" in file.read_text()
    }
    assert len(doors) >= 11
    assert doors == set(commands.commands())
    assert "python -m rcnn_jax.train       Trains what a config states" in shown


def test_a_mistyped_command_is_answered_with_the_nearest(capsys):
    assert commands.main(["trian"]) == 2
    assert "no command 'trian': did you mean 'train'?" in capsys.readouterr().err
    assert commands.main(["keys", "optimzer"]) == 2
    assert "did you mean 'optimizer'?" in capsys.readouterr().err


def test_a_command_is_run_by_its_name(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "rcnn_jax", "summary", "--hlep"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (2, "")
    assert "'hlep'" in result.stderr


def test_all_keys_are_listed_with_their_defaults_and_comments():
    default = loading.ConfigDict(DEFAULTS)
    listed = {key.name: key for key in keys()}
    for name, value in loading._leaves(DEFAULTS):
        assert eval(listed[name].default) == value, name  # noqa: S307
    assert len(listed) > len(default)
    assert listed["schedule.value"].about == "the peak learning rate"
    assert listed["optimizer.momentum_fraction"].about.endswith("all steps; 0: never")
    text = key_listing(["fsdp"])
    assert "fsdp.min_size = 65536" in text
    assert "batch_size" not in text


@pytest.mark.parametrize("name", sorted(commands.commands()))
def test_help_imports_nothing_that_takes_long(name):
    script = f"""
import runpy, sys
sys.argv = ["rcnn_jax.{name}", "--help"]
try:
    runpy.run_module("rcnn_jax.{name}", run_name="__main__", alter_sys=True)
except SystemExit:
    pass
heavy = {{"jax", "flax", "optax", "orbax", "grain", "matplotlib", "scipy", "PIL"}}
sys.stderr.write(" ".join(sorted(heavy & set(sys.modules))))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert f"rcnn_jax.{name}" in done.stdout
    assert not done.stderr
