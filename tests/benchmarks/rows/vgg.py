"""VGG16, as it describes pictures to a recurrent network."""

from row import Row, Side, Target, before

TORCH, CHANNELS_LAST = "torch", "torch, channels last"


def _row(batch: int) -> Row:
    arguments = {"batch": batch, "size": 224, "width": 64}
    theirs = "torch_vgg:inference"
    ours = Side("rcnn_jax", "jax_vgg:inference", arguments, ours=True, imports=("jax", "flax"))
    return Row(
        name=f"vgg16_inference_{batch}",
        about=f"VGG16, {batch} images of 224 px, forward",
        sides=(
            ours,
            before(ours),
            Side(TORCH, theirs, arguments, imports=("torch",)),
            Side(CHANNELS_LAST, theirs, {**arguments, "channels_last": True}, imports=("torch",)),
        ),
        targets=(Target((TORCH, CHANNELS_LAST), *((0.75, 0.6) if batch == 4 else (1.05, 0.9))),),
        quick={"batch": 2, "size": 32, "width": 2},
    )


ROWS = [_row(batch) for batch in (1, 4)]
