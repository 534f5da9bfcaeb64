"""Configs: complete, checked, and restored as they were."""

import json

import pytest
from ml_collections import ConfigDict

from rcnn_jax.configuration import importing, loading
from rcnn_jax.configuration.schema import DEFAULTS, RUNTIME_KEYS
from rcnn_jax.errors import UsageError
from rcnn_jax.startup import xla_flags

SMALLEST = {"model": {"name": "a:B"}, "data": {"name": "digits"}, "steps": 1}


def smallest(**changes):
    return loading.complete(SMALLEST | changes, "test")


@pytest.mark.parametrize("name", sorted(loading.shipped()))
def test_shipped_configs_and_their_variants_load(name):
    path = loading.shipped()[name]
    module, _ = loading._execute(path)
    for variant in ["", *getattr(module, "VARIANTS", {})]:
        config = loading.load(f"{name}:{variant}" if variant else name)
        assert set(config) == set(DEFAULTS)
    assert f"--config=configs/{name}.py" in module.__doc__


def test_json_restores_what_was_written(tmp_path):
    config = smallest(optimizer={"groups": (("a/.*", 0.1), ("b", 0.0))}, extra={"list": [1, [2]]})
    path = tmp_path / "config.json"
    path.write_text(loading.to_json(config))
    restored = loading.from_json(path)
    assert restored.to_dict() == config.to_dict()
    assert restored.optimizer.groups == (("a/.*", 0.1), ("b", 0.0))
    assert loading.differences(config, restored) == ([], [])


def test_an_empty_mapping_is_a_value(tmp_path):
    """It stands in place of the default of what is built; an empty section states nothing."""
    model = {"name": "a:B", "cell_options": {}, "deep": {"options": {}}}
    config = smallest(model=model, optimizer={}, decoding={})
    path = tmp_path / "config.json"
    path.write_text(loading.to_json(config))
    restored = loading.from_json(path)
    assert restored.model.to_dict() == config.model.to_dict() == model
    assert restored.optimizer.to_dict() == smallest().optimizer.to_dict()
    without = smallest(model={"name": "a:B", "deep": {"options": {}}})
    assert loading.differences(without, restored)[0] == ["model.cell_options: '(none)' -> {}"]
    assert loading.differences(config, restored) == ([], [])


def test_config_json_of_a_newer_version_is_refused_by_name(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(SMALLEST | {"quantum": True}))
    with pytest.raises(UsageError, match=r"config.json: there is no config key 'quantum'"):
        loading.from_json(path)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("batch_size", "32", 32),
        ("epochs", "2", 2.0),
        ("optimizer.nesterov", "True", True),
        ("optimizer.nesterov", "0", False),
        ("data.augment", "flip|random_crop(24)", "flip|random_crop(24)"),
        ("data.train", "3", "3"),
        ("schedule.boundaries", "(0.1, 0.2)", (0.1, 0.2)),
        ("schedule.boundaries", "[0.1]", (0.1,)),
        ("init_include", "rcl.*", ("rcl.*",)),
        ("init_include", "rcl.{1,2}", ("rcl.{1,2}",)),
        ("data.features", "image,label", ("image", "label")),
        ("data.features", "", ()),
        ("writers", "tensorboard", ("tensorboard",)),
        ("model.features", "64", 64),
        ("model.norm", "batch", "batch"),
        ("extra.deep.er", "{'a': 1}", {"a": 1}),
    ],
)
def test_an_override_is_read_as_the_type_it_replaces(key, text, value):
    config = smallest()
    loading.override(config, key, text)
    found = loading._lookup(config, key, "test")
    assert (found.to_dict() if isinstance(found, ConfigDict) else found) == value


