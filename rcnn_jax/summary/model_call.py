"""How a model is called: with one input, or by its task with the arrays of a batch."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from rcnn_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class ModelCall:
    """A call of a model in which arrays are given by their shapes.

    Attributes:
        args: Positional arguments; a `jax.ShapeDtypeStruct` replaces an array, alone or in a
            pytree.
        kwargs: Keyword arguments, with arrays replaced in the same way.
        method: Name of the method.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    method: str = "__call__"

    @property
    def arrays(self) -> list[jax.ShapeDtypeStruct]:
        """The shapes and dtypes of all arrays among the arguments, in order."""
        leaves = jax.tree.leaves((self.args, dict(self.kwargs)))
        return [leaf for leaf in leaves if isinstance(leaf, jax.ShapeDtypeStruct)]

    def filled(self, arrays: list[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Returns the arguments with actual arrays.

        Args:
            arrays: Arrays in the order of the property `arrays`.

        Returns:
            The positional and the keyword arguments.
        """
        leaves, tree = jax.tree.flatten((self.args, dict(self.kwargs)))
        remaining = iter(arrays)
        return jax.tree.unflatten(
            tree,
            [next(remaining) if isinstance(x, jax.ShapeDtypeStruct) else x for x in leaves],
        )


def plain_call(model: nn.Module, x: jax.ShapeDtypeStruct) -> ModelCall:
    """Makes the call `model(x)`, with `train=False` if the model has that argument.

    Args:
        model: A Linen module.
        x: Shape and dtype of the input, `[batch, ...]`.

    Returns:
        The call.
    """
    takes = inspect.signature(type(model).__call__).parameters
    return ModelCall((x,), {"train": False} if "train" in takes else {})


class _CalledError(Exception):
    """Ends a task's initialisation at its first call of the model."""

    def __init__(self, call: ModelCall):
        super().__init__()
        self.call = call


def task_call(task: Any, batch: Mapping[str, jax.ShapeDtypeStruct]) -> ModelCall:
    """Finds how a task initialises its model; only shapes are computed.

    Args:
        task: Task with a method `init`.
        batch: Shapes and dtypes of a training batch by name.

    Returns:
        The first call of a Linen module.

    Raises:
        UsageError: The task's `init` calls no Linen module.
    """

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if context.method_name == "setup":
            return call(*args, **kwargs)
        arguments = jax.tree.map(_shape, (tuple(args), dict(kwargs)))
        raise _CalledError(ModelCall(*arguments, method=context.method_name))

    try:
        with nn.intercept_methods(intercept):
            jax.eval_shape(lambda batch: task.init(jax.random.key(0), batch), dict(batch))
    except _CalledError as called:
        return called.call
    raise UsageError(f"{type(task).__name__}.init calls no Linen module: nothing can be shown.")


def _shape(leaf: Any) -> Any:
    is_array = hasattr(leaf, "shape") and hasattr(leaf, "dtype")
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) if is_array else leaf
