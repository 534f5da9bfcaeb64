"""The largest rate of arithmetic that a library reaches on this machine: a product of matrices."""

import pathlib

import numpy as np
from row import Prepared


def _matrices(order: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, order, order)).astype(np.float32)


def _gflop(order: int) -> float:
    return 2e-9 * order**3


def by_jax(folder: pathlib.Path, *, order: int) -> Prepared:
    """The product of two matrices of this order by XLA."""
    del folder
    import jax

    a, b = jax.device_put(tuple(_matrices(order)))
    product = jax.jit(lambda a, b: a @ b)
    now = {}

    def run() -> None:
        now["product"] = jax.block_until_ready(product(a, b))

    return Prepared(run, lambda: {"product": np.asarray(now["product"])}, _gflop(order), "GFLOP")


def by_torch(folder: pathlib.Path, *, order: int) -> Prepared:
    """The same by torch."""
    del folder
    import machine
    import torch

    torch.set_num_threads(len(machine.cores()))
    a, b = map(torch.from_numpy, _matrices(order))
    now = {}

    def run() -> None:
        now["product"] = a @ b

    return Prepared(run, lambda: {"product": now["product"].numpy()}, _gflop(order), "GFLOP")
