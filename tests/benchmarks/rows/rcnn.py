"""RCNN-96 with T = 3: training step and inference, against PyTorch on the same machine."""

import dataclasses
import itertools

from row import BEFORE, Row, Side, Target, before

USER = "torch, as a user writes it"
EAGER = "torch, best eager"
COMPILED = "torch.compile"
COMPILED_NCHW = "torch.compile, NCHW"
FROZEN = "torch.compile, NCHW, frozen"
ONNX = "ONNX Runtime"
QUICK = {"batch": 4, "size": 8, "features": 8}

# Float32 rounding moves the largest of a few pooling windows and the sign of what a few relus read,
# and batch normalisation hands the difference to every image. From the gradient in float64, in
# which all forms agree to 3e-8, ours is up to 0.005 away, torch's forms 0.001 to 0.024. With mean
# pools and a smooth activation it is 6e-6 (direct convolutions 3e-6).
_TOLERANCE = {"lrn": None, "batch": 0.05}

_FORMS = {
    USER: {"best": False, "channels_last": False, "compiled": False},
    EAGER: {"best": True, "channels_last": True, "compiled": False},
    COMPILED: {"best": True, "channels_last": True, "compiled": True},
    COMPILED_NCHW: {"best": True, "channels_last": False, "compiled": True},
    FROZEN: {"best": True, "channels_last": False, "compiled": True, "freeze": True},
}


def ours(function: str, name: str = "rcnn_jax", **arguments) -> Side:
    """A side of ours, with the compiler flags of the config."""
    return Side(
        name, f"jax_rcnn:{function}", arguments, ours=True, imports=("jax", "flax", "optax"),
        config="rcnn_cifar10",
    )  # fmt: skip


def theirs(function: str, form: str, **arguments) -> Side:
    """A side of PyTorch, in one of the forms above."""
    imports = ("torch", "torch._dynamo") if _FORMS[form]["compiled"] else ("torch",)
    given = {**_FORMS[form], **arguments}
    return Side(form, f"torch_rcnn:{function}", given, imports=imports)


def _training(norm: str, batch: int, size: int) -> Row:
    given = {"norm": norm, "batch": batch, "size": size}
    best = (EAGER, COMPILED, COMPILED_NCHW)
    parts = ()
    if (norm, batch) == ("lrn", 128):
        parts = (ours("training_step", "rcnn_jax, 4 parts", accumulate=4, **given),)
    return Row(
        name=f"rcnn_train_{norm}_{batch}_{size}",
        about=f"training step of RCNN-96, T = 3, {norm} norm, {batch} images of {size} pixels",
        sides=(
            ours("training_step", **given),
            *parts,
            before(ours("training_step", **given)),
            *(theirs("training_step", form, **given) for form in (USER, *best)),
        ),
        targets=(
            Target((USER,), must=0.45, aim=0.33),
            Target(best, must=0.85, aim=0.7),
            Target((BEFORE,), *((0.7, 0.55) if norm == "batch" else (0.75, 0.6))),
        ),
        quick=QUICK,
        tolerance=_TOLERANCE[norm],
        usual=(norm, size) in (("lrn", 32), ("batch", 24)),
    )


def _inference(norm: str, batch: int, size: int) -> Row:
    given = {"norm": norm, "batch": batch, "size": size}
    best = (EAGER, COMPILED, COMPILED_NCHW, FROZEN)
    onnx = Side(ONNX, "onnx_rcnn:inference", given, imports=("torch", "onnxruntime", "onnxscript"))
    return Row(
        name=f"rcnn_inference_{norm}_{batch}_{size}",
        about=f"logits of RCNN-96, T = 3, {norm} norm, {batch} images of {size} pixels",
        sides=(
            ours("inference", **given),
            before(ours("inference", **given)),
            *(theirs("inference", form, **given) for form in (USER, *best)),
            onnx,
        ),
        targets=(Target((*best, ONNX), must=0.8, aim=0.6),),
        quick=QUICK,
        usual=(norm, size) == ("lrn", 32),
    )


def _winograd(batch: int) -> Row:
    given = {"norm": "batch", "batch": batch, "size": 24}
    direct = ours("training_step", "rcnn_jax, direct", direct=True, **given)
    return Row(
        name=f"rcnn_winograd_{batch}",
        about=f"training step of RCNN-96, batch norm, {batch} images of 24 pixels, by minimal "
        "filtering and with direct convolutions",
        sides=(
            ours("training_step", **given),
            dataclasses.replace(direct, ours=False),  # what ratios divide by
        ),
        quick=QUICK,
        tolerance=_TOLERANCE["batch"],
    )


ROWS = [
    make(norm, batch, size)
    for make in (_training, _inference)
    for norm, batch, size in itertools.product(("lrn", "batch"), (128, 32), (32, 24))
] + [_winograd(batch) for batch in (128, 32)]
