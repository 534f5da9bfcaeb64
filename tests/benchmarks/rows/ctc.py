"""Connectionist temporal classification: the loss, and beam search."""

from row import Row, Side, Target

_SIZES = {"batch": 32, "time": 200, "classes": 80, "labels": 40}
_QUICK = {"batch": 2, "time": 12, "classes": 6, "labels": 4}
_WIDE = {**_SIZES, "width": 16}
TORCH, OPTAX, RUST = "torch", "optax", "fast-ctc-decode"

ROWS = [
    Row(
        name="ctc_loss",
        about="CTC loss and its gradient, 32 x 200 frames, 80 classes, 40 labels",
        sides=(
            Side("rcnn_jax", "jax_ctc:loss", _SIZES, ours=True, imports=("jax",)),
            Side(TORCH, "torch_ctc:loss", _SIZES, imports=("torch",)),
            Side(OPTAX, "jax_ctc:optax_loss", _SIZES, imports=("jax", "optax")),
        ),
        targets=(Target((TORCH,), must=0.6, aim=0.45),),
        quick=_QUICK,
    ),
    Row(
        name="ctc_beam",
        about="CTC beam search, 16 prefixes, 32 x 200 frames, 80 classes",
        sides=(
            Side("rcnn_jax", "jax_ctc:beam", _WIDE, ours=True, imports=("jax",)),
            Side(RUST, "native_ctc:rust", _WIDE, imports=("numpy",)),
        ),
        quick=_QUICK,
    ),
]
