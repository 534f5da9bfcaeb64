"""RCNN-96 with T = 3 on a GPU, beside PyTorch and a product of matrices.

    python tests/benchmarks/run.py 'gpu_*' --platform=gpu

Those that say most come first: batch normalization per step, bfloat16, crops of 24 pixels and
batches of 512, as `launch/gpu.py` trains, then what differs from that in one thing, then in two.
float32 is what each library makes of it unless told otherwise, which on such cards is TF32 in
convolutions; what was set is in the results.

What takes torch longest is compiling. Rows that differ from the first in two things or more leave
that out, and CUDA graphs are tried where least arithmetic hides the starting of kernels: in the
first row, for its logits, and with batches of 128.
"""

import itertools
from collections.abc import Mapping
from typing import Any

from row import Row, Side
from rows import rcnn

GRAPHS = "torch.compile, CUDA graphs"

_FORMS = {
    rcnn.USER: {"best": False, "channels_last": False, "compiled": False},
    rcnn.EAGER: {"best": True, "channels_last": True, "compiled": False},
    rcnn.COMPILED: {"best": True, "channels_last": True, "compiled": True},
    GRAPHS: {"best": True, "channels_last": True, "compiled": "reduce-overhead"},
}
# What one row differs in from another, the preferred value first.
_CHOICES = {
    "work": ("train", "inference"),
    "norm": ("batch", "lrn"),
    "precision": ("bfloat16", "float32"),
    "batch": (512, 128),
    "size": (24, 32),
}
_FUNCTIONS = {"train": "training_step", "inference": "inference"}
_ABOUT = {"train": "training step", "inference": "logits"}
# Rounding flips arg-maxima, and gradients with them: of 16 images on a CPU they were apart by a
# relative 0.43 in bfloat16 and by 5e-4 in float32, and TF32 lies between. Unrelated gradients are
# apart by 1.4. That the sides are one function is what the rows of a CPU show closely.
_TOLERANCE = {"bfloat16": 0.7, "float32": 0.35}


def _differences(values: tuple) -> int:
    """In how many things a row differs from the first one."""
    preferred = (choice[0] for choice in _CHOICES.values())
    return sum(value != other for value, other in zip(values, preferred, strict=True))


def _row(work: str, norm: str, precision: str, batch: int, size: int) -> Row:
    given = {"norm": norm, "precision": precision, "batch": batch, "size": size}
    forms = [rcnn.USER, rcnn.EAGER]
    if _differences((work, norm, precision, batch, size)) <= 1:
        forms.append(rcnn.COMPILED)
        if (norm, precision, size) == ("batch", "bfloat16", 24):
            forms.append(GRAPHS)
    return Row(
        name=f"gpu_rcnn_{work}_{norm}_{batch}_{size}_{precision}",
        about=f"{_ABOUT[work]} of RCNN-96, T = 3, {norm} norm, {batch} images of {size} pixels, "
        f"{precision}",
        sides=(
            Side(
                "rcnn_jax", f"jax_rcnn:{_FUNCTIONS[work]}", given, ours=True,
                imports=("jax", "flax", "optax"),
            ),
            *(_theirs(form, work, given) for form in forms),
        ),
        quick=rcnn.QUICK,
        usual=False,
        tolerance=_TOLERANCE[precision],
    )  # fmt: skip


def _theirs(form: str, work: str, given: Mapping[str, Any]) -> Side:
    imports = ("torch", "torch._dynamo") if _FORMS[form]["compiled"] else ("torch",)
    return Side(form, f"torch_rcnn:{_FUNCTIONS[work]}", {**_FORMS[form], **given}, imports=imports)


def _product(library: str, function: str) -> Side:
    given = {"order": 8192, "dtype": "bfloat16"}
    return Side(f"{library}, product", f"matrix_product:{function}", given, imports=(library,))


ROWS = [
    Row(
        name="gpu_matrix_product_bfloat16",
        about="product of two matrices of 8192 x 8192 in bfloat16: the rate of the card itself",
        sides=(_product("jax", "by_jax"), _product("torch", "by_torch")),
        quick={"order": 64},
        usual=False,
        compares="rate",
        tolerance=0.01,
    ),
    *(_row(*values) for values in sorted(itertools.product(*_CHOICES.values()), key=_differences)),
]
