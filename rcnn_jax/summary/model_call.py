"""How a model is called: by itself with one input, or by its task with what a batch holds."""

import dataclasses
import inspect
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax

from rcnn_jax.errors import UsageError


@dataclasses.dataclass(frozen=True)
class ModelCall:
    """A call of a model, arrays given by their shapes.

    Attributes:
        args: Its arguments; `jax.ShapeDtypeStruct` stands for an array, alone or inside a tree.
        kwargs: Its arguments by keyword.
        method: The name of the method.
    """

    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    method: str = "__call__"

    @property
    def arrays(self) -> list[jax.ShapeDtypeStruct]:
        """The shapes and types of all arrays among the arguments, in order."""
        leaves = jax.tree.leaves((self.args, dict(self.kwargs)))
        return [leaf for leaf in leaves if isinstance(leaf, jax.ShapeDtypeStruct)]

    def filled(self, arrays: list[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments with arrays in place of `arrays`."""
        leaves, tree = jax.tree.flatten((self.args, dict(self.kwargs)))
        remaining = iter(arrays)
        return jax.tree.unflatten(
            tree,
            [next(remaining) if isinstance(x, jax.ShapeDtypeStruct) else x for x in leaves],
        )


def plain_call(model: nn.Module, x: jax.ShapeDtypeStruct) -> ModelCall:
    """`model(x)`, with `train=False` if it takes that.

    Args:
        model: The model.
        x: Shape and type of the input, batch first.
    """
    takes = inspect.signature(type(model).__call__).parameters
    return ModelCall((x,), {"train": False} if "train" in takes else {})


class _CalledError(Exception):
    """Ends a task's initialisation where it calls the model."""

    def __init__(self, call: ModelCall):
        super().__init__()
        self.call = call


def task_call(task: Any, batch: Mapping[str, jax.ShapeDtypeStruct]) -> ModelCall:
    """How a task initialises its model; only shapes are computed.

    Args:
        task: With a method `init`.
        batch: Shapes of a training batch.

    Returns:
        The first call of a Linen module.

    Raises:
        UsageError: The task initialises none.
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
