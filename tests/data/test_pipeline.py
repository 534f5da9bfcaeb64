"""From a source to batches on the device: the same bits whatever the way."""

import functools
import gc
import subprocess
import sys
import textwrap
import threading
import types

import jax
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from rcnn_jax.data import catalog, pipeline, samplers, sources

RESIDENCIES = sources.RESIDENCIES


@functools.cache
def mesh():
    return jax.make_mesh((4,), ("data",), axis_types=(AxisType.Auto,))


def sharded(batch):
    return jax.device_put(batch, NamedSharding(mesh(), PartitionSpec("data")))


def replicated(arrays):
    return jax.device_put(arrays, NamedSharding(mesh(), PartitionSpec()))


def per_device(batch):
    """The layout of pmap: [devices, batch / devices, ...]."""
    return sharded({name: v.reshape(4, -1, *v.shape[1:]) for name, v in batch.items()})


def split_by_columns(arrays):
    """An odd way to keep whole arrays; batches must still lie as `place` lays them."""
    specs = {n: (None, "data") if v.ndim > 1 else () for n, v in arrays.items()}
    return {
        n: jax.device_put(v, NamedSharding(mesh(), PartitionSpec(*specs[n])))
        for n, v in arrays.items()
    }


def on_one_device(batch):
    return jax.device_put(batch, jax.devices()[1])


