"""Connection of a process to the other processes of its job, before jax starts."""

from rcnn_jax.startup import compilation_cache, doors
from rcnn_jax.training.parallel import distributed


def join(*, preemption: bool = False) -> None:
    """Connects a command to the other processes of its job; must precede any other use of jax.

    Compiled programs are kept from one start to the next; see `rcnn_jax.startup.compilation_cache`.

    Args:
        preemption: Whether a SIGTERM is a warning that is passed on to all processes. False means
            that it ends this process.

    Raises:
        UserError: The other processes cannot be reached.
    """
    distributed.initialize(preemption=preemption)
    doors.runtime = distributed
    compilation_cache.enable()
