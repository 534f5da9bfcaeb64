"""The input pipeline alone, in images a second."""

from row import Row, Side

_AUGMENT = "to_float(255)|subtract_pixel_mean|random_crop(24)|flip"


def _side(residency: str, augment: str) -> Side:
    given = {"residency": residency, "augment": augment, "batch": 128, "number": 100}
    name = f"{residency}, augmented" if augment else residency
    return Side(name, "jax_pipeline:batches", given, ours=True, imports=("jax",))


ROWS = [
    Row(
        name="pipeline",
        about="batches of 128 images of 32 x 32 x 3 bytes, alone and with crops of 24 and flips",
        sides=tuple(
            _side(residency, augment)
            for augment in ("", _AUGMENT)
            for residency in ("memory", "stream", "device")
        ),
        quick={"batch": 4, "number": 3},
        compares="rate",
    )
]
