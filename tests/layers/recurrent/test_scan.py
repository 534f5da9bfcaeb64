"""Every cell against loops in float64, and the stated gradient against three others."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.nn import initializers

from layers.recurrent.oracles import CELLS, FEATURES, random_carry, random_weights, run
from rcnn_jax.layers.recurrent.cell import Weights, project
from rcnn_jax.layers.recurrent.layer import run_cell

RNG = np.random.default_rng(0)
BATCH, TIME = 3, 3
X = RNG.normal(size=(BATCH, TIME, FEATURES))
LENGTHS = np.array([3, 0, 2])


def loss_of(outputs, carry):
    """A sum that looks at each output and each part of the last carry differently."""
    rng = np.random.default_rng(5)
    total = (rng.normal(size=outputs.shape) * outputs).sum()
    return total + sum((rng.normal(size=carry[k].shape) * carry[k]).sum() for k in sorted(carry))


def layer_loss(arguments, cell, **options):
    return loss_of(*run_cell(cell, *arguments, **options))


def loss_and_values(arguments, cell, **options):
    values = run_cell(cell, *arguments, **options)
    return loss_of(*values), values


def unrolled_loss(arguments, cell, reverse):
    """The same without a scan: a Python loop over the steps, differentiated by jax."""
    weights, x, carry = arguments
    inputs, kernels, vectors = ({k: weights[k] for k in g} for g in cell.weights(FEATURES))
    outputs = {}
    for t in range(TIME)[:: -1 if reverse else 1]:
        drive = jax.tree.map(lambda leaf: leaf[0], cell.drive(inputs, x[None, :, t]))
        after, output = cell.step(vectors, carry, drive, lambda name, a: a @ kernels[name])
        mask = jnp.asarray(t < LENGTHS)[:, None]
        carry = {name: jnp.where(mask, after[name], carry[name]) for name in carry}
        outputs[t] = jnp.where(mask, output, 0)
    return loss_of(jnp.stack([outputs[t] for t in range(TIME)], axis=1), carry)


def arguments_of(cell):
    return random_weights(cell), X, random_carry(cell, BATCH)


def assert_same(actual, expected, **tolerance):
    jax.tree.map(functools.partial(np.testing.assert_allclose, **tolerance), actual, expected)


@pytest.mark.parametrize(
    ("name", "reverse"),
    [*((name, False) for name in CELLS), ("lstm", True), ("mesnil", True)],
)
def test_values_and_gradients(name, reverse, x64):
    cell, arguments = CELLS[name], arguments_of(CELLS[name])
    ragged = {"lengths": jnp.asarray(LENGTHS, jnp.int32), "reverse": reverse}

    @jax.jit
    def everything(arguments):
        stated, values = jax.grad(loss_and_values, has_aux=True)(arguments, cell, **ragged)
        return values, stated, jax.grad(unrolled_loss)(arguments, cell, reverse)

    values, stated, unrolled = everything(jax.tree.map(jnp.asarray, arguments))
    weights, x, carry = arguments
    expected = run(cell, weights, x, carry, LENGTHS, reverse)
    assert_same(values, expected, rtol=1e-10, atol=1e-12)
    assert_same(stated, unrolled, rtol=1e-10, atol=1e-12)
    assert not stated[1][1].any()
    assert not stated[1][2, 2:].any()

    # Along a direction of each argument, against differences of the loops in NumPy.
    def loss_beside(moved, direction, size):
        there = list(arguments)
        there[moved] = jax.tree.map(lambda a, d: a + size * d, arguments[moved], direction)
        return loss_of(*run(cell, *there, LENGTHS, reverse))

    for moved, gradient in enumerate(stated):
        direction = jax.tree.map(lambda a: RNG.normal(size=a.shape), arguments[moved])
        along = sum(jax.tree.leaves(jax.tree.map(lambda g, d: (g * d).sum(), gradient, direction)))
        rise = loss_beside(moved, direction, 1e-6) - loss_beside(moved, direction, -1e-6)
        np.testing.assert_allclose(along, rise / 2e-6, rtol=1e-6, atol=1e-8)


def test_gradient_of_the_stated_gradient(x64):
    """Differentiated again in reverse mode it is still right: nothing is taken for a constant."""
    cell, arguments = CELLS["gru_reset_before"], arguments_of(CELLS["gru_reset_before"])
    directions = jax.tree.map(lambda a: RNG.normal(size=a.shape), arguments)

    def slope(arguments, implementation):
        gradient = jax.grad(layer_loss)(arguments, cell, implementation=implementation)
        return sum(
            jax.tree.leaves(jax.tree.map(lambda g, d: (g**2 * d).sum(), gradient, directions))
        )

    @jax.jit
    def both(arguments):
        return [jax.grad(slope)(arguments, name) for name in ("scan", "autodiff")]

    assert_same(*both(jax.tree.map(jnp.asarray, arguments)), rtol=1e-9, atol=1e-12)


@dataclasses.dataclass(frozen=True)
class Leaky:
    """A cell as a fork writes one: a leaky unit with a product of products and an idle kernel."""

    hidden: int

    @property
    def output_features(self):
        return self.hidden

    def carry_features(self):
        return {"level": self.hidden}

    def weights(self, features):
        normal = initializers.normal()
        square = (self.hidden, self.hidden)
        return Weights(
            {"kernel": (normal, (features, self.hidden)), "bias": (normal, (self.hidden,))},
            dict.fromkeys(("first", "second", "idle"), (normal, square)),
            {"leak": (normal, (self.hidden,))},
        )

    drive = staticmethod(project)

    def step(self, vectors, carry, drive, product):
        keep = jax.nn.sigmoid(vectors["leak"])[None]
        inner = jnp.tanh(product("first", carry["level"]))
        level = keep * carry["level"] + jnp.tanh(drive + product("second", inner))
        return {"level": level}, 2 * level


def test_a_cell_of_a_fork_has_the_same_gradients(x64):
    cell = Leaky(4)
    arguments = jax.tree.map(jnp.asarray, arguments_of(cell))

    @jax.jit
    def both(arguments):
        grad = jax.grad(layer_loss)
        return [grad(arguments, cell, implementation=name) for name in ("scan", "autodiff")]

    stated, autodiff = both(arguments)
    assert_same(stated, autodiff, rtol=1e-10, atol=1e-12)
    assert not stated[0]["idle"].any()
    assert stated[0]["leak"].all()


def test_no_kernel_gradient_is_added_up_in_the_loop():
    """The products of the loops have a batch of rows; those outside are of all steps at once."""
    cell = CELLS["gru_reset_before"]
    arguments = jax.tree.map(jnp.asarray, arguments_of(cell))

    def rows_in_loops(implementation):
        found = []

        def visit(jaxpr, in_loop):
            for equation in jaxpr.eqns:
                if equation.primitive.name == "dot_general" and in_loop:
                    found.append(equation.outvars[0].aval.shape[0])
                for parameter in jax.tree.leaves(
                    list(equation.params.values()), is_leaf=lambda p: hasattr(p, "eqns")
                ):
                    inner = getattr(parameter, "jaxpr", parameter)
                    if hasattr(inner, "eqns"):
                        visit(inner, in_loop or equation.primitive.name == "scan")

        grad = functools.partial(jax.grad(layer_loss), cell=cell, implementation=implementation)
        visit(jax.make_jaxpr(grad)(arguments).jaxpr, False)
        return found

    hidden = cell.hidden
    # Two products forwards and two backwards.
    assert rows_in_loops("scan") == [BATCH] * 4
    assert hidden in rows_in_loops("autodiff")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("first", "first"), "'first' twice in one step"),
        (("first", "third"), r"product with 'third'; its recurrent kernels are \['first', 'idle'"),
    ],
)
def test_impossible_products(names, message):
    class Wrong(Leaky):
        def step(self, vectors, carry, drive, product):
            return carry, sum(product(name, carry["level"]) for name in names)

    cell = Wrong(4)
    with pytest.raises(ValueError, match=message):
        run_cell(cell, *jax.tree.map(jnp.asarray, arguments_of(cell)))
