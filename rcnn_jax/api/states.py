"""Extracts the states of all RCLs from one call of a model."""

import functools
from typing import Any

import flax.linen as nn
import jax

from rcnn_jax.errors import UserError
from rcnn_jax.layers.rcl import RCL


class _AnsweredError(Exception):
    """Ends a task's prediction after its first call of the model."""

    def __init__(self, output: Any):
        super().__init__()
        self.output = output


def call_model(
    task: Any, params: Any, model_state: Any, batch: Any, *, with_states: bool
) -> tuple[Any, dict[str, Any]]:
    """Calls the model as the predictions of a task do, without the rest of the prediction.

    The function is pure.

    Args:
        task: Task that predicts.
        params: Pytree of parameters.
        model_state: Pytree of batch statistics.
        batch: Arrays `[batch, ...]` by name.
        with_states: Whether to extract the states of RCLs.

    Returns:
        The output of the first call of the model; and the states x(0)..x(T) of every RCL in it,
        `[steps + 1, batch, *spatial, features]`, by the path of its module. Further calls of the
        same layer have the names `PATH:2`, `PATH:3` and so on.

    Raises:
        UserError: The predictions call no Linen module.
    """
    states: dict[str, Any] = {}
    called = False

    def intercept(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        nonlocal called
        module, method = context.module, context.method_name
        public = method == "__call__" or not method.startswith("_")
        outermost = not called and public and method != "setup"
        called = called or outermost
        if with_states and isinstance(module, RCL) and method == "__call__":
            name = "/".join(module.path) or type(module).__name__
            earlier = sum(key.partition(":")[0] == name for key in states)
            every = call(*args, **{**kwargs, "all_states": True})
            states[f"{name}:{earlier + 1}" if earlier else name] = every
            output = every if kwargs.get("all_states") else every[-1]
        else:
            output = call(*args, **kwargs)
        if outermost:
            raise _AnsweredError(output)
        return output

    try:
        with nn.intercept_methods(intercept):
            task.predict(params, model_state, batch)
    except _AnsweredError as answered:
        return answered.output, states
    raise UserError(f"{type(task).__name__} predicts without a call of a Linen module.")


def compiled_call(task: Any, with_states: bool) -> Any:
    """Compiles `call_model` for a task.

    Args:
        task: Task that predicts.
        with_states: Whether to extract the states of RCLs.

    Returns:
        A function of (params, model_state, batch). It raises a `UserError` if a layer is called
        inside a loop of the model, from which its states cannot be extracted.
    """
    compiled = jax.jit(functools.partial(call_model, task, with_states=with_states))

    def call(*arguments: Any) -> tuple[Any, dict[str, Any]]:
        try:
            return compiled(*arguments)
        except jax.errors.UnexpectedTracerError as error:
            raise UserError(
                f"{type(task).__name__} calls the model, or the model one of its RCLs, inside a "
                "loop or another transformation of JAX: its states cannot be taken out."
            ) from error

    return call
