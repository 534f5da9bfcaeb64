"""The largest rate of arithmetic that a library reaches on this machine: a product of matrices."""

import pathlib

import numpy as np
from row import Prepared


def _matrices(order: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, order, order)).astype(np.float32)


def _gflop(order: int) -> float:
    return 2e-9 * order**3


def by_jax(folder: pathlib.Path, *, order: int, dtype: str = "float32") -> Prepared:
    """The product of two matrices of this order and type by XLA."""
    del folder
    import jax

    a, b = jax.device_put(tuple(_matrices(order)))
    a, b = a.astype(dtype), b.astype(dtype)
    product = jax.jit(lambda a, b: a @ b)
    now = {}

    def run() -> None:
        now["product"] = jax.block_until_ready(product(a, b))

    def answers() -> dict[str, np.ndarray]:
        return {"product": np.asarray(now["product"], np.float32)}

    return Prepared(run, answers, _gflop(order), "GFLOP")


def by_torch(folder: pathlib.Path, *, order: int, dtype: str = "float32") -> Prepared:
    """The same by torch."""
    del folder
    import torch
    import torch_device

    device = torch_device.use()
    a, b = (
        torch.from_numpy(matrix).to(device, getattr(torch, dtype)) for matrix in _matrices(order)
    )
    now = {}

    def run() -> None:
        now["product"] = a @ b
        torch_device.wait()

    def answers() -> dict[str, np.ndarray]:
        return {"product": now["product"].float().cpu().numpy()}

    return Prepared(run, answers, _gflop(order), "GFLOP")