@pytest.mark.parametrize(
    ("key", "text", "says"),
    [
        ("optimizer", "adam", "is a section; set one of its keys: optimizer.b1"),
        ("optimizer.name.x", "1", "'optimizer.name' is the value 'sgd' and has no keys"),
        ("batch_size", "True", "type int"),
        ("batch_size", "010", "type int .*, not '010' of type str"),
        ("batch_size", "1e3", "type int .*, not 1000.0 of type float"),
        ("schedule.value", "nan", "type float .*, not 'nan' of type str"),
        ("steps", "None", "type int"),
        ("data.workerz", "1", "did you mean 'data.workers'"),
    ],
)
def test_an_override_that_is_wrong(key, text, says):
    with pytest.raises(UsageError, match=says):
        loading.override(smallest(), key, text)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"steps": 0}, "exactly one of"),
        ({"epochs": 1.0}, "exactly one of"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"keep_best": -1}, "keep_best=-1 must be at least 0"),
        ({"model": {"name": ""}}, "config.model.name is empty"),
        ({"parallelism": "pjit"}, "did you mean 'jit'|allowed: 'jit', 'pmap'"),
        ({"schedule": {"warmup_fraction": 1.0}}, r"must be in \[0, 1\)"),
    ],
)
def test_values_out_of_range(changes, says):
    with pytest.raises(UsageError, match=says):
        loading.check(smallest(**changes), "test")


def test_differences_are_sorted_into_experiment_and_runtime():
    left = smallest()
    right = smallest(batch_size=3, log_every=7, mesh={"data": 2, "fsdp": 1}, extra={"x": 1})
    experiment, runtime = loading.differences(left, right)
    assert experiment == ["batch_size: 128 -> 3", "extra.x: '(none)' -> 1"]
    assert runtime == ["log_every: 50 -> 7", "mesh.data: -1 -> 2"]
    known = {k for k, _ in loading._leaves(DEFAULTS)} | set(DEFAULTS)
    assert set(RUNTIME_KEYS) <= known


def test_flags_of_the_compiler_are_set_where_known_and_the_users_win():
    flag = "xla_cpu_experimental_ynn_fusion_type=-individual_convolution"
    assert xla_flags.select([flag], (0, 11), "") == [f"--{flag}"]
    assert xla_flags.select([flag], (9, 9), "") == []
    own = "--xla_cpu_experimental_ynn_fusion_type= --xla_dump_to=x"
    assert xla_flags.select([flag], (0, 11), own) == []
    with pytest.raises(UsageError, match="not on the list"):
        xla_flags.select(["xla_gpu_magic=1"], (0, 11), "")


@pytest.mark.parametrize("flag", sorted(xla_flags.ALLOWED))
def test_the_installed_jaxlib_accepts_every_flag_on_the_list(door, tmp_path, flag):
    """An unknown flag would end the process before its first line of output."""
    value = {"xla_force_host_platform_device_count": "1"}.get(flag, "-individual_convolution")
    chosen = xla_flags.select([f"{flag}={value}"], xla_flags.jaxlib_version(), "")
    assert chosen
    (tmp_path / "count.py").write_text("import jax; print(jax.device_count())")
    result = door(tmp_path / "count.py", XLA_FLAGS=chosen[0])
    assert (result.returncode, result.stdout.strip()) == (0, "1"), result.stderr


@pytest.mark.one_row
@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("optim.name", "optimizer.name"),
        ("sched.value", "schedule.value"),
        ("modle.features", "model.features"),
        ("optimiser.momentun", "optimizer.momentum"),
        ("optim.lr", "schedule.value"),
    ],
)
def test_the_section_that_was_meant_comes_first(key, meant):
    with pytest.raises(UsageError, match=f"did you mean '{meant}'"):
        loading.override(smallest(), key, "adam")


@pytest.mark.one_row
def test_what_an_open_section_takes_is_not_for_the_old_value_to_say():
    config = smallest(model={"name": "a:B", "norm": "batch", "bias": None})
    loading.override(config, "model.norm", "None")
    loading.override(config, "model.bias", "3")
    assert (config.model.norm, config.model.bias) == (None, 3)
    loading.override(config, "model.norm", "layer")
    assert config.model.norm == "layer"
    for key, text in (("data.train", "None"), ("init_from", "None"), ("optimizer.name", "None")):
        with pytest.raises(UsageError, match=f"{key} takes a value of type str .*, not None"):
            loading.override(config, key, text)


