"""Checks before training that every method of a task will be called."""

from typing import Any

from rcnn_jax.errors import UsageError


def check_protocol(task: Any) -> None:
    """Checks that the switch of a task for evaluation on the host agrees with its methods.

    Args:
        task: Task that is to be trained.

    Raises:
        UsageError: The task defines `evaluate` or `tables`, which run on the host, but its
            `evaluates_on_host` is False, so that they would never be called.
    """
    if task.evaluates_on_host:
        return
    switch = _defining_place(task, "evaluates_on_host")
    for method in ("evaluate", "tables"):
        # A class that defines both is left alone: its metrics on the host may be optional.
        if _defining_place(task, method) < switch:
            name = type(task).__name__
            raise UsageError(
                f"config.task.name: {name} has a method {method!r}, which is never called because "
                f"its evaluates_on_host is False: add `evaluates_on_host = True` to {name}, or "
                "remove the method."
            )


def _defining_place(task: Any, name: str) -> int:
    """Returns the place of the class that defines an attribute among a task's class and its bases.

    0 is the class of the task itself.
    """
    classes = type(task).__mro__
    return next((n for n, c in enumerate(classes) if name in vars(c)), len(classes))
