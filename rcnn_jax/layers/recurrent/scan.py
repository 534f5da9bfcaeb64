"""A recurrence over time whose gradient of each recurrent kernel is a single product.

The derivative of a scan adds to the gradient of a recurrent kernel at every time step: a small
product and a read and a write of the whole kernel, T times. Here the backward pass stores the
cotangents d(t) of the products `a(t) @ kernel` of all steps instead, and computes

    gradient of the kernel = sum over t of a(t)^T d(t)

as one product after the loop. This works for any cell, because a cell does not multiply by a
recurrent kernel itself but calls `product(name, a)`.
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
"""Function `product(name, a)` that computes `a @ kernels[name]` for `a` `[batch, inputs]`."""

Step = Callable[[Arrays, Arrays, PyTree, Product], tuple[Arrays, Array]]
"""One time step of a cell: `step(vectors, carry, drive, product) -> (carry, output)`."""


def scan_cell(
    step: Step,
    kernels: Arrays,
    vectors: Arrays,
    carry: Arrays,
    drive: PyTree,
    *,
    mask: Bool[Array, "time batch 1"] | None = None,
    reverse: bool = False,
    autodiff: bool = False,
) -> tuple[Arrays, Array]:
    """Runs `step` over time.

    Args:
        step: Function `step(vectors, carry, drive[t], product) -> (carry, output)`. It must be a
            plain function or a bound method of a hashable object, close over no array, and use a
            kernel only through `product(name, a)`, each at most once.
        kernels: Recurrent kernels by name, `[inputs, outputs]` each.
        vectors: All other weights that a step needs, such as peepholes and biases, by name.
        carry: State before the first step, parts `[batch, ...]` by name.
        drive: Contribution of the input to each step, pytree of arrays `[time, batch, ...]`.
        mask: Mask `bool[time, batch, 1]` of real steps; elsewhere the carry stays as it is and the
            output is zero. None means that all steps are real.
        reverse: Whether to run from the last step to the first.
        autodiff: Whether to leave differentiation to JAX, which is slower but supports forward mode
            too.

    Returns:
        A pair of the carry after the last step and the outputs `[time, batch, features]`.

    Raises:
        ValueError: If a step uses a kernel twice, or one that does not exist.

    Example:
        >>> import jax.numpy as jnp
        >>> from rcnn_jax.layers.recurrent.scan import scan_cell
        >>> def step(vectors, carry, drive, product):
        ...     total = drive + product("w", carry["total"])
        ...     return {"total": total}, total
        >>> start, drive = {"total": jnp.zeros((1, 1))}, jnp.ones((3, 1, 1))
        >>> _, outputs = scan_cell(step, {"w": jnp.full((1, 1), 2.0)}, {}, start, drive)
        >>> outputs.ravel().tolist()
        [1.0, 3.0, 7.0]
    """
    run = _run if autodiff else _run_with_stated_gradient
    return run(step, reverse, kernels, vectors, carry, drive, mask)


def _masked(
    step: Step,
    vectors: Arrays,
    carry: Arrays,
    drive: PyTree,
    mask: Array | None,
    product: Product,
) -> tuple[Arrays, Array]:
    """Computes one step; where the mask is false the carry stays and the output is zero."""
    after, output = step(vectors, carry, drive, product)
    if mask is None:
        return after, output
    after = jax.tree.map(functools.partial(jnp.where, mask), after, carry)
    return after, jnp.where(mask, output, jnp.zeros((), output.dtype))


def _run(
    step: Step,
    reverse: bool,
    kernels: Arrays,
    vectors: Arrays,
    carry: Arrays,
    drive: PyTree,
    mask: Array | None,
) -> tuple[Arrays, Array]:
    """Runs `step` over time by `lax.scan`."""

    def body(carry: Arrays, inputs: Any) -> tuple[Arrays, Array]:
        drive_now, mask_now = inputs
        return _masked(step, vectors, carry, drive_now, mask_now, Products(kernels))

    return lax.scan(body, carry, (drive, mask), reverse=reverse)


_run_with_stated_gradient = jax.custom_vjp(_run, nondiff_argnums=(0, 1))


class Products:
    """Products of one step with the recurrent kernels, and a record of their operands.

    Attributes:
        operands: Arrays that were multiplied, by the name of the kernel.
        values: Products, by the name of the kernel.
    """

    def __init__(self, kernels: Arrays, known: Arrays | None = None):
        """Creates an empty record.

        Args:
            kernels: Recurrent kernels by name, `[inputs, outputs]` each.
            known: Products of this step by the name of the kernel, if they are known and need not
                be computed again.
        """
        self.operands: Arrays = {}
        self.values: Arrays = {}
        self._kernels = kernels
        self._known = known

    def __call__(self, name: str, operand: Array) -> Array:
        """Returns `operand @ kernels[name]`, and records operand and product.

        Args:
            name: Name of the kernel.
            operand: Array `[batch, inputs]`.

        Raises:
            ValueError: If there is no such kernel, or the step used it before.
        """
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
    """Returns the known value of `operand @ kernel`.

    Its cotangent is passed on to the operand, and also to `value`, where the backward pass of the
    scan reads it. The kernel receives no cotangent here: its gradient is computed after the loop.
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
    mask: Array | None,
) -> tuple[tuple[Arrays, Array], Any]:
    """Runs `step` over time, and stores carries and products for the backward pass."""

    def body(carry: Arrays, inputs: Any) -> tuple[Arrays, Any]:
        drive_now, mask_now = inputs
        products = Products(kernels)
        after, output = _masked(step, vectors, carry, drive_now, mask_now, products)
        return after, (output, carry, products.values)

    last, (outputs, carries, values) = lax.scan(body, carry, (drive, mask), reverse=reverse)
    return (last, outputs), (kernels, vectors, drive, mask, carries, values)


