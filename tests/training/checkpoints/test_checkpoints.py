"""Checkpoints: what is written is what is read, on any devices, and no damage goes unseen."""

import errno
import gc
import math
import os
import pathlib
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import multihost_utils

from rcnn_jax.configuration.loading import complete
from rcnn_jax.errors import UserError
from rcnn_jax.training import parameters
from rcnn_jax.training.checkpoints import checksums, reading, saving
from rcnn_jax.training.checkpoints import errors as checkpoint_errors
from rcnn_jax.training.parallel.mesh import make_devices
from rcnn_jax.training.state import TrainState

# A read that fails leaves coroutines behind in Orbax; they are collected here, not in another test.
pytestmark = pytest.mark.filterwarnings(
    "ignore:coroutine .* was never awaited:RuntimeWarning",
    "ignore::pytest.PytestUnraisableExceptionWarning",
)


@pytest.fixture(autouse=True, scope="module")
def collect():
    yield
    gc.collect()


MESHES = {1: {"data": 1, "fsdp": 1}, 2: {"data": 1, "fsdp": 2}, 4: {"data": 4, "fsdp": 1}}


def devices_of(count):
    return make_devices(MESHES[count], "jit", jax.devices()[:count])


def make_state(devices, step: int = 3, width: int = 5) -> TrainState:
    params = {"layer": {"kernel": jnp.arange(4.0 * width).reshape(4, width) + step}}
    state = TrainState(
        step=jnp.asarray(step, jnp.int32),
        params=params,
        model_state={"batch_stats": {"mean": jnp.full(width, 0.1)}},
        opt_state=(jax.tree.map(jnp.zeros_like, params), jnp.zeros((), jnp.int32)),
        plateau=(),
        rate_scale=jnp.ones((), jnp.float32),
        carry=jnp.arange(8.0).reshape(4, 2),
        ema={"params": jax.tree.map(lambda x: x.astype(jnp.bfloat16), params), "model_state": {}},
        key=jax.random.key(step),
    )
    return jax.device_put(state, devices.state_shardings(state))


def abstract_of(devices, **kwargs):
    state = make_state(devices, **kwargs)
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state
    )


def to_host(tree):
    return {path: np.asarray(checksums.raw(x)) for path, x in parameters.flatten(tree).items()}


def config(**changes):
    return complete({"keep_latest": 2, "keep_best": 1, **changes}, "test")


def save_all(folder, metrics, **changes):
    devices = devices_of(1)
    with saving.Checkpoints(folder, config(**changes)) as saver:
        for step, values in metrics.items():
            saver.save(step, make_state(devices, step), evaluates=bool(values))
            if values:
                saver.evaluated(step, values)


def assert_equal(left, right):
    left, right = to_host(left), to_host(right)
    assert left.keys() == right.keys()
    for path, array in left.items():
        assert array.dtype == right[path].dtype, path
        np.testing.assert_array_equal(array, right[path], path)


def test_after_a_save_that_failed_any_step_can_be_saved(tmp_path, monkeypatch):
    """Also that step itself, and a lower one, as after a rollback; none is named too early."""
    rename, full = os.rename, {"20"}

    def rename_or_fail(source, target, *args, **kwargs):
        if pathlib.Path(target).name in full:
            raise OSError(errno.ENOSPC, "No space left on device")
        return rename(source, target, *args, **kwargs)

    monkeypatch.setattr(os, "rename", rename_or_fail)
    devices = devices_of(1)
    with saving.Checkpoints(tmp_path, config(keep_latest=9)) as saver:
        saver.save(10, make_state(devices, 10))
        saver.save(20, make_state(devices, 20))
        with pytest.raises(UserError, match=r"step 20 was not saved; the checkpoint of step 10 is"):
            saver.wait()
        assert (saver.last_good, reading.steps(tmp_path)) == (10, [10])
        full.clear()
        for step in (20, 15, 30):
            saver.save(step, make_state(devices, step))
            saver.wait()
            assert saver.last_good == step
    assert reading.steps(tmp_path) == [10, 15, 20, 30]
    for step in (10, 15, 20, 30):
        restored = reading.restore(tmp_path, step, abstract_of(devices, step=step))
        assert_equal(restored.state, make_state(devices, step))
    assert not list(tmp_path.glob("*tmp*"))


def test_a_save_that_the_library_leaves_out_is_an_error(tmp_path, monkeypatch):
    with saving.Checkpoints(tmp_path, config()) as saver:
        monkeypatch.setattr(saver._writer, "save_async", lambda *args, **kwargs: None)
        with pytest.raises(UserError, match=r"step 10 was not saved to .*: Orbax left it out"):
            saver.save(10, make_state(devices_of(1), 10))
        saver.wait()
        assert saver.last_good is None


