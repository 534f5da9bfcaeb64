"""Says how a process that is alone stands to jax's distributed runtime."""

import os

import jax
from jax.experimental import multihost_utils

from rcnn_jax.experiment import joining
from rcnn_jax.training.parallel import distributed

joining.join(preemption=True)
assert distributed.is_running()
assert jax.process_count() == 1
assert jax.device_count() == 3
# Between its own devices it needs no network: Gloo would say that it connects them.
print("sum", jax.pmap(lambda x: jax.lax.psum(x, "i"), axis_name="i")(jax.numpy.arange(3.0))[0])
print("stop", multihost_utils.reached_preemption_sync_point(0))
print("gathered", distributed.gather(os.environ.get("JAX_PROCESS_ID")))
distributed.leave(0, failed=False)
