"""A recurrence over time whose kernel gradients are one product each.

Differentiating a scan adds to the gradient of a recurrent kernel at every time step: a small
product and a read and a write of the whole kernel, T times. Here the backward pass keeps the
cotangents of the products `a(t) @ kernel` of all steps instead, and forms

    gradient of the kernel = sum over t of a(t)^T d(t)

as one product when it has left the loop. This holds for any cell, because a cell does not multiply
by a recurrent kernel itself but asks for `product(name, a)`.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, PyTree

Arrays = dict[str, Array]
Product = Callable[[str, Array], Array]
"""`product(name, a)` is `a @ kernels[name]` for `a` of shape `[batch, inputs]`."""

Step = Callable[[Arrays, Arrays, PyTree, Product], tuple[Arrays, Array]]
"""`step(vectors, carry, drive, product) -> (carry, output)`: one time step of a cell."""


def scan_cell(
    step: Step,
    kernels: Arrays,
    vectors: Arrays,
    carry: Arrays,
    drive: PyTree,
    *,
    live: Bool[Array, "time batch 1"] | None = None,
    reverse: bool = False,
    autodiff: bool = False,
) -> tuple[Arrays, Array]:
    """Runs `step` over time.

    Args:
        step: `step(vectors, carry, drive[t], product) -> (carry, output)`. It must be a plain
            function or a bound method of a hashable object, close over no array, and use a
            kernel only through `product(name, a)`, each at most once.
        kernels: recurrent kernels by name, `[inputs, outputs]` each.
        vectors: all other weights that a step needs (peepholes, biases), by name.
        carry: the state before the first step, `[batch, ...]` each.
        drive: what the input contributes to each step, leaves `[time, batch, ...]`.
        live: which steps count, `[time, batch, 1]`; elsewhere the carry stays as it is and the
            output is zero. None: all.
        reverse: run from the last step to the first.
        autodiff: leave differentiation to jax, which is slower but also knows forward mode.

    Returns:
        The carry after the last step, and the outputs `[time, batch, features]`.

    Raises:
        ValueError: a step uses a kernel twice, or one that does not exist.
    """
    run = _run if autodiff else _run_with_stated_gradient
    return run(step, reverse, kernels, vectors, carry, drive, live)


def _masked(
    step: Step,
    vectors: Arrays,
    carry: Arrays,
    drive: PyTree,
    live: Array | None,
    product: Product,
) -> tuple[Arrays, Array]:
    after, output = step(vectors, carry, drive, product)
    if live is None:
        return after, output
    after = jax.tree.map(functools.partial(jnp.where, live), after, carry)
    return after, jnp.where(live, output, jnp.zeros((), output.dtype))


def _run(
    step: Step,
    reverse: bool,
    kernels: Arrays,
    vectors: Arrays,
    carry: Arrays,
    drive: PyTree,
    live: Array | None,
) -> tuple[Arrays, Array]:
    def body(carry: Arrays, inputs: Any) -> tuple[Arrays, Array]:
        drive_now, live_now = inputs
        return _masked(step, vectors, carry, drive_now, live_now, Products(kernels))

    return lax.scan(body, carry, (drive, live), reverse=reverse)


_run_with_stated_gradient = jax.custom_vjp(_run, nondiff_argnums=(0, 1))


class Products:
    """The products of one step, and what they were made of.

    Attributes:
        operands: what was multiplied, by the name of the kernel.
        values: the products, by the name of the kernel.
    """

    def __init__(self, kernels: Arrays, known: Arrays | None = None):
        """Multiplies by `kernels`, or repeats the `known` values of these products."""
        self.operands: Arrays = {}
        self.values: Arrays = {}
        self._kernels = kernels
        self._known = known

    def __call__(self, name: str, operand: Array) -> Array:
        """Returns `operand @ kernels[name]`."""
        if name not in self._kernels:
            raise ValueError(
                f"a cell asked for a product with {name!r}; its recurrent kernels are "
                f"{sorted(self._kernels)}"
            )
        if name in self.operands:
            raise ValueError(f"a cell used the recurrent kernel {name!r} twice in one step")
        kernel = self._kernels[name]
        self.operands[name] = operand
        if self._known is None:
            self.values[name] = operand @ kernel
        else:
            self.values[name] = _known_product(operand, kernel, self._known[name])
        return self.values[name]


@jax.custom_vjp
def _known_product(operand: Array, kernel: Array, value: Array) -> Array:
    """`operand @ kernel`, whose value is known.

    Its cotangent goes on to the operand, and also to `value`, where the backward pass of the scan
    picks it up. None goes to the kernel: it is added after the loop.
    """
    del operand, kernel
    return value


def _known_product_forward(operand: Array, kernel: Array, value: Array) -> tuple[Array, Array]:
    del operand
    return value, kernel


def _known_product_backward(kernel: Array, gradient: Array) -> tuple[Array, None, Array]:
    return gradient @ kernel.T, None, gradient


_known_product.defvjp(_known_product_forward, _known_product_backward)


def _forward(
    step: Step,
    reverse: bool,
    kernels: Arrays,
    vectors: Arrays,
    carry: Arrays,
    drive: PyTree,
    live: Array | None,
) -> tuple[tuple[Arrays, Array], Any]:
    def body(carry: Arrays, inputs: Any) -> tuple[Arrays, Any]:
        drive_now, live_now = inputs
        products = Products(kernels)
        after, output = _masked(step, vectors, carry, drive_now, live_now, products)
        return after, (output, carry, products.values)

    last, (outputs, carries, values) = lax.scan(body, carry, (drive, live), reverse=reverse)
    return (last, outputs), (kernels, vectors, drive, live, carries, values)


def _backward(
    step: Step, reverse: bool, residuals: Any, cotangents: tuple[Arrays, Array]
) -> tuple[Arrays, Arrays, Arrays, PyTree, None]:
    kernels, vectors, drive, live, carries, values = residuals
    last_cotangent, output_cotangents = cotangents
    # What the loop need not write a second time, seen while it is traced: operands that are a part
    # of the carry, and products that have the cotangent of the drive because they are added to it.
    parts: dict[str, str] = {}
    added: set[str] = set()

    def body(carry_cotangent: Arrays, inputs: Any) -> tuple[Arrays, Any]:
        before, drive_now, live_now, values_now, output_cotangent = inputs

        def again(vectors: Arrays, carry: Arrays, drive: PyTree, known: Arrays) -> Any:
            products = Products(kernels, known)
            after = _masked(step, vectors, carry, drive, live_now, products)
            operands = products.operands
            parts.update(
                {n: part for part in carry for n in operands if operands[n] is carry[part]}
            )
            return after, {n: operands[n] for n in operands.keys() - parts}

        _, pull, operands = jax.vjp(again, vectors, before, drive_now, values_now, has_aux=True)
        of_vectors, carry_cotangent, of_drive, of_products = pull(
            (carry_cotangent, output_cotangent)
        )
        added.update(name for name, value in of_products.items() if value is of_drive)
        of_others = {name: of_products[name] for name in of_products.keys() - added}
        return carry_cotangent, (of_vectors, of_drive, of_others, operands)

    first_cotangent, (of_vectors, of_drive, of_products, operands) = lax.scan(
        body,
        last_cotangent,
        (carries, drive, live, values, output_cotangents),
        reverse=not reverse,
    )
    operands |= {name: carries[part] for name, part in parts.items()}
    of_products |= dict.fromkeys(added, of_drive)
    of_kernels = {name: _kernel_gradient(operands[name], of_products[name]) for name in operands}
    # A kernel that no step asked for has no part in the result.
    of_kernels |= {name: jnp.zeros_like(kernels[name]) for name in kernels.keys() - operands.keys()}
    of_vectors = jax.tree.map(lambda steps: steps.sum(axis=0), of_vectors)
    return of_kernels, of_vectors, first_cotangent, of_drive, None


def _kernel_gradient(operands: Array, cotangents: Array) -> Array:
    """Sum over time and batch of `operand^T cotangent`, from `[time, batch, ...]` each."""
    rows = operands.shape[0] * operands.shape[1]
    operands, cotangents = (a.reshape(rows, a.shape[-1]) for a in (operands, cotangents))
    return operands.T @ cotangents


_run_with_stated_gradient.defvjp(_forward, _backward)