@pytest.mark.one_row
@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"batch_size": True}, "batch_size takes a value of type int .* True of type bool"),
        ({"epochs": True}, "epochs takes a value of type float"),
        ({"data": {"name": "digits", "workers": True}}, "data.workers takes .* type int"),
        ({"optimizer": {"nesterov": 1}}, "optimizer.nesterov takes a value of type bool"),
        ({"mesh": {"data": 1.0}}, "mesh.data takes a value of type int"),
        ({"data": {"name": "digits", "features": ("image", 1)}}, "data.features=.* not 1 of type"),
        ({"init_include": (1.5,)}, "init_include=.* takes texts, not 1.5 of type float"),
        ({"xla_flags": (True,)}, "xla_flags=.* takes texts, not True of type bool"),
        ({"schedule": {"boundaries": (1,)}}, r"schedule.boundaries=\(1,\) are fractions"),
        ({"optimizer": {"groups": (("a", True),)}}, "optimizer.groups=.* must be pairs"),
        (
            {"optimizer": {"max_norm": (("a", float("nan")),)}},
            "max_norm=.* must be pairs",
        ),
        ({"fsdp": {"rules": ((".*", True),)}}, "fsdp.rules=.* must be pairs"),
        ({"writers": ("oops",)}, "or an import path such as 'my_fork.parts:Writer'"),
        ({"optimizer": {"name": "lion"}}, "or an import path such as 'optax:lion'"),
    ],
)
def test_a_value_of_another_type_is_refused(changes, says):
    with pytest.raises(UsageError, match=says):
        loading.check(smallest(**changes), "test")


@pytest.mark.one_row
def test_what_import_paths_take_is_set_on_the_command_line(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(loading.to_json(smallest()))
    config = loading.for_evaluation(path, [("metrics.iou.name", "my_fork:IoU")])
    assert config.metrics.to_dict() == {"iou": {"name": "my_fork:IoU"}}
    for key, text in (("optimizer.name", "optax:lion"), ("optimizer.options.b1", "0.95")):
        loading.override(config, key, text)
    assert config.optimizer.options.to_dict() == {"b1": 0.95}
    loading.check(config, "test")
    with pytest.raises(UsageError, match=r"there is no config key 'optimizer\.optoins\.b1'"):
        loading.override(config, "optimizer.optoins.b1", "1")
    with pytest.raises(UsageError, match=r"'model\.name' is the value 'a:B' and has no keys"):
        loading.override(config, "model.name.x", "1")


@pytest.mark.one_row
def test_a_stored_config_with_old_addresses_is_the_same_experiment(tmp_path, monkeypatch):
    old = {
        "model": {"name": "rcnn_jax.old.nets:Net", "cell": "rcnn_jax.old.cells:Cell"},
        "task": {"name": "rcnn_jax.tasks.captioning:Captioning", "judge": "rcnn_jax.old:judge"},
        "data": {
            "name": "digits",
            "augment": "flip|rcnn_jax.old.nets:crop(3, 'a:b')|to_float",
            "augment_until": ((0.5, "rcnn_jax.older.nets:crop(2)"),),
        },
    }
    new = {
        "model": {"name": "rcnn_jax.new.nets:Network", "cell": "rcnn_jax.new.cells:Cell"},
        "task": {"name": "rcnn_jax.tasks.captioning:Captioning", "judge": "rcnn_jax.judges:judge"},
        "data": {
            "name": "digits",
            "augment": "flip|rcnn_jax.new.nets:crop(3, 'a:b')|to_float",
            "augment_until": ((0.5, "rcnn_jax.new.nets:crop(2)"),),
        },
    }
    path = tmp_path / "config.json"
    path.write_text(loading.to_json(smallest(**old)))
    asked = smallest(**new)
    assert len(loading.differences(loading.from_json(path), asked)[0]) == 5
    moved = {
        "rcnn_jax.older.nets": "rcnn_jax.old.nets",
        "rcnn_jax.old.nets": "rcnn_jax.new.nets",
        "rcnn_jax.old.cells": "rcnn_jax.new.cells",
        "rcnn_jax.old:judge": "rcnn_jax.judges:judge",
        "rcnn_jax.old.nets:Net": "rcnn_jax.new.nets:Network",
    }
    monkeypatch.setattr(importing, "MOVED", moved)
    assert loading.from_json(path).to_dict() == asked.to_dict()
    assert loading.differences(smallest(**old), asked) == ([], [])