def _backward(
    step: Step, reverse: bool, residuals: Any, cotangents: tuple[Arrays, Array]
) -> tuple[Arrays, Arrays, Arrays, PyTree, None]:
    """Computes the gradients, those of the recurrent kernels after the loop."""
    kernels, vectors, drive, mask, carries, values = residuals
    last_cotangent, output_cotangents = cotangents
    # Arrays that the loop need not store twice, detected while it is traced: operands that are part
    # of the carry, and products with the cotangent of the drive because they are added to it.
    parts: dict[str, str] = {}
    added: set[str] = set()

    def body(carry_cotangent: Arrays, inputs: Any) -> tuple[Arrays, Any]:
        before, drive_now, mask_now, values_now, output_cotangent = inputs

        def again(vectors: Arrays, carry: Arrays, drive: PyTree, known: Arrays) -> Any:
            products = Products(kernels, known)
            after = _masked(step, vectors, carry, drive, mask_now, products)
            operands = products.operands
            parts.update(
                {n: part for part in carry for n in operands if operands[n] is carry[part]}
            )
            return after, {n: operands[n] for n in operands.keys() - parts}

        _, pull, operands = jax.vjp(again, vectors, before, drive_now, values_now, has_aux=True)
        vector_gradients, carry_cotangent, drive_gradient, product_gradients = pull(
            (carry_cotangent, output_cotangent)
        )
        added.update(name for name, value in product_gradients.items() if value is drive_gradient)
        other_gradients = {
            name: product_gradients[name] for name in product_gradients.keys() - added
        }
        return carry_cotangent, (vector_gradients, drive_gradient, other_gradients, operands)

    first_cotangent, (vector_gradients, drive_gradient, product_gradients, operands) = lax.scan(
        body,
        last_cotangent,
        (carries, drive, mask, values, output_cotangents),
        reverse=not reverse,
    )
    operands |= {name: carries[part] for name, part in parts.items()}
    product_gradients |= dict.fromkeys(added, drive_gradient)
    kernel_gradients = {
        name: _kernel_gradient(operands[name], product_gradients[name]) for name in operands
    }
    # A kernel that no step uses has a gradient of zero.
    kernel_gradients |= {
        name: jnp.zeros_like(kernels[name]) for name in kernels.keys() - operands.keys()
    }
    vector_gradients = jax.tree.map(lambda steps: steps.sum(axis=0), vector_gradients)
    return kernel_gradients, vector_gradients, first_cotangent, drive_gradient, None


def _kernel_gradient(operands: Array, cotangents: Array) -> Array:
    """Computes the sum of `operand^T cotangent` over time and batch, the leading two axes."""
    rows = operands.shape[0] * operands.shape[1]
    operands, cotangents = (a.reshape(rows, a.shape[-1]) for a in (operands, cotangents))
    return operands.T @ cotangents


_run_with_stated_gradient.defvjp(_forward, _backward)