@pytest.mark.parametrize(("saved_on", "restored_on"), [(1, 4), (4, 2), (4, 1), (2, 2)])
def test_restored_on_another_number_of_devices(tmp_path, saved_on, restored_on):
    state = make_state(devices_of(saved_on))
    with saving.Checkpoints(tmp_path, config()) as saver:
        saver.save(3, state, evaluates=True)
        saver.evaluated(3, {"error": 0.25})
    abstract = abstract_of(devices_of(restored_on))
    restored = reading.restore(tmp_path, 3, abstract)
    assert_equal(restored.state, state)
    assert restored.metrics == {"error": 0.25}
    assert restored.state.params["layer"]["kernel"].sharding.num_devices == restored_on
    assert isinstance(restored.state.opt_state, tuple)


def test_keeps_the_latest_and_the_best(tmp_path):
    errors = {1: 0.5, 2: 0.1, 3: 0.3, 4: 0.4, 5: 0.6}
    save_all(tmp_path, {step: {"error": e} for step, e in errors.items()} | {6: {}})
    assert reading.steps(tmp_path) == [2, 5, 6]
    damaged = []
    best = reading.restore_best(tmp_path, abstract_of(devices_of(1)), "error", "min", damaged)
    assert (best.step, damaged) == (2, [])


def test_best_by_a_metric_to_maximise_and_the_latest_of_equals(tmp_path):
    save_all(
        tmp_path,
        {s: {"f1": f} for s, f in {1: 0.2, 2: 0.9, 3: 0.9, 4: 0.3, 5: 0.3}.items()},
        best_metric="f1",
        best_mode="max",
    )
    assert reading.steps(tmp_path) == [3, 4, 5]
    best = reading.restore_best(tmp_path, abstract_of(devices_of(1)), "f1", "max", [])
    assert best.step == 3


def test_no_older_checkpoint_is_deleted_before_the_newest_is_evaluated(tmp_path):
    """Its evaluation may show that training has diverged: then it is moved aside."""
    devices = devices_of(1)
    with saving.Checkpoints(tmp_path / "checkpoints", config(keep_latest=1, keep_best=0)) as saver:
        saver.save(1, make_state(devices, 1), evaluates=True)
        saver.evaluated(1, {"error": 0.5})
        saver.save(2, make_state(devices, 2), evaluates=True)
        saver.wait()
        assert reading.steps(tmp_path / "checkpoints") == [1, 2]
        assert "of step 1, is kept" in str(saver.reject(2, "the error is nan"))
    assert reading.steps(tmp_path / "checkpoints") == [1]
    assert [path.name.partition("-")[0] for path in (tmp_path / "damaged").iterdir()] == ["2"]


def test_an_evaluation_that_was_not_finished_leaves_none(tmp_path):
    devices = devices_of(1)
    with saving.Checkpoints(tmp_path, config()) as saver:
        saver.save(1, make_state(devices, 1), evaluates=True)
    assert reading.restore(tmp_path, 1, abstract_of(devices)).metrics == {}
    with saving.Checkpoints(tmp_path, config()) as saver:  # the next start
        saver.evaluated(1, {"error": 0.5})
    assert reading.restore(tmp_path, 1, abstract_of(devices)).metrics == {"error": 0.5}


def test_the_best_is_a_number_and_a_damaged_evaluation_is_named(tmp_path):
    values = {1: {"f1": 0.2}, 2: {"f1": math.nan}, 3: {"f1": 0.9}}
    changes = {"best_metric": "f1", "best_mode": "max", "keep_latest": 3}
    save_all(tmp_path, values, **changes)
    file = tmp_path / "3" / "evaluation.json"
    file.write_text(file.read_text().replace("0.9", "0.1"))
    damaged = []
    best = reading.restore_best(tmp_path, abstract_of(devices_of(1)), "f1", "max", damaged)
    assert best.step == 1
    assert len(damaged) == 1
    assert str(tmp_path / "3") in damaged[0]


@pytest.mark.one_row
def test_metrics_of_older_versions_lie_in_the_manifest(tmp_path):
    """Their states have answered to these metrics, and are among the best."""
    stored = pathlib.Path(__file__).parents[2] / "stored" / "a20cca2" / "digits"
    manifest = reading._manifest(stored / "checkpoints", 10)
    assert manifest["metrics"] == reading.read_metrics(stored / "checkpoints", 10)
    folder = tmp_path / "checkpoints"
    shutil.copytree(stored / "checkpoints", folder)
    with saving.Checkpoints(folder, config(keep_latest=1)) as saver:
        for step in (11, 12):
            saver.save(step, make_state(devices_of(1), step), evaluates=True)
            saver.evaluated(step, {"error": 1.0})
    assert reading.steps(folder) == [10, 12]


