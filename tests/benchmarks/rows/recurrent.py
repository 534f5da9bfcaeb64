"""Recurrent layers, 512 to 512 units, against PyTorch's fused ones."""

from row import Row, Side, Target, before

TORCH, TIME_FIRST = "torch.nn", "torch.nn, time first"
_QUICK = {"batch": 2, "features": 8}


def _sides(**arguments) -> tuple[Side, ...]:
    theirs = "torch_recurrent_layer:layer"
    ours = Side("rcnn_jax", "jax_recurrent:layer", arguments, ours=True, imports=("jax", "flax"))
    return (
        ours,
        Side(TORCH, theirs, arguments, imports=("torch",)),
        Side(TIME_FIRST, theirs, {**arguments, "time_first": True}, imports=("torch",)),
        before(ours),
    )


def _row(name: str, cell: str, bidirectional: bool, backward: bool) -> Row:
    given = {"cell": cell, "bidirectional": bidirectional, "backward": backward}
    what = "forward and backward" if backward else "forward"
    torch = (TORCH, TIME_FIRST)
    if not backward:
        bounds = Target(torch, must=0.95, aim=0.85)
    elif cell == "gru":
        bounds = Target(torch, must=0.95, aim=0.8)
    else:
        bounds = Target(torch, must=1.05, aim=0.9)
    return Row(
        name=f"recurrent_{name}" + ("" if backward else "_forward"),
        about=f"{'bidirectional ' * bidirectional}{cell.upper()}, 64 x 50 steps, 512, {what}",
        sides=_sides(batch=64, time=50, features=512, **given),
        targets=(bounds,),
        quick={**_QUICK, "time": 5},
    )


ROWS = [
    _row(name, cell, bidirectional, backward)
    for name, cell, bidirectional in (
        ("lstm", "lstm", False),
        ("gru", "gru", False),
        ("bidirectional", "lstm", True),
    )
    for backward in (True, False)
] + [
    Row(
        name="recurrent_length",
        about="LSTM, 64 sequences, 512, forward and backward, T = 50 to 1000: time and memory",
        sides=_sides(cell="lstm", bidirectional=False, backward=True, batch=64, features=512)[:2],
        points=tuple({"time": time} for time in (50, 100, 200, 500, 1000)),
        quick=_QUICK,
        usual=False,
    )
]