@pytest.fixture(scope="module")
def digits_by_residency(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield {
            residency: catalog.open_source("digits", "validation", residency=residency)
            for residency in RESIDENCIES
        }


def identical(first, second):
    assert len(first) == len(second) > 0
    for one, other in zip(first, second, strict=True):
        assert set(one) == set(other)
        for name in one:
            np.testing.assert_array_equal(one[name], other[name])
            assert one[name].dtype == other[name].dtype
            assert one[name].sharding == other[name].sharding


@pytest.mark.parametrize(
    ("place", "place_all"),
    [
        (sharded, replicated),
        (sharded, sharded),
        (sharded, split_by_columns),
        (per_device, replicated),
        (on_one_device, on_one_device),
    ],
)
def test_all_residencies_deliver_the_same_bits(digits_by_residency, place, place_all):
    """Over an epoch's end, from a step in the middle."""
    sampler = samplers.Shuffled(180, 32, seed=1)
    found = {}
    for residency, source in digits_by_residency.items():
        with pipeline.train_batches(
            source, sampler, start_step=4, num_steps=5, residency=residency, place=place,
            place_all=place_all,
        ) as batches:  # fmt: skip
            found[residency] = list(batches)
    identical(found["memory"], found["stream"])
    identical(found["memory"], found["device"])
    whole = digits_by_residency["memory"].gather(np.arange(180))
    for step, batch in enumerate(found["memory"], start=4):
        for name, values in whole.items():
            wanted = place({name: values[sampler.indices(step)]})[name]
            np.testing.assert_array_equal(batch[name], wanted)
        assert (np.asarray(batch["mask"]) == 1).all()
        assert batch["mask"].dtype == np.float32


@pytest.mark.parametrize("residency", RESIDENCIES)
def test_evaluation_counts_every_example_once(digits_by_residency, residency):
    source = digits_by_residency[residency]
    with pipeline.evaluation_batches(
        source, 64, residency=residency, place=sharded, place_all=replicated
    ) as batches:
        found = list(batches)
    assert [batch["image"].shape for batch in found] == [(64, 8, 8, 1)] * 3
    assert [int(batch["mask"].sum()) for batch in found] == [64, 64, 52]
    real = np.concatenate([np.asarray(b["id"])[np.asarray(b["mask"]) > 0] for b in found])
    expected = digits_by_residency["memory"].gather(np.arange(180))["id"]
    np.testing.assert_array_equal(real, expected)
    for name in ("image", "label", "id"):
        assert not np.asarray(found[-1][name])[52:].any()


@pytest.mark.parametrize("residency", RESIDENCIES)
def test_a_later_start_continues_as_if_nothing_had_happened(digits_by_residency, residency):
    sampler = samplers.Shuffled(180, 28, seed=9)
    start = functools.partial(
        pipeline.train_batches, digits_by_residency[residency], sampler, residency=residency,
        place=sharded, place_all=replicated,
    )  # fmt: skip
    with start(start_step=0, num_steps=10) as whole:
        expected = list(whole)
    with start(start_step=0, num_steps=10) as first:
        head = [next(first) for _ in range(4)]
        position = first.step
    with start(start_step=position, num_steps=6) as rest:
        identical(expected, head + list(rest))
    assert (position, rest.step) == (4, 10)


@pytest.mark.parametrize("residency", RESIDENCIES)
def test_processes_share_out_the_rows_of_each_batch(digits_by_residency, residency):
    source = digits_by_residency[residency]

    def batches(**shard):
        evaluated = pipeline.evaluation_batches(
            source, 56, residency=residency, place=jax.device_put, **shard
        )
        with evaluated:
            return [jax.tree.map(np.asarray, batch) for batch in evaluated]

    whole = batches()
    # Two of them hold neighbouring rows, two have theirs in between each other's.
    locals_ = [np.arange(14), np.arange(14, 28), np.arange(28, 56, 2), np.arange(29, 56, 2)]
    shards = [batches(local_rows=rows) for rows in locals_]
    # 180 = 3 * 56 + 12: in the last batch all but the first process have padding alone.
    assert [len(shard) for shard in shards] == [4] * 4
    assert shards[3][3]["mask"].sum() == 0
    for step, batch in enumerate(whole):
        for name, values in batch.items():
            for rows, shard in zip(locals_, shards, strict=True):
                np.testing.assert_array_equal(shard[step][name], values[rows])


@pytest.mark.parametrize("residency", RESIDENCIES)
def test_a_sampler_may_say_which_example_a_row_is(digits_by_residency, residency):
    sampler, local = samplers.ShuffledWithEpochs(180, 28, seed=9), np.arange(4, 24)
    start = functools.partial(
        pipeline.train_batches, digits_by_residency[residency], start_step=5, num_steps=3,
        residency=residency, place_all=replicated, place=sharded, local_rows=local,
    )  # fmt: skip
    with start(sampler=samplers.Shuffled(180, 28, seed=9)) as plain, start(sampler=sampler) as own:
        for step, (without, batch) in enumerate(zip(plain, own, strict=True), start=5):
            added = {name: np.asarray(batch.pop(name)) for name in ("index", "epoch")}
            identical([without], [batch])
            np.testing.assert_array_equal(added["index"], sampler.indices(step)[local])
            np.testing.assert_array_equal(added["epoch"], (28 * step + local) // 180)
            assert {values.dtype for values in added.values()} == {np.dtype("int32")}


def test_a_column_of_a_features_name_is_refused(counting):
    class Clashing(samplers.ShuffledWithEpochs):
        columns = types.MappingProxyType({"label": "int32"})

        def column_values(self, step):
            return {"label": np.zeros(self.batch_size)}

    for residency in ("memory", "device"):
        batches = pipeline.train_batches(
            counting, Clashing(len(counting), 4, 0), start_step=0, num_steps=1,
            residency=residency, place=jax.device_put,
        )  # fmt: skip
        with batches, pytest.raises(ValueError, match="column 'label'"):
            next(batches)


class Failing:
    """A source whose disk fails at one example."""

    features = types.MappingProxyType({})

    def __len__(self):
        return 40

    def __getitem__(self, index):
        return {"x": np.zeros(2)}

    def gather(self, indices):
        if 21 in indices:
            raise OSError("the disk is gone")
        return {"x": np.zeros((len(indices), 2), np.float32)}


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("residency", ["stream", "memory"])
def test_an_error_in_a_worker_reaches_the_caller_at_its_step(residency, prefetch):
    batches = pipeline.evaluation_batches(
        Failing(), 4, residency=residency, place=jax.device_put, prefetch=prefetch
    )
    for _ in range(5):
        next(batches)
    with pytest.raises(OSError, match="the disk is gone"):
        next(batches)
    assert batches.step == 5
    with pytest.raises(StopIteration):
        next(batches)


def test_an_error_in_place_reaches_the_caller(counting):
    def place(batch):
        raise RuntimeError("out of device memory")

    for residency in ("memory", "device"):
        batches = pipeline.evaluation_batches(counting, 4, residency=residency, place=place)
        with pytest.raises(RuntimeError, match="out of device memory"):
            next(batches)


def own_threads():
    return [t for t in threading.enumerate() if t.name.startswith(("batches", "grain"))]


@pytest.mark.parametrize("how", ["with", "close twice", "to the end", "dropped"])
@pytest.mark.parametrize("residency", RESIDENCIES)
def test_no_thread_stays_behind(counting, residency, how):
    batches = pipeline.train_batches(
        counting, samplers.Shuffled(23, 4, 0), start_step=0, num_steps=30, residency=residency,
        place=jax.device_put,
    )  # fmt: skip
    threads = [next(batches) and None, *own_threads()][1:]
    assert threads
    match how:
        case "with":
            with batches:
                next(batches)
        case "close twice":
            batches.close()
            batches.close()
        case "to the end":
            assert len(list(batches)) == 29
        case "dropped":
            del batches
            gc.collect()
    for thread in threads:
        thread.join(timeout=20)
        assert not thread.is_alive()


def test_an_abandoned_iterator_does_not_keep_the_interpreter_alive():
    script = """
        import jax, numpy as np
        from rcnn_jax.data import pipeline, samplers, sources
        source = sources.ArraySource({"x": np.arange(10)})
        for residency in ("memory", "stream"):
            batches = pipeline.train_batches(
                source, samplers.Shuffled(10, 4, 0), start_step=0, num_steps=10**9,
                residency=residency, place=jax.device_put)
            print(next(batches)["mask"].sum())
            globals()[residency] = batches
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "4.0\n4.0\n"), done.stderr


def test_batches_are_placed_ahead_but_no_further_than_asked(counting):
    placed, two_are_there = [], threading.Event()

    def place(batch):
        placed.append(batch)
        if len(placed) == 2:
            two_are_there.set()
        return jax.device_put(batch)

    with pipeline.evaluation_batches(
        counting, 2, residency="memory", place=place, prefetch=2
    ) as batches:
        assert two_are_there.wait(timeout=20)
        next(batches)
        next(batches)
    assert len(placed) <= 4


def test_the_time_waited_for_data_is_counted(counting, monkeypatch):
    clock = [0.0]
    fake = types.SimpleNamespace(perf_counter=lambda: clock[0])
    monkeypatch.setattr(pipeline, "time", fake)

    def place(batch):
        clock[0] += 5.0
        return jax.device_put(batch)

    batches = pipeline.evaluation_batches(counting, 8, residency="memory", place=place, prefetch=0)
    for _ in batches:
        clock[0] += 100.0  # computing is not waiting
    assert batches.waited_s == 15.0


def test_arrays_go_to_the_device_once_for_many_evaluations(counting):
    calls = []

    def place_all(arrays):
        calls.append(arrays)
        return replicated(arrays)

    resident = pipeline.DeviceSource(counting, place_all)
    for _ in range(3):
        with pipeline.evaluation_batches(resident, 8, residency="device", place=sharded) as batches:
            labels = np.concatenate([np.asarray(batch["label"]) for batch in batches])
            assert labels[:23].tolist() == list(range(23))
    assert len(calls) == 1
    with pytest.raises(ValueError, match="serves residency 'device', not 'memory'"):
        pipeline.evaluation_batches(resident, 8, residency="memory", place=sharded)


@pytest.mark.parametrize("residency", RESIDENCIES)
def test_double_precision_survives_the_background_thread(x64, residency):
    source = sources.ArraySource({"image": np.random.default_rng(0).normal(size=(8, 2, 2, 1))})
    with pipeline.evaluation_batches(
        source, 4, residency=residency, place=jax.device_put
    ) as batches:
        batch = next(batches)
    assert batch["image"].dtype == np.float64
    np.testing.assert_array_equal(batch["image"], source.gather(np.arange(4))["image"])


@pytest.mark.parametrize("residency", RESIDENCIES)
def test_a_batch_may_be_larger_than_the_data(counting, residency):
    sampler = samplers.Shuffled(23, 50, seed=0)
    with pipeline.train_batches(
        counting, sampler, start_step=0, num_steps=1, residency=residency, place=jax.device_put
    ) as batches:
        counts = np.bincount(next(batches)["label"], minlength=23)
    assert counts.sum() == 50
    assert set(counts.tolist()) == {2, 3}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"residency": "ram"}, "residency 'ram' is not one of"),
        ({"sampler": samplers.Shuffled(22, 4, 0)}, "orders 22 examples, the source has 23"),
        ({"start_step": -1}, "at least 0"),
        ({"workers": 0}, "workers at least 1"),
        ({"prefetch": -1}, "prefetch must be at least 0, got -1"),
        ({"local_rows": np.array([2, 4])}, "local_rows must be from 0 to batch_size - 1 = 3"),
        ({"local_rows": np.array([-1, 1])}, "got -1 to 1"),
    ],
)
def test_impossible_arguments_are_refused(counting, changed, says):
    arguments = {
        "sampler": samplers.Shuffled(23, 4, 0), "start_step": 0, "num_steps": 3,
        "residency": "memory", "place": jax.device_put, **changed,
    }  # fmt: skip
    with pytest.raises(ValueError, match=says):
        pipeline.train_batches(counting, **arguments)
