"""How a process becomes one of its job's, before jax starts."""

from rcnn_jax.startup import compilation_cache, doors
from rcnn_jax.training.parallel import distributed


def join(*, preemption: bool = False) -> None:
    """Joins the other processes of this job, for a door; before jax is used for anything else.

    Compiled programs are kept from one start to the next, see `rcnn_jax.startup.compilation_cache`.

    Args:
        preemption: Whether a SIGTERM is a warning that all processes are to hear of.

    Raises:
        UserError: The other processes cannot be reached.
    """
    distributed.initialize(preemption=preemption)
    doors.runtime = distributed
    compilation_cache.enable()
