"""Devices as a named mesh, and the placement of batches and states on them."""

import dataclasses
import functools
from typing import Any

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from rcnn_jax.errors import UsageError
from rcnn_jax.layers.randomness import DATA_AXIS
from rcnn_jax.training import parameters
from rcnn_jax.training.interface import PyTree
from rcnn_jax.training.parallel import fsdp_rules

FSDP_AXIS = "fsdp"
DEFAULT_RULES = fsdp_rules.Rules()


@dataclasses.dataclass(frozen=True)
class Devices:
    """Mesh of devices and the way in which a step runs on it.

    Attributes:
        mesh: Mesh with the axes `data` and `fsdp`.
        parallelism: "jit" or "pmap".
        rules: Rules for which parameters are sharded along `fsdp`.
    """

    mesh: Mesh
    parallelism: str
    rules: fsdp_rules.Rules = DEFAULT_RULES

    @property
    def count(self) -> int:
        """Number of devices."""
        return self.mesh.devices.size

    @property
    def kind(self) -> str:
        """Model of the devices, such as "cpu"."""
        return self.mesh.devices.flat[0].device_kind

    @property
    def platform(self) -> str:
        """Platform of the devices: "cpu", "gpu" or "tpu"."""
        return self.mesh.devices.flat[0].platform

    @property
    def replicated(self) -> NamedSharding:
        """Sharding of an array with the same values on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    @property
    def batch(self) -> NamedSharding:
        """Sharding of an array whose first dimension is distributed over all devices."""
        return NamedSharding(self.mesh, PartitionSpec((DATA_AXIS, FSDP_AXIS)))

    @functools.cached_property
    def _shares(self) -> np.ndarray:
        """Positions of this process's devices among all devices, in the order of batch shards."""
        here = jax.process_index()
        return np.flatnonzero([d.process_index == here for d in self.mesh.devices.flat])

    @property
    def _has_all(self) -> bool:
        """Whether this process has all devices."""
        return self._shares.size == self.count

    def local_rows(self, size: int) -> np.ndarray:
        """Returns the rows of a global batch that the devices of this process hold.

        Args:
            size: Number of rows of the global batch, divisible by the number of devices.

        Returns:
            Ascending indices of the rows, `int64[size * devices of this process / devices]`.
        """
        per_device = size // self.count
        return (self._shares[:, None] * per_device + np.arange(per_device)).reshape(-1)

    def place_global(self, batch: PyTree) -> PyTree:
        """Places a host batch on the devices as global arrays.

        Args:
            batch: Arrays `[rows, ...]` with the rows of this process, as `local_rows` lists them.

        Returns:
            Arrays `[batch, ...]`, distributed over the devices of all processes.
        """
        if self._has_all:
            return jax.device_put(batch, self.batch)

        def put(local: np.ndarray) -> jax.Array:
            size = local.shape[0] // self._shares.size * self.count
            rows = self.local_rows(size)

            def part(index: Any) -> np.ndarray:
                start = int(np.searchsorted(rows, index[0].start or 0))
                return local[start : start + size // self.count]

            return jax.make_array_from_callback((size, *local.shape[1:]), self.batch, part)

        return jax.tree.map(put, batch)

    def place(self, batch: PyTree) -> PyTree:
        """Places a host batch as the training step expects it.

        Args:
            batch: Arrays `[rows, ...]` with the rows of this process, as `local_rows` lists them.

        Returns:
            For jit, arrays `[batch, ...]` over all devices. For pmap, arrays `[devices, rows /
            devices, ...]` over the devices of this process.
        """
        if self.parallelism == "jit":
            return self.place_global(batch)
        count = self._shares.size
        split = jax.tree.map(lambda x: x.reshape(count, -1, *x.shape[1:]), batch)
        return jax.device_put(split, self._local)

    def place_all(self, tree: PyTree) -> PyTree:
        """Places whole arrays so that a batch from `place` can select its rows from them.

        Args:
            tree: Arrays with all rows, the same in every process.

        Returns:
            The arrays, replicated over all devices for jit and over those of this process for pmap.
        """
        if self.parallelism == "jit":
            return self.replicate(tree)
        return jax.device_put(tree, NamedSharding(self._local.mesh, PartitionSpec()))

    @functools.cached_property
    def _local(self) -> NamedSharding:
        """Sharding that distributes the first dimension over the devices of this process."""
        devices = self.mesh.devices.reshape(-1)[self._shares]
        return NamedSharding(Mesh(devices, (DATA_AXIS,)), PartitionSpec(DATA_AXIS))

    def split(self, batch: PyTree) -> PyTree:
        """Adds a leading dimension of devices to every leaf, as pmap requires.

        Args:
            batch: Global arrays `[batch, ...]`.

        Returns:
            Arrays `[devices, batch / devices, ...]`.
        """
        return jax.tree.map(lambda x: x.reshape(self.count, -1, *x.shape[1:]), batch)

    def join(self, batch: PyTree) -> PyTree:
        """Inverts `split`, also for results of pmap, of which a process holds only its part.

        Args:
            batch: Arrays `[devices, batch / devices, ...]`.

        Returns:
            Global arrays `[batch, ...]`.
        """

        def leaf(x: jax.Array) -> jax.Array:
            if self._has_all:
                return x.reshape(-1, *x.shape[2:])
            parts = [shard.data.reshape(shard.data.shape[1:]) for shard in x.addressable_shards]
            shape = (parts[0].shape[0] * self.count, *parts[0].shape[1:])
            return jax.make_array_from_single_device_arrays(shape, self.batch, parts)

        return jax.tree.map(leaf, batch)

    def everywhere(self, tree: PyTree) -> PyTree:
        """Makes global arrays of the copies that pmap leaves on the devices of this process.

        Args:
            tree: Results of pmap that are the same on every device.

        Returns:
            Replicated global arrays.
        """
        if self._has_all:
            return tree

        def leaf(x: jax.Array) -> jax.Array:
            copies = [shard.data for shard in x.addressable_shards]
            return jax.make_array_from_single_device_arrays(x.shape, self.replicated, copies)

        return jax.tree.map(leaf, tree)

    def state_shardings(self, state: Any) -> Any:
        """Returns the sharding of each leaf of a training state.

        Args:
            state: A `TrainState`, or its shapes.

        Returns:
            A state of shardings. The carry is distributed as the batch it belongs to; parameters,
            with their entries in the optimiser and in averages, are cut along the axis `fsdp`
            according to `rules`; all other leaves are replicated.
        """
        cut = self.rules.dimensions(state.params, self.mesh.shape[FSDP_AXIS])

        def sharding(path: str, leaf: Any) -> NamedSharding:
            dimension = fsdp_rules.of_parameter(cut, path, leaf.shape)
            if dimension is None:
                return self.replicated
            return NamedSharding(self.mesh, PartitionSpec(*[None] * dimension, FSDP_AXIS))

        shardings = parameters.map_paths(sharding, state)
        return shardings.replace(carry=jax.tree.map(lambda _: self.batch, state.carry))

    def replicate(self, tree: PyTree) -> PyTree:
        """Places the same values on every device.

        Args:
            tree: Arrays; see `put`.

        Returns:
            Replicated global arrays.
        """
        return self.put(tree, jax.tree.map(lambda _: self.replicated, tree))

    def put(self, tree: PyTree, shardings: PyTree) -> PyTree:
        """Places arrays on the devices according to shardings.

        Args:
            tree: NumPy arrays or arrays on one device, which every process holds in full, or global
                arrays; no random keys.
            shardings: Sharding of each leaf, a tree with the structure of `tree`.

        Returns:
            Global arrays.
        """

        def leaf(x: Any, sharding: NamedSharding) -> jax.Array:
            if self._has_all:
                return jax.device_put(x, sharding)
            if isinstance(x, jax.Array) and not x.is_fully_addressable:
                return _identity(sharding)(x)
            # Unlike `device_put`, this does not communicate with the other processes.
            host = np.asarray(x)
            return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

        return jax.tree.map(leaf, tree, shardings)

    def divisible(self, size: int) -> int:
        """Returns the smallest batch size from `size` up that the devices share evenly.

        Args:
            size: Desired number of rows.
        """
        return -(-size // self.count) * self.count

    def check_batch_size(self, size: int) -> None:
        """Checks that the devices share a training batch evenly.

        Args:
            size: Number of rows of the global batch.

        Raises:
            UsageError: `size` is not divisible by the number of devices.
        """
        if size % self.count:
            below, above = size // self.count * self.count, self.divisible(size)
            near = f"{below} or {above}" if below else f"{above}"
            axes = " x ".join(f"{n}={s}" for n, s in self.mesh.shape.items())
            raise UsageError(
                f"config.batch_size={size} is not divisible by the {self.count} devices of the "
                f"mesh {axes}: use {near}, or fewer devices."
            )


@functools.lru_cache
def _identity(sharding: NamedSharding) -> Any:
    """Returns a compiled function that moves a global array to another sharding."""
    return jax.jit(lambda x: x, out_shardings=sharding)


def make_devices(
    axes: dict[str, int],
    parallelism: str,
    devices: Any = None,
    rules: fsdp_rules.Rules = DEFAULT_RULES,
) -> Devices:
    """Arranges devices as a mesh.

    Args:
        axes: Number of devices along "data" and "fsdp". -1 for one of them means all remaining
            devices.
        parallelism: "jit" or "pmap".
        devices: Devices to arrange. None means the devices of all processes.
        rules: Rules for which parameters are sharded along "fsdp".

    Returns:
        The mesh with its parallelism and rules.

    Raises:
        UsageError: The axes have other names or sizes that do not fit the devices, pmap is to use
            the axis "fsdp", or some process is left without a device.
    """
    available = list(jax.devices() if devices is None else devices)
    if set(axes) != {DATA_AXIS, FSDP_AXIS}:
        raise UsageError(f"config.mesh={axes} must name the axes 'data' and 'fsdp' and no others.")
    sizes = [axes[DATA_AXIS], axes[FSDP_AXIS]]
    if any(s != -1 and s < 1 for s in sizes) or sizes.count(-1) > 1:
        raise UsageError(f"config.mesh={axes}: sizes are 1 or more, and at most one of them is -1.")
    known = int(np.prod([s for s in sizes if s != -1]))
    sizes = [len(available) // known if s == -1 else s for s in sizes]
    needed = int(np.prod(sizes))
    if needed == 0 or needed > len(available) or (-1 in axes.values() and needed != len(available)):
        raise UsageError(
            f"config.mesh={axes} does not fit the {len(available)} devices that jax sees "
            f"({available[0].platform})."
        )
    if parallelism == "pmap" and sizes[1] != 1:
        raise UsageError(
            "config.parallelism='pmap' is data parallel only: "
            f"config.mesh.fsdp={sizes[1]} must be 1."
        )
    left_out = {d.process_index for d in available} - {d.process_index for d in available[:needed]}
    if left_out:
        raise UsageError(
            f"config.mesh={axes} takes {needed} of {len(available)} devices and leaves the "
            f"processes {sorted(left_out)} without any: start fewer processes."
        )
    mesh = jax.make_mesh(
        tuple(sizes),
        (DATA_AXIS, FSDP_AXIS),
        # Linen does not accept explicit axis types, the default.
        axis_types=(AxisType.Auto,) * 2,
        devices=available[:needed],
    )
    return Devices(mesh, parallelism, rules)