@pytest.mark.one_row
def test_arrays_without_elements_are_saved_and_restored(tmp_path):
    """As of a layer of which a config wants none: Orbax refuses them."""
    devices = devices_of(1)

    def empty(state):
        return state.replace(params={**state.params, "tokens": jnp.zeros((0, 8))})

    state = empty(make_state(devices))
    with saving.Checkpoints(tmp_path, config()) as saver:
        saver.save(3, state)
    abstract = abstract_of(devices)
    tokens = jax.ShapeDtypeStruct((0, 8), jnp.float32, sharding=abstract.step.sharding)
    abstract = abstract.replace(params={**abstract.params, "tokens": tokens})
    assert_equal(reading.restore(tmp_path, 3, abstract).state, state)
    assert reading.read_variables(tmp_path, []).keys() == {"params/layer/kernel"}


@pytest.mark.one_row
def test_saving_leaves_the_service_that_warns_alone(tmp_path, monkeypatch):
    """Orbax asks it with the number of the step, and the run's warning would be lost to that."""

    def asked(count):
        raise AssertionError(f"asked with {count}")

    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", asked)
    save_all(tmp_path, {3: {"error": 0.5}, 4: {}})
    assert reading.steps(tmp_path) == [3, 4]


def test_best_needs_the_metric(tmp_path):
    save_all(tmp_path, {1: {}})
    with pytest.raises(ValueError, match="--step=latest"):
        reading.restore_best(tmp_path, abstract_of(devices_of(1)), "error", "min", [])


@pytest.mark.one_row
def test_a_flipped_bit_anywhere_is_detected_or_harmless(tmp_path):
    """In each file of a checkpoint, at many places: found out, or what is read is still right."""
    save_all(tmp_path / "whole", {3: {"error": 0.25}})
    abstract, original = abstract_of(devices_of(1)), make_state(devices_of(1), 3)
    found = []
    files = sorted(p for p in (tmp_path / "whole" / "3").rglob("*") if p.is_file())
    for file in files:
        data = file.read_bytes()
        places = sorted({0, len(data) - 1, *range(0, len(data), max(1, len(data) // 12))})
        for place in places if data else []:
            altered = bytearray(data)
            altered[place] ^= 0x10
            file.write_bytes(altered)
            try:
                restored = reading.restore(tmp_path / "whole", 3, abstract)
            except checkpoint_errors.DamagedError as error:
                found.append((file.name, str(error)))
            else:
                assert_equal(restored.state, original)
                # A damaged evaluation counts as none, and is repeated.
                assert restored.metrics == {"error": 0.25} or file.name == "evaluation.json"
        file.write_bytes(data)
    assert len(found) > 20
    assert "_CHECKPOINT_METADATA" in {name for name, _ in found}
    assert all(str(tmp_path / "whole" / "3") in message for _, message in found)


def test_every_leaf_has_a_checksum_that_sees_one_bit(tmp_path):
    """A change that the format itself does not notice: one bit of one leaf, stored anew."""
    save_all(tmp_path / "whole", {3: {}})
    state = make_state(devices_of(1), 3)
    arrays = to_host(state)
    leaves = reading._manifest(tmp_path / "whole", 3)["leaves"]
    assert leaves.keys() == arrays.keys()
    for path, array in arrays.items():
        altered = array.copy()
        raw = altered.reshape(-1).view(np.uint8)
        raw[-1] ^= 1
        assert checksums.checksum(altered) != leaves[path][2], path


def test_the_newest_whole_checkpoint_is_taken_and_the_damaged_one_moved_aside(tmp_path):
    folder = tmp_path / "checkpoints"
    save_all(folder, {1: {"error": 0.5}, 2: {"error": 0.4}})
    for file in (folder / "2" / "state").rglob("d/*"):
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    damaged = []
    restored = reading.restore_latest(folder, abstract_of(devices_of(1)), damaged)
    assert restored.step == 1
    assert len(damaged) == 1
    assert str(folder / "2") in damaged[0]
    (target,) = reading.set_aside(folder, newer_than=1)
    assert pathlib.Path(target).is_dir()
    assert reading.steps(folder) == [1]
    save_all(folder, {2: {"error": 0.4}})
    assert reading.steps(folder) == [1, 2]


def test_a_run_whose_checkpoints_are_all_damaged_does_not_start_anew(tmp_path):
    save_all(tmp_path, {1: {}})
    (tmp_path / "1" / "state" / "manifest.ocdbt").unlink()
    with pytest.raises(checkpoint_errors.DamagedError, match=r"no checkpoint in .* is whole"):
        reading.restore_latest(tmp_path, abstract_of(devices_of(1)), [])


def test_no_checkpoint_at_all(tmp_path):
    assert reading.restore_latest(tmp_path / "none", abstract_of(devices_of(1)), []) is None


def test_a_checkpoint_of_another_model(tmp_path):
    save_all(tmp_path, {3: {}})
    with pytest.raises(checkpoint_errors.ForeignError, match=r"params/layer/kernel has shape"):
        reading.restore_latest(tmp_path, abstract_of(devices_of(1), width=6), [])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"dtype": jnp.int32}, r"kernel has shape \(4, 5\) float32 where .* \(4, 5\) int32"),
        ({"dtype": jnp.bfloat16}, r"float32 where .* bfloat16"),
        ({"shape": (5, 4)}, r"shape \(4, 5\) float32 where .* \(5, 4\) float32"),
    ],
)
def test_no_leaf_is_cast_or_reshaped(tmp_path, change, says):
    """Orbax would do both without a word, if it were left to it."""
    save_all(tmp_path, {3: {}})
    abstract = abstract_of(devices_of(1))
    leaf = abstract.params["layer"]["kernel"]
    abstract.params["layer"]["kernel"] = jax.ShapeDtypeStruct(
        change.get("shape", leaf.shape), change.get("dtype", leaf.dtype), sharding=leaf.sharding
    )
    with pytest.raises(checkpoint_errors.ForeignError, match=says):
        reading.restore(tmp_path, 3, abstract)


