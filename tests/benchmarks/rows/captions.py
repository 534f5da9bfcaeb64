"""Captioning with the multimodal recurrent network: a training step, and beam search."""

from row import Row, Side, Target

_NET = {"classes": 8791, "features": 512, "hidden": 512, "size": 4096, "steps": 20}
_TRAIN = {**_NET, "batch": 100}
_SEARCH = {**_NET, "batch": 16, "width": 7}
_QUICK = {"classes": 30, "features": 6, "hidden": 5, "size": 8, "steps": 4, "batch": 2}
_BOUND = (Target(("torch",), must=1.0, aim=0.7),)


def _sides(function: str, arguments: dict) -> tuple[Side, ...]:
    return (
        Side("rcnn_jax", f"jax_captions:{function}", arguments, ours=True, imports=("jax", "flax")),
        Side("torch", f"torch_captions:{function}", arguments, imports=("torch",)),
    )


ROWS = [
    Row(
        name="caption_training",
        about="100 sentences of 20 words, 8,791 words, 512 units: forward, backward, RMSprop",
        sides=_sides("training", _TRAIN),
        targets=_BOUND,
        quick=_QUICK,
    ),
    Row(
        name="caption_search",
        about="beam of 7, 16 pictures, 20 words at most, 8,791 words, 512 units",
        sides=_sides("search", _SEARCH),
        targets=_BOUND,
        quick=_QUICK,
    ),
]
