"""Has all processes agree on many things, and says what came of it."""

from jax._src import distributed as runtime

from rcnn_jax.errors import UsageError, UserError
from rcnn_jax.experiment import joining
from rcnn_jax.training.parallel import distributed

joining.join()
me = runtime.global_state.process_id
for number in range(100):
    assert distributed.first(lambda number=number: [number, me]) == [number, 0]
    everyone = distributed.gather([me, number])
print("gathered", everyone, "in", me)


def mistake():
    raise UsageError("what the first cannot do")


for work in (mistake, lambda: {}["x"]):
    try:
        distributed.first(work)
    except (UserError, KeyError) as error:
        print("first", type(error).__name__, error)
distributed.gather(None)
if me == 0:
    print("left", len(runtime.global_state.client.key_value_dir_get("rcnn_jax/")))
distributed.leave(0, failed=False)