@pytest.mark.parametrize("other", [lambda x: x.astype(np.int32), lambda x: x.reshape(5, 4)])
def test_what_is_read_in_another_form_than_it_was_saved_is_damage(tmp_path, monkeypatch, other):
    save_all(tmp_path, {3: {}})
    load = reading.ocp.load

    def load_another(*arguments, **options):
        state = load(*arguments, **options)
        state.params["layer"]["kernel"] = other(state.params["layer"]["kernel"])
        return state

    monkeypatch.setattr(reading.ocp, "load", load_another)
    with pytest.raises(
        checkpoint_errors.DamagedError, match=r"kernel is .* and was float32\[4, 5\]"
    ):
        reading.restore(tmp_path, 3, abstract_of(devices_of(1)))


def test_leftovers_of_a_killed_save_are_no_checkpoint(tmp_path):
    save_all(tmp_path, {1: {}})
    shutil.copytree(tmp_path / "1", tmp_path / "2.orbax-checkpoint-tmp")
    assert reading.steps(tmp_path) == [1]


def test_a_checkpoint_without_its_metadata_is_named_moved_and_saved_anew(tmp_path):
    save_all(tmp_path, {1: {}, 2: {}})
    (tmp_path / "2" / "_CHECKPOINT_METADATA").unlink()
    damaged = []
    restored = reading.restore_latest(tmp_path, abstract_of(devices_of(1)), damaged)
    assert restored.step == 1
    assert len(damaged) == 1
    (first,) = reading.set_aside(tmp_path, newer_than=1)
    save_all(tmp_path, {2: {}})
    assert reading.restore(tmp_path, 2, abstract_of(devices_of(1))).step == 2
    # Another one is moved beside the first.
    (second,) = reading.set_aside(tmp_path, newer_than=1)
    assert first != second
    assert all(pathlib.Path(moved).is_dir() for moved in (first, second))


def test_a_state_that_is_not_finite_is_never_saved(tmp_path):
    devices = devices_of(1)
    state = make_state(devices, 2)
    state = state.replace(model_state={"batch_stats": {"mean": jnp.full(5, jnp.nan)}})
    with saving.Checkpoints(tmp_path, config()) as saver:
        saver.save(1, make_state(devices, 1))
        with pytest.raises(checkpoint_errors.DivergedError, match="of step 1, is kept"):
            saver.save(2, state)
    assert reading.steps(tmp_path) == [1]


def test_parameters_alone_are_read_without_the_model(tmp_path):
    save_all(tmp_path, {3: {}})
    weights = reading.read_variables(tmp_path, [])
    expected = make_state(devices_of(1), 3).ema["params"]["layer"]["kernel"]
    assert list(weights) == ["params/layer/kernel"]
    np.testing.assert_array_equal(weights["params/layer/kernel"], np.asarray(expected))


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint8, np.bool_, "bf16"])
def test_a_checksum_sees_every_bit_and_the_order(dtype):
    dtype = jnp.bfloat16 if dtype == "bf16" else dtype
    array = (np.arange(48) % 7).astype(dtype)
    known = checksums.checksum(array)
    assert checksums.checksum(array.reshape(6, 8)) == known
    assert checksums.checksum(array[::-1].copy()) != known
    assert checksums.checksum(array[:-1]) != known
    size = array.dtype.itemsize
    for bit in range(array.size * size * 8 if dtype != np.bool_ else 0):
        altered = array.copy()
        altered.view(np.uint8)[bit // 8] ^= 1 << (bit % 8)
        assert checksums.checksum(altered) != known


def test_zeros_of_another_length_have_another_checksum():
    assert checksums.checksum(np.zeros(3)) != checksums.checksum(np.zeros(4))
