"""The layers of a model with output shapes and parameters, found from shapes alone."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import flax.linen as nn
import jax

from rcnn_jax.errors import UsageError
from rcnn_jax.layers.convolution import direct_convolutions
from rcnn_jax.layers.rcl import RCL
from rcnn_jax.summary.model_call import ModelCall, plain_call
from rcnn_jax.summary.multiply_adds import multiply_adds
from rcnn_jax.training.parameters import MEGABYTE

Path = tuple[str, ...]
Shape = tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Row:
    """A layer, or a parameter that the model itself holds.

    Attributes:
        path: Names from the model down to the layer.
        kind: Class of the layer, for an RCL with the number of its states; `parameter` for an array
            that the model holds, or `parameters` for a tree of them.
        output: Shape of the layer's output, one for each array if there are several.
        parameters: Number of parameters of the layer, including those of its sublayers if these
            have no rows.
    """

    path: Path
    kind: str
    output: tuple[Shape, ...]
    parameters: int


@dataclasses.dataclass(frozen=True)
class Summary:
    """The layers and sizes of a model.

    Attributes:
        rows: Layers in the order of their first call, then parameters that the model itself holds.
            The `parameters` of the rows add up to the total.
        output: Shapes of the model's outputs.
        params: Shapes and dtypes of all parameters.
        statistics: Number of elements of each other collection, such as `batch_stats`.
        multiply_adds: Number of multiply-adds of a forward pass of one example; None if it cannot
            be determined.
    """

    rows: tuple[Row, ...]
    output: tuple[Shape, ...]
    params: Any
    statistics: Mapping[str, int]
    multiply_adds: int | None

    @property
    def parameters(self) -> int:
        """The number of parameters."""
        return _count(self.params)

    @property
    def kernels(self) -> int:
        """The number of parameters in kernels and embeddings, without biases and affines."""
        return sum(
            math.prod(leaf.shape)
            for (*_, name), leaf in _leaves(self.params)
            if name.endswith(("kernel", "embedding"))
        )

    @property
    def megabytes(self) -> float:
        """The size of the parameters in their own dtypes, in units of 2^20 bytes."""
        leaves = jax.tree.leaves(self.params)
        return sum(math.prod(x.shape) * x.dtype.itemsize for x in leaves) / MEGABYTE


def summarize(model: nn.Module, x: jax.ShapeDtypeStruct | ModelCall, depth: int = 1) -> Summary:
    """Traces a model; nothing is computed and no array is made.

    Args:
        model: A Linen module.
        x: Call of the model; or shape and dtype of its only input, `[batch, ...]`.
        depth: Number of levels of nested layers that get rows.

    Returns:
        The summary.

    Raises:
        UsageError: The model does not accept this input, or cannot be made as it is configured; the
            message names the layer that failed.
    """
    called = x if isinstance(x, ModelCall) else plain_call(model, x)

    def apply(variables: Any, arrays: list[Any]) -> Any:
        args, kwargs = called.filled(arrays)
        return model.apply(variables, *args, **kwargs, method=called.method)

    with _naming_the_layer(model, called) as calls, direct_convolutions():
        variables = _initialized(model, called)
        program, output = jax.make_jaxpr(apply, return_shape=True)(variables, called.arrays)
    params = variables.pop("params", {})
    return Summary(
        rows=tuple(_rows(calls.seen, params, depth)),
        output=_shapes(output),
        params=params,
        statistics={name: _count(tree) for name, tree in variables.items()},
        multiply_adds=multiply_adds(program.jaxpr),
    )


def total(model: nn.Module, x: jax.ShapeDtypeStruct) -> int:
    """Counts the parameters of a model; faster than `summarize`.

    Args:
        model: A Linen module.
        x: Shape and dtype of its only input, `[batch, ...]`.

    Returns:
        The number of parameters.
    """
    called = plain_call(model, x)
    with _naming_the_layer(model, called):
        return _count(_initialized(model, called).get("params", {}))


def _initialized(model: nn.Module, called: ModelCall) -> dict[str, Any]:
    """Returns the shapes of the variables.

    The random key is made inside the traced function; outside it would be a real array.
    """

    def init(arrays: list[Any]) -> Any:
        args, kwargs = called.filled(arrays)
        return model.init(jax.random.key(0), *args, **kwargs, method=called.method)

    return dict(nn.meta.unbox(jax.eval_shape(init, called.arrays)))


@contextlib.contextmanager
def _naming_the_layer(model: nn.Module, called: ModelCall) -> Iterator["_Calls"]:
    """Records the calls of layers and turns an error of a layer into one sentence that names it."""
    calls = _Calls()
    try:
        with nn.intercept_methods(calls.record):
            yield calls
    except Exception as error:
        kind = "" if isinstance(error, ValueError) else f"{type(error).__name__}: "
        where = f", layer {'/'.join(calls.failed)!r}" if calls.failed else ""
        shown = shape_text(*(array.shape for array in called.arrays))
        raise UsageError(
            f"{type(model).__name__} on an input {shown}{where}: {kind}"
            f"{(str(error) or 'failed').splitlines()[0].rstrip('.')}."
        ) from error


class _Calls:
    """Outputs of layers by path, in the order of first calls; and the innermost failed layer."""

    def __init__(self):
        self.seen: dict[Path, tuple[str, tuple[Shape, ...]]] = {}
        self.failed: Path | None = None

    def record(
        self,
        call: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        context: nn.module.InterceptorContext,
    ) -> Any:
        """Calls a method of a layer and records the shapes of its output.

        Args:
            call: The intercepted method.
            args: Positional arguments of the call.
            kwargs: Keyword arguments of the call.
            context: Module and method name of the call, from Linen.

        Returns:
            The output of the method.
        """
        module, path = context.module, tuple(context.module.path)
        # Before the call, so that a layer comes before the layers inside it.
        self.seen.setdefault(path, (_kind(module), ()))
        try:
            output = call(*args, **kwargs)
        except Exception:
            self.failed = path if self.failed is None else self.failed
            raise
        public = not context.method_name.startswith("_") and not self.seen[path][1]
        if context.method_name == "__call__" or (public and context.method_name != "setup"):
            self.seen[path] = (_kind(module), _shapes(output))
        return output


def _kind(module: nn.Module) -> str:
    states = f" x{module.steps + 1}" if isinstance(module, RCL) and module.steps else ""
    return type(module).__name__ + states


def _rows(
    calls: Mapping[Path, tuple[str, tuple[Shape, ...]]], params: Any, depth: int
) -> Iterator[Row]:
    leaves = [(path, math.prod(leaf.shape)) for path, leaf in _leaves(params)]
    # A tree of arrays under one name is not a layer and is never called.
    owners = [path[:length] for path, _ in leaves for length in range(1, len(path))]
    for path in dict.fromkeys([*calls, *owners]):
        if 0 < len(path) <= depth:
            kind, output = calls.get(path, ("parameters", ()))
            inner = len(path) < depth
            sizes = [n for p, n in leaves if (p[:-1] if inner else p[:-1][: len(path)]) == path]
            yield Row(path, kind, output, sum(sizes))
    for path, count in leaves:
        if len(path) == 1:
            yield Row(path, "parameter", (), count)


def _leaves(tree: Any) -> list[tuple[Path, Any]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(tuple(str(getattr(k, "key", k)) for k in path), leaf) for path, leaf in leaves]


def _count(tree: Any) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


def _shapes(output: Any) -> tuple[Shape, ...]:
    return tuple(tuple(leaf.shape) for leaf in jax.tree.leaves(output) if hasattr(leaf, "shape"))


def shape_text(*shapes: Shape, limit: int = 2) -> str:
    """Formats shapes, such as `[1, 32, 32, 96]`.

    Args:
        shapes: Shapes to format.
        limit: Largest number of shapes to show; dots stand for the others.
    """
    more = [] if len(shapes) <= limit else ["..."]
    return " ".join([str(list(shape)) for shape in shapes[:limit]] + more)
