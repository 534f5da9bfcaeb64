"""Checks that a task does what its methods promise, before anything is trained."""

from typing import Any

from rcnn_jax.errors import UsageError


def check_protocol(task: Any) -> None:
    """Checks that no method of a task is left uncalled because its switch was forgotten.

    Args:
        task: What is to be trained.

    Raises:
        UsageError: It computes metrics or tables on the host and says that it does not.
    """
    if task.evaluates_on_host:
        return
    switch = _defining_place(task, "evaluates_on_host")
    for method in ("evaluate", "tables"):
        # A class that has both decides by itself, as one whose host metrics are optional does.
        if _defining_place(task, method) < switch:
            name = type(task).__name__
            raise UsageError(
                f"config.task.name: {name} has a method {method!r}, which is never called because "
                f"its evaluates_on_host is False: add `evaluates_on_host = True` to {name}, or "
                "remove the method."
            )


def _defining_place(task: Any, name: str) -> int:
    """Returns how far up the bases of a task's class an attribute is defined; 0: by itself."""
    classes = type(task).__mro__
    return next((n for n, c in enumerate(classes) if name in vars(c)), len(classes))
